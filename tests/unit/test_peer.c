/* Peers with the key: links over connections that either end dials. */
#include <sys/eventfd.h>

#include "tests/unit/peerrig.h"

static void both_may_dial_and_frames_flow_both_ways(void **state) {
    uint8_t *body = malloc(FRAME_BODY_MAX);
    for (size_t i = 0; i < FRAME_BODY_MAX; i++)
        body[i] = (uint8_t)(i * 7 + i / 4099);
    for (int i = 0; i < 2; i++) {
        struct end listener, dialler;
        listen_as(&listener, i ? TLS_PPFS : TLS_NODE, KEY_A, "127.0.0.1:0");
        dial_as(&dialler, i ? TLS_NODE : TLS_PPFS, KEY_A, peer_listener_address(listener.listener));
        turn_until(dial_over, &dialler);
        turn_until(has_accepted, &listener);
        assert_int_equal(dialler.dialled, 1);
        assert_int_equal(strncmp(listener.address, "127.0.0.1:", 10), 0);
        link_up(&dialler);
        assert_int_equal(link_send(dialler.link, 1, 2, "early", 5), 0); /* before the other end has a link */
        struct expected one = {&listener, 1};
        link_up(&listener);
        turn_until(has_frames, &one);
        listener.frames = listener.bytes = listener.sum = 0;
        link_destroy(listener.link);
        listener.link = NULL;
        turn_until(has_closed, &dialler);
        assert_int_equal(dialler.closed, -1); /* end of file, in order */
        end_free(&dialler);
        end_free(&listener);

        listen_as(&listener, i ? TLS_PPFS : TLS_NODE, KEY_A, "127.0.0.1:0");
        dial_as(&dialler, i ? TLS_NODE : TLS_PPFS, KEY_A, peer_listener_address(listener.listener));
        turn_until(dial_over, &dialler);
        turn_until(has_accepted, &listener);
        link_up(&dialler);
        link_up(&listener);
        exchange(&dialler, &listener, body);
        exchange(&listener, &dialler, body);
        end_free(&dialler);
        end_free(&listener);
    }
    free(body);
}

static void both_ends_learn_the_key_and_the_binding_of_a_connection(void **state) {
    struct tls_proof seen[2][2];
    struct tls_key own;
    uint8_t secret[KEY_SECRET] = {7};
    for (int i = 0; i < 2; i++) {
        struct end listener, dialler;
        listen_as(&listener, TLS_PPFS, KEY_A, "127.0.0.1:0");
        dial_as(&dialler, TLS_NODE, KEY_A, peer_listener_address(listener.listener));
        assert_int_equal(node_key_tls(secret, &own), 0);
        if (i) { /* a key of its own beside the one for all */
            assert_int_equal(tls_add_key(listener.tls, &own), 0);
            assert_int_equal(tls_add_key(listener.tls, &own), -EEXIST);
            assert_int_equal(tls_add_key(dialler.tls, &own), 0);
        }
        turn_until(dial_over, &dialler);
        turn_until(has_accepted, &listener);
        assert_int_equal(dialler.dialled, 1);
        tls_conn_proof(dialler.conn, &seen[i][0]);
        tls_conn_proof(listener.conn, &seen[i][1]);
        assert_memory_equal(&seen[i][0], &seen[i][1], sizeof(seen[i][0]));
        end_free(&dialler);
        if (i) {
            tls_drop_key(listener.tls, own.id);
            listener.accepted = 0;
            dial_as(&dialler, TLS_NODE, KEY_A, peer_listener_address(listener.listener));
            assert_int_equal(tls_add_key(dialler.tls, &own), 0);
            turn_until(dial_over, &dialler);
            turn_until(has_refused, &listener);
            assert_int_equal(dialler.failed, 1);
            assert_non_null(strstr(dialler.sentence, "revoked"));
            end_free(&dialler);
        }
        end_free(&listener);
    }
    assert_memory_not_equal(seen[0][0].key, seen[1][0].key, TLS_KEY_ID);
    assert_memory_equal(seen[1][0].key, own.id, TLS_KEY_ID);
    assert_memory_not_equal(seen[0][0].binding, seen[1][0].binding, TLS_BINDING);
}

static void a_held_link_reads_nothing_and_goes_on_with_what_was_read_ahead(void **state) {
    struct end listener, dialler;
    listen_as(&listener, TLS_NODE, KEY_A, "127.0.0.1:0");
    dial_as(&dialler, TLS_PPFS, KEY_A, peer_listener_address(listener.listener));
    turn_until(dial_over, &dialler);
    turn_until(has_accepted, &listener);
    link_up(&dialler);
    link_up(&listener);
    link_hold(listener.link, true);
    struct expected x = {&listener, 100};
    for (int i = 0; i < 100; i++)
        link_send(dialler.link, 1, 0, "x", 1);
    for (int i = 0; i < 10; i++)
        event_base_loop(base, EVLOOP_NONBLOCK);
    assert_int_equal(listener.frames, 0);
    link_hold(listener.link, false);
    turn_until(has_frames, &x);
    assert_int_equal(listener.frames, 100);
    end_free(&dialler);
    end_free(&listener);
}

