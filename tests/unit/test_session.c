/* Sessions, and their promises over links that are cut, frozen and tampered with. */
#include "net/clock.h"
#include "net/states.h"
#include "tests/unit/sessionrig.h"

/* --- what they promise ------------------------------------------------------------------------------------------- */
static void a_session_begins_whoever_dials(void **state) {
    for (int i = 0; i < 2; i++) {
        rig_start(i, 0, 0);
        turn_until(both_up, NULL);
        assert_int_equal(ppfs.fresh + node.fresh, 2);
        assert_memory_equal(session_peer_shown(ppfs.session), hub_shown(node.hub), SESSION_ID);
        assert_memory_equal(session_peer_shown(node.session), hub_shown(ppfs.hub), SESSION_ID);
        send_numbered(&ppfs, 3000);
        send_numbered(&node, 3000);
        turn_until(all_there, NULL);
        turn_until(rtt_known, NULL);
        assert_false(ppfs.wrong || node.wrong);
        assert_int_equal(ppfs.down + node.down + ppfs.lost + node.lost, 0);
        assert_true(session_quiet(ppfs.session) < 5000);
        assert_int_equal(session_send(ppfs.session, SESSION_KIND_MAX + 1, 0, NULL, 0), -EINVAL);
        rig_stop();
    }
}

static void frames_arrive_once_and_in_order_over_many_cuts(void **state) {
    unsigned seed = (unsigned)time(NULL);
    printf("# seed %u\n", seed);
    srandom(seed);
    rig_start(false, 5000, 60000);
    turn_until(both_up, NULL);
    for (int cut = 0; cut < 150; cut++) {
        send_numbered(&ppfs, (unsigned)random() % 400);
        send_numbered(&node, (unsigned)random() % 400);
        for (long turns = random() % 40; turns; turns--)
            event_base_loop(base, EVLOOP_NONBLOCK);
        relay_cut();
        for (long turns = random() % 10; turns; turns--)
            event_base_loop(base, EVLOOP_ONCE);
        if (cut % 10 == 9)
            turn_until(both_up, NULL);
    }
    turn_until(all_there, NULL);
    assert_false(ppfs.wrong || node.wrong);
    assert_int_equal(ppfs.lost + node.lost, 0);
    assert_true(ppfs.down >= 15 && ppfs.resumed >= 15);
    assert_int_equal(ppfs.fresh, 1);
    rig_stop();
}

static bool a_while_later(void *arg) {
    return clock_ms() > *(int64_t *)arg;
}

/* The node asks every second heartbeat, and the ppfs only answers. */
static void a_session_at_rest_says_little(void **state) {
    enum { BEAT_MS = 20, BEATS = 60, EXCHANGE = 2 * (FRAME_HEADER + 8) };
    rig_start(true, 5 * BEAT_MS, 60000);
    turn_until(both_up, NULL);
    turn_until(rtt_known, NULL);
    uint64_t before = session_bytes(ppfs.session) + session_bytes(node.session);
    int64_t from = clock_ms(), until = from + BEATS * BEAT_MS;
    turn_until(a_while_later, &until);
    uint64_t asked = (session_bytes(ppfs.session) + session_bytes(node.session) - before) / EXCHANGE;
    uint64_t beats = (uint64_t)(clock_ms() - from) / BEAT_MS;
    printf("# %llu questions in %llu heartbeats\n", (unsigned long long)asked, (unsigned long long)beats);
    assert_true(asked && asked < beats * 3 / 4);
    assert_int_equal(ppfs.down + node.down, 0);
    rig_stop();
}

static void a_silent_link_is_closed_and_the_session_goes_on(void **state) {
    for (int one_way = 0; one_way < 2; one_way++) {
        rig_start(one_way, 300, 60000);
        turn_until(both_up, NULL);
        relay_freeze(one_way);
        send_numbered(&ppfs, 100);
        send_numbered(&node, 100);
        turn_until(one_down, NULL);
        turn_until(all_there, NULL);
        assert_int_equal(ppfs.lost + node.lost, 0);
        assert_false(ppfs.wrong || node.wrong);
        assert_int_equal(ppfs.fresh, 1);
        rig_stop();
    }
}

static bool one_noticed(void *arg) {
    return strstr(ppfs.sentence, "changed on its way") || strstr(node.sentence, "changed on its way");
}

static void what_is_changed_on_its_way_costs_the_link_alone(void **state) {
    rig_start(false, 5000, 60000);
    for (int i = 0; i < 10; i++) {
        turn_until(all_there, NULL);
        ppfs.sentence[0] = node.sentence[0] = 0;
        relay.tampers = true;
        send_numbered(&ppfs, 30);
        send_numbered(&node, 30);
        turn_until(one_noticed, NULL);
    }
    turn_until(all_there, NULL);
    assert_false(ppfs.wrong || node.wrong);
    assert_int_equal(ppfs.lost + node.lost, 0);
    rig_stop();
}

static unsigned began, unlinked, lost; /* transitions in the trace */

static void on_trace(const char *sentence) {
    assert_non_null(strstr(sentence, "trace: session "));
    began += strstr(sentence, ": unlinked -> linked") != NULL;
    unlinked += strstr(sentence, ": linked -> unlinked") != NULL;
    lost += strstr(sentence, " -> lost") != NULL;
}

static void a_session_that_hears_nothing_until_the_time_out_is_lost(void **state) {
    static const atomic_bool traced = true;
    states_trace(&traced, on_trace);
    rig_start(false, 300, 300);
    turn_until(both_up, NULL);
    send_numbered(&ppfs, 10);
    relay_freeze(false);
    evconnlistener_disable(relay.listener);
    turn_until(ppfs_lost, NULL);
    turn_until(node_lost, NULL);
    states_trace(NULL, NULL);
    assert_true(began >= 2 && lost == 2 && unlinked <= began);
    assert_non_null(strstr(ppfs.sentence, "0.3 s"));
    evconnlistener_enable(relay.listener);
    turn_until(both_anew, NULL); /* and nothing of the old one comes in the new one */
    send_numbered(&ppfs, 10);
    send_numbered(&node, 10);
    turn_until(all_there, NULL);
    assert_false(ppfs.wrong || node.wrong);
    rig_stop();
}

static void who_lost_it_makes_the_other_lose_it(void **state) {
    rig_start(false, 300, 60000);
    turn_until(both_up, NULL);
    relay_freeze(false); /* so that the goodbye does not arrive */
    send_numbered(&node, 10);
    session_destroy(ppfs.session);
    ppfs.session = NULL;
    redial(&ppfs);
    turn_until(node_lost, NULL);
    assert_non_null(strstr(node.sentence, "no longer knows it"));
    turn_until(both_anew, NULL);
    send_numbered(&ppfs, 10);
    turn_until(all_there, NULL);
    assert_false(ppfs.wrong || node.wrong);
    rig_stop();
}

static void a_goodbye_is_heard_at_once(void **state) {
    rig_start(false, 60000, 60000);
    turn_until(both_up, NULL);
    ppfs.dials = NULL;
    session_destroy(ppfs.session);
    ppfs.session = NULL;
    turn_until(node_lost, NULL);
    assert_non_null(strstr(node.sentence, "ended it"));
    rig_stop();
}

static void a_process_that_begins_again_is_another(void **state) {
    rig_start(true, 300, 600);
    turn_until(both_up, NULL);
    struct session *before = ppfs.session;
    uint8_t peer[SESSION_ID];
    memcpy(peer, session_peer_shown(before), SESSION_ID);
    /* The node dies without a word: nothing of it gets through any more. */
    relay_freeze(false);
    const char *address = node.dials;
    side_stop(&node);
    ppfs.session = NULL; /* the new one will be the session of the rig */
    session_watch(before, &(struct session_events){.frame = on_frame}, &ppfs);
    side_start(&node, TLS_NODE, 300, 600);
    node.dials = address;
    redial(&node);
    turn_until(both_anew, NULL);
    assert_memory_not_equal(session_peer_shown(ppfs.session), peer, SESSION_ID);
    send_numbered(&ppfs, 10);
    turn_until(all_there, NULL);
    assert_false(ppfs.wrong || node.wrong);
    session_destroy(before);
    rig_stop();
}

static void our_own_stop_is_not_the_others_silence(void **state) {
    rig_start(false, 300, 300);
    turn_until(both_up, NULL);
    for (int i = 0; i < 3; i++) {
        struct timespec stop = {1, 0}; /* more than three leases in which nobody looks */
        nanosleep(&stop, NULL);
        send_numbered(&ppfs, 10);
        send_numbered(&node, 10);
        turn_until(all_there, NULL);
    }
    assert_int_equal(ppfs.lost + node.lost + ppfs.down + node.down, 0);
    rig_stop();
}