/* A peer that always has more to say: each frame that comes brings the next one along. */
static struct link *talker;
static int said;
static uint64_t in_a_turn, most_in_a_turn;

static void on_talk(void *arg, const struct frame *f) {
    static const uint8_t body[64 * 1024];
    struct end *e = arg;
    e->frames++;
    if (++in_a_turn > most_in_a_turn)
        most_in_a_turn = in_a_turn;
    if (said++ < 100)
        assert_int_equal(link_send(talker, 1, 0, body, sizeof(body)), 0);
}

static void on_turn(evutil_socket_t fd, short what, void *arg) {
    in_a_turn = 0;
}

static bool all_said(void *arg) {
    return said > 100;
}

static void who_sends_without_end_leaves_the_others_their_turn(void **state) {
    static const struct link_events talk = {.frame = on_talk, .closed = on_closed};
    struct end listener, dialler;
    listen_as(&listener, TLS_NODE, KEY_A, "127.0.0.1:0");
    dial_as(&dialler, TLS_PPFS, KEY_A, peer_listener_address(listener.listener));
    turn_until(dial_over, &dialler);
    turn_until(has_accepted, &listener);
    link_up(&dialler);
    link_up(&listener);
    link_watch(listener.link, &talk, &listener);
    talker = dialler.link;
    int ready = eventfd(0, EFD_CLOEXEC); /* another whose turn it is each time */
    struct event *turns = event_new(base, ready, EV_WRITE | EV_PERSIST, on_turn, NULL);
    event_add(turns, NULL);
    on_talk(&listener, NULL);
    turn_until(all_said, NULL);
    event_free(turns);
    close(ready);
    assert_in_range(most_in_a_turn, 1, 8); /* half a megabyte */
    end_free(&dialler);
    end_free(&listener);
}

static void names_are_looked_up_and_a_dial_can_be_dropped(void **state) {
    struct end listener, dialler;
    char address[64];
    listen_as(&listener, TLS_NODE, KEY_A, "localhost:0");
    snprintf(address, sizeof(address), "localhost:%s", strrchr(peer_listener_address(listener.listener), ':') + 1);
    dial_as(&dialler, TLS_PPFS, KEY_A, address);
    turn_until(dial_over, &dialler);
    assert_int_equal(dialler.dialled, 1);
    end_free(&dialler);
    dial_as(&dialler, TLS_PPFS, KEY_A, address);
    end_free(&dialler);
    dial_as(&dialler, TLS_PPFS, KEY_A, address);
    event_base_loop(base, EVLOOP_NONBLOCK); /* the thread has been started */
    end_free(&dialler);
    dial_as(&dialler, TLS_PPFS, KEY_A, "no-such-host.invalid:1");
    turn_until(dial_over, &dialler);
    assert_int_equal(dialler.failed, 1);
    assert_non_null(strstr(dialler.sentence, "no-such-host.invalid:1 cannot be looked up: "));
    end_free(&dialler);
    end_free(&listener);
}

static void addresses_are_checked(void **state) {
    const char *good[] = {"a:1", "node-1.example:65535", "[::1]:60000", "[fe80::1%eth0]:1", "10.0.0.1:1"};
    const char *bad[] = {"",      ":",      "a",     "a:",    ":1",    "a:b",   "a:1x", "a:-1", "a:65536", "a:100000",
                         "[::1]", "[::1:1", "::1:1", "a b:1", "a/b:1", "a\n:1", "[]:1", "[:1",  "]:1",     "a:1:2"};
    for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++)
        assert_int_equal(peer_check_address(good[i], true, why, sizeof(why)), 0);
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
        if (peer_check_address(bad[i], true, why, sizeof(why)) != -EINVAL)
            fail_msg("%s was taken for an address", bad[i]);
    assert_int_equal(peer_check_address("a:0", true, why, sizeof(why)), -EINVAL);
    assert_int_equal(peer_check_address("a:0", false, why, sizeof(why)), 0);
    struct tls *t = make_tls(TLS_PPFS, KEY_A);
    struct peer_listener *l;
    assert_int_equal(peer_listen(&l, base, t, "127.0.0.1", &listener_events, NULL, why, sizeof(why)), -EINVAL);
    assert_int_equal(peer_listen(&l, base, t, "192.0.2.1:1", &listener_events, NULL, why, sizeof(why)), -EADDRNOTAVAIL);
    assert_non_null(strstr(why, "192.0.2.1:1"));
    tls_destroy(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_ends_learn_the_key_and_the_binding_of_a_connection),
        cmocka_unit_test(both_may_dial_and_frames_flow_both_ways),
        cmocka_unit_test(a_held_link_reads_nothing_and_goes_on_with_what_was_read_ahead),
        cmocka_unit_test(who_sends_without_end_leaves_the_others_their_turn),
        cmocka_unit_test(names_are_looked_up_and_a_dial_can_be_dropped),
        cmocka_unit_test(addresses_are_checked),
    };
    return cmocka_run_group_tests(tests, rig_setup, rig_teardown);
}