/* How much fills a session grows with the round trip, which may just have been measured. */
static bool node_waits(void *arg) {
    while (!session_full(ppfs.session))
        send_numbered(&ppfs, 1000);
    for (int i = 0; i < 20; i++)
        event_base_loop(base, EVLOOP_NONBLOCK);
    return session_full(ppfs.session);
}

static bool has_room(void *arg) {
    return ppfs.rooms;
}

static void who_sends_hears_when_there_is_room_again(void **state) {
    rig_start(false, 300, 300);
    turn_until(both_up, NULL);
    session_hold(node.session, true);
    turn_until(node_waits, NULL);
    ppfs.rooms = 0;
    double until = now_s() + 1; /* three silences: who holds is not silent, and neither is who is held */
    while (now_s() < until)
        event_base_loop(base, EVLOOP_ONCE);
    assert_int_equal(ppfs.rooms, 0);
    assert_int_equal(ppfs.lost + node.lost + ppfs.down + node.down, 0);
    session_hold(node.session, false);
    turn_until(has_room, NULL);
    turn_until(all_there, NULL);
    assert_false(node.wrong);
    assert_int_equal(ppfs.rooms, 1);
    rig_stop();
}

/* The socket of ppfs, which has dialled the relay. */
static int ppfs_socket(void) {
    char port[8];
    for (int fd = 3; fd < 1024; fd++) {
        struct sockaddr_in to;
        socklen_t size = sizeof(to);
        if (getpeername(fd, (struct sockaddr *)&to, &size) || to.sin_family != AF_INET)
            continue;
        snprintf(port, sizeof(port), ":%d", ntohs(to.sin_port));
        if (strcmp(strchr(relay.address, ':'), port) == 0)
            return fd;
    }
    fail_msg("ppfs has no connection to the relay");
    return -1;
}

static void socket_takes(int bytes) {
    assert_int_equal(setsockopt(ppfs_socket(), SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes)), 0);
}

static void on_just_before_a_heartbeat(evutil_socket_t fd, short what, void *arg) {
    static uint8_t lost[64 * 1024];
    socket_takes(1 << 20);
    while (read(bufferevent_getfd(relay.ends[0][0]), lost, sizeof(lost)) > 0)
        ;
}

static bool has_drained(void *arg) {
    return ppfs.drained;
}

/* A heartbeat goes when the loop has not seen yet that the socket takes more. */
static void who_sends_hears_that_a_heartbeat_took_all_along(void **state) {
    static const uint8_t body[16 * 1024];
    struct event *before = evtimer_new(base, on_just_before_a_heartbeat, NULL);
    struct timespec late = {SESSION_BEAT_MS / 1000 + 1, 0};

    rig_start(false, 60000, 60000);
    turn_until(both_up, NULL);
    relay_freeze(false);
    socket_takes(1);
    while (!session_unsent(ppfs.session)) {
        assert_int_equal(session_send(ppfs.session, 1, 0, body, sizeof(body)), 0);
        event_base_loop(base, EVLOOP_NONBLOCK);
    }
    socket_takes(24 * 1024); /* what its link has for it is less than a window now */
    for (int i = 0; i < 20; i++)
        event_base_loop(base, EVLOOP_NONBLOCK);
    assert_int_equal(session_unsent(ppfs.session), FRAME_HEADER + sizeof(body));
    ppfs.drained = 0;
    event_add(before, &(struct timeval){0});
    nanosleep(&late, NULL);
    turn_until(has_drained, NULL);
    assert_int_equal(session_unsent(ppfs.session), 0);
    event_free(before);
    rig_stop();
}

static void a_newer_link_takes_over_from_one_that_hangs(void **state) {
    rig_start(true, 60000, 60000);
    turn_until(both_up, NULL);
    relay_freeze(false);
    send_numbered(&ppfs, 2000);
    send_numbered(&node, 2000);
    for (int i = 0; i < 20; i++)
        event_base_loop(base, EVLOOP_NONBLOCK);
    redial(&node);
    turn_until(all_there, NULL);
    assert_false(ppfs.wrong || node.wrong);
    assert_int_equal(ppfs.fresh + node.fresh, 2);
    assert_int_equal(ppfs.lost + node.lost, 0);
    rig_stop();
}

/* Both dial each other, several times at once: they agree on one session, and it works. */
static struct extra {
    struct side *side;
    struct peer_dial *dial;
} extras[6];

static void on_extra(void *arg, struct tls_conn *conn, const char *sentence) {
    struct extra *e = arg;
    peer_dial_destroy(e->dial);
    e->dial = NULL;
    if (!conn)
        fail_msg("%s", sentence);
    assert_int_equal(hub_greet(e->side->hub, conn, "extra", e->side), 0);
}

static bool works(void *arg) {
    for (int i = 0; i < 6; i++)
        if (extras[i].dial)
            return false;
    return all_there(NULL) && ppfs.sent == 10 && node.sent == 10;
}

static bool up_once_more(void *arg) {
    if (both_up(NULL) && ppfs.sent < 10)
        send_numbered(&ppfs, 10);
    if (both_up(NULL) && node.sent < 10)
        send_numbered(&node, 10);
    return works(arg);
}

static void diallers_that_cross_agree(void **state) {
    for (int round = 0; round < 20; round++) {
        rig_start(true, 300, 2000);
        assert_int_equal(
            peer_listen(&node.listener, base, node.tls, "127.0.0.1:0", &listener_events, &node, why, sizeof(why)), 0);
        for (int i = 0; i < 6; i++) {
            extras[i].side = i % 2 ? &ppfs : &node;
            const char *to = peer_listener_address(i % 2 ? node.listener : ppfs.listener);
            assert_int_equal(peer_dial(&extras[i].dial, base, extras[i].side->tls, to, on_extra, &extras[i]), 0);
        }
        turn_until(up_once_more, NULL);
        assert_false(ppfs.wrong || node.wrong);
        rig_stop();
    }
}

/* The counts of a greeting must still be true when it ends, whatever comes by the link of before meanwhile. */
static bool extra_is_up(void *arg) {
    const struct extra *e = arg;
    if (session_pending(ppfs.session) < 1 << 20)
        send_numbered(&ppfs, 200);
    if (session_pending(node.session) < 1 << 20)
        send_numbered(&node, 200);
    return !e->dial && ppfs.resumed == node.resumed && ppfs.resumed > e->side->seen;
}

static void a_second_link_doubles_nothing_of_what_is_on_its_way_by_the_first(void **state) {
    for (int i = 0; i < 2; i++) {
        rig_start(i, 5000, 60000);
        struct side *dials = i ? &node : &ppfs;
        turn_until(both_up, NULL);
        for (int round = 0; round < 30; round++) {
            extras[0].side = dials;
            dials->seen = dials->resumed;
            assert_int_equal(peer_dial(&extras[0].dial, base, dials->tls, relay.address, on_extra, &extras[0]), 0);
            turn_until(extra_is_up, &extras[0]);
        }
        turn_until(all_there, NULL);
        assert_false(ppfs.wrong || node.wrong);
        assert_int_equal(ppfs.lost + node.lost, 0);
        rig_stop();
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_session_begins_whoever_dials),
        cmocka_unit_test(frames_arrive_once_and_in_order_over_many_cuts),
        cmocka_unit_test(a_session_at_rest_says_little),
        cmocka_unit_test(a_silent_link_is_closed_and_the_session_goes_on),
        cmocka_unit_test(what_is_changed_on_its_way_costs_the_link_alone),
        cmocka_unit_test(a_session_that_hears_nothing_until_the_time_out_is_lost),
        cmocka_unit_test(who_lost_it_makes_the_other_lose_it),
        cmocka_unit_test(a_goodbye_is_heard_at_once),
        cmocka_unit_test(a_process_that_begins_again_is_another),
        cmocka_unit_test(our_own_stop_is_not_the_others_silence),
        cmocka_unit_test(who_sends_hears_when_there_is_room_again),
        cmocka_unit_test(who_sends_hears_that_a_heartbeat_took_all_along),
        cmocka_unit_test(a_newer_link_takes_over_from_one_that_hangs),
        cmocka_unit_test(diallers_that_cross_agree),
        cmocka_unit_test(a_second_link_doubles_nothing_of_what_is_on_its_way_by_the_first),
    };
    return cmocka_run_group_tests(tests, rig_setup, rig_teardown);
}
