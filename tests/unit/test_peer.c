/* The key file; connections with the key, and everybody who has none: real sockets, real TLS, both ends in one loop. */
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <sys/eventfd.h>

#include "net/address.h"
#include "net/untrusted/acceptor.h"
#include "net/tls/tls_int.h"
#include "tests/unit/netrig.h"

/* --- both ends --------------------------------------------------------------------------------------------------- */
struct end {
    struct tls *tls;
    struct peer_listener *listener;
    struct peer_dial *dial;
    struct tls_conn *conn; /* what was accepted or dialled last */
    int accepted, refused, dialled, failed;
    char address[ADDRESS_MAX], sentence[512];
    struct link *link;
    uint64_t frames, bytes, sum;
    int closed;
};

static void on_accepted(void *arg, struct tls_conn *conn, const char *address) {
    struct end *e = arg;
    e->accepted++;
    snprintf(e->address, sizeof(e->address), "%s", address);
    tls_conn_destroy(e->conn);
    e->conn = conn;
}

static void on_refused(void *arg, const char *sentence) {
    struct end *e = arg;
    e->refused++;
    snprintf(e->sentence, sizeof(e->sentence), "%s", sentence);
}

static void on_dialled(void *arg, struct tls_conn *conn, const char *sentence) {
    struct end *e = arg;
    peer_dial_destroy(e->dial);
    e->dial = NULL;
    if (conn) {
        e->dialled++;
        e->conn = conn;
    } else {
        e->failed++;
        snprintf(e->sentence, sizeof(e->sentence), "%s", sentence);
    }
}

static const struct peer_listener_events listener_events = {.accepted = on_accepted, .refused = on_refused};

static void listen_as(struct end *e, enum tls_side side, const char *key, const char *address) {
    *e = (struct end){.tls = make_tls(side, key)};
    if (peer_listen(&e->listener, base, e->tls, address, &listener_events, e, why, sizeof(why)))
        fail_msg("%s", why);
}

static void dial_as(struct end *e, enum tls_side side, const char *key, const char *address) {
    *e = (struct end){.tls = make_tls(side, key)};
    assert_int_equal(peer_dial(&e->dial, base, e->tls, address, on_dialled, e), 0);
    assert_int_equal(e->dialled + e->failed, 0);
}

static void end_free(struct end *e) {
    link_destroy(e->link);
    tls_conn_destroy(e->conn);
    peer_dial_destroy(e->dial);
    peer_listener_destroy(e->listener);
    tls_destroy(e->tls);
}

static bool dial_over(void *arg) {
    struct end *e = arg;
    return e->dialled || e->failed;
}

static bool has_accepted(void *arg) {
    return ((struct end *)arg)->accepted > 0;
}

static bool has_refused(void *arg) {
    return ((struct end *)arg)->refused > 0;
}

/* Forgets that anybody was complained about: a listener of its own for each case would do the same. */
static void listen_again(struct end *e, enum tls_side side, const char *key) {
    end_free(e);
    listen_as(e, side, key, "127.0.0.1:0");
}

static unsigned open_descriptors(void) {
    unsigned n = 0;
    for (int fd = 0; fd < 4096; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

/* --- the key file ------------------------------------------------------------------------------------------------ */
static void a_mount_makes_its_secret_once_and_only_for_itself(void **state) {
    char path[128], first[100] = "", second[100] = "";
    struct stat st;
    struct mount_key *m;
    snprintf(path, sizeof(path), "%s/made", dir);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(mount_key_make(path), i ? -EEXIST : 0);
        int fd = open(path, O_RDONLY);
        assert_int_equal(read(fd, i ? second : first, 99), 90);
        assert_int_equal(fstat(fd, &st), 0);
        close(fd);
    }
    assert_string_equal(first, second);
    assert_int_equal(strspn(first + 25, "0123456789abcdef"), 64);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(st.st_nlink, 1);
    assert_int_equal(mount_key_read(&m, path, why, sizeof(why)), 0);
    mount_key_destroy(m);
    assert_int_equal(mount_key_make("/nonexistent/key"), -ENOENT);
}

#define HEX "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\n"

static void a_bad_key_file_is_refused_in_one_sentence(void **state) {
    static const char node[] = "ppfs node key 1\nname: n\nsecret: " HEX "mount: " HEX "find: " HEX;
    static const struct {
        const char *bytes;
        mode_t mode;
        int mount, node; /* what reading it as the one and as the other returns */
        const char *says[2];
    } cases[] = {
        {KEY_A, 0400, 0, -EINVAL, {"", "must not leave its machine"}},
        {node, 0600, -EINVAL, 0, {"is a key for nodes", ""}},
        {KEY_A, 0640, -EPERM, -EPERM, {"chmod 600", "chmod 600"}},
        {HEX, 0600, -EPFNOSUPPORT, -EINVAL, {"known to every node", "join.key"}},
        {"", 0600, -EPFNOSUPPORT, -EINVAL, {"none that this ppfs made", "no key"}},
        {KEY_A "x", 0600, -EINVAL, -EINVAL, {"damaged", "must not leave"}},
        {"ppfs mount key 1\nsecret: 01\n", 0600, -EINVAL, -EINVAL, {"damaged", "must not leave"}},
        {"ppfs node key 1\nname: ../n\nsecret: " HEX "mount: " HEX "find: " HEX,
         0600,
         -EINVAL,
         -EINVAL,
         {"for nodes", "damaged"}},
        {"ppfs node key 1\nname: \nsecret: " HEX "mount: " HEX "find: " HEX,
         0600,
         -EINVAL,
         -EINVAL,
         {"for nodes", "damaged"}},
        {"ppfs node key 1\nname: n\nsecret: " HEX "mount: " HEX, 0600, -EINVAL, -EINVAL, {"for nodes", "damaged"}},
    };
    struct mount_key *m;
    struct node_key n;
    char long_key[5000], link[128];
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        const char *path = key_file("case", cases[i].bytes, cases[i].mode);
        print_message("%zu\n", i);
        *why = 0;
        assert_int_equal(mount_key_read(&m, path, why, sizeof(why)), cases[i].mount);
        assert_non_null(strstr(why, cases[i].says[0]));
        if (!cases[i].mount)
            mount_key_destroy(m);
        *why = 0;
        assert_int_equal(node_key_read(&n, path, why, sizeof(why)), cases[i].node);
        assert_non_null(strstr(why, cases[i].says[1]));
        assert_null(strchr(why, '\n'));
    }
    memset(long_key, 'x', sizeof(long_key));
    long_key[sizeof(long_key) - 1] = 0;
    assert_int_equal(node_key_read(&n, key_file("long", long_key, 0600), why, sizeof(why)), -EINVAL);
    assert_int_equal(node_key_read(&n, "/nonexistent/key", why, sizeof(why)), -ENOENT);
    assert_non_null(strstr(why, "/nonexistent/key"));
    assert_int_equal(node_key_read(&n, dir, why, sizeof(why)), -EINVAL);
    snprintf(link, sizeof(link), "%s/link", dir);
    assert_int_equal(symlink(key_file("right", node, 0600), link), 0);
    assert_int_equal(node_key_read(&n, link, why, sizeof(why)), 0); /* our own */
    assert_string_equal(n.name, "n");
    if (geteuid() == 0) {
        assert_int_equal(lchown(link, 4711, 4711), 0);
        assert_int_equal(node_key_read(&n, link, why, sizeof(why)), -ELOOP);
        assert_non_null(strstr(why, "4711"));
        const char *theirs = key_file("theirs", node, 0600);
        assert_int_equal(chown(theirs, 4711, 4711), 0);
        assert_int_equal(node_key_read(&n, theirs, why, sizeof(why)), -EPERM);
    }
}

static void what_a_mount_gives_to_a_node_is_read_as_it_was(void **state) {
    uint8_t secret[KEY_SECRET] = {1, 2, 3};
    char text[KEY_TEXT], path[128];
    struct node_key given, got;
    mount_key_node(mount_of(KEY_A), "anode-7", secret, &given);
    assert_in_range(node_key_text(&given, text), 1, KEY_TEXT - 1);
    assert_int_equal(node_key_read(&got, key_file("given", text, 0600), why, sizeof(why)), 0);
    assert_memory_equal(&given, &got, sizeof(got));
    snprintf(path, sizeof(path), "%s/written", dir);
    for (int i = 0; i < 2; i++) /* the second replaces the first */
        assert_int_equal(node_key_write(node_of(i ? KEY_B : KEY_A), path), 0);
    assert_int_equal(node_key_read(&got, path, why, sizeof(why)), 0);
    assert_memory_equal(node_of(KEY_B), &got, sizeof(got));
    assert_memory_not_equal(node_of(KEY_A)->secret, got.secret, KEY_SECRET);
}

/* Who has a node's key has neither the mount's secret nor its signature of this greeting. */
static void only_the_mount_signs_and_only_for_one_greeting(void **state) {
    struct key_greeting g = {.binding = {1}, .nonce = {2}, .ppfs = {3}, .node = {4}};
    uint8_t signature[KEY_SIGNATURE], other[KEY_SIGNATURE];
    assert_int_equal(mount_key_sign(mount_of(KEY_A), &g, signature), 0);
    assert_int_equal(mount_key_sign(mount_of(KEY_B), &g, other), 0);
    assert_true(node_key_verify(node_of(KEY_A), &g, signature));
    assert_false(node_key_verify(node_of(KEY_A), &g, other));
    assert_false(node_key_verify(node_of(KEY_B), &g, signature));
    for (size_t i = 0; i < sizeof(g); i += 16) {
        ((uint8_t *)&g)[i]++;
        assert_false(node_key_verify(node_of(KEY_A), &g, signature));
        ((uint8_t *)&g)[i]--;
    }
}

static void a_signature_fits_its_bytes_and_key_only(void **state) {
    uint8_t mac[TLS_MAC_SIZE], other[TLS_MAC_SIZE];
    struct tls *a = make_tls(TLS_PPFS, KEY_A), *node = make_tls(TLS_NODE, KEY_A), *b = make_tls(TLS_PPFS, KEY_B);
    assert_int_equal(tls_sign(a, "hello", 5, mac), 0);
    assert_true(tls_verify(node, "hello", 5, mac));
    assert_false(tls_verify(node, "hellp", 5, mac));
    assert_false(tls_verify(node, "hello", 4, mac));
    assert_false(tls_verify(b, "hello", 5, mac));
    assert_int_equal(tls_sign(b, "hello", 5, other), 0);
    assert_memory_not_equal(mac, other, sizeof(mac));
    tls_destroy(a);
    tls_destroy(b);
    tls_destroy(node);
}

/* --- with the key ------------------------------------------------------------------------------------------------ */
static void on_frame(void *arg, const struct frame *f) {
    struct end *e = arg;
    e->frames++;
    e->bytes += f->size;
    for (uint32_t i = 0; i < f->size; i += 997)
        e->sum += f->body[i];
    e->sum += f->kind + f->id;
}

static void on_closed(void *arg, int err) {
    struct end *e = arg;
    e->closed = err ? err : -1;
}

static const struct link_events link_events = {.frame = on_frame, .closed = on_closed};

static void link_up(struct end *e) {
    struct tls_conn *conn = e->conn;
    e->conn = NULL;
    assert_int_equal(link_create_tls(&e->link, base, conn, &link_events, e), 0);
}

struct expected {
    struct end *end;
    uint64_t frames;
};

static bool has_frames(void *arg) {
    struct expected *x = arg;
    return x->end->frames >= x->frames || x->end->closed;
}

static bool has_closed(void *arg) {
    return ((struct end *)arg)->closed;
}

static void exchange(struct end *from, struct end *to, uint8_t *body) {
    struct expected x = {to, 2000};
    uint64_t sum = 0, bytes = 0;
    for (uint32_t i = 0; i < 2000; i++) {
        uint32_t size = i % 100 == 50 ? 16384 - 16 : i % 300;
        if (i % 100 == 99)
            size = FRAME_BODY_MAX;
        if (i == 100)
            link_cork(from->link);
        assert_int_equal(link_send(from->link, (uint8_t)i, i, body, size), 0);
        sum += (uint8_t)i + i;
        bytes += size;
        for (uint32_t k = 0; k < size; k += 997)
            sum += body[k];
        if (i == 1900)
            link_uncork(from->link);
    }
    turn_until(has_frames, &x);
    assert_int_equal(to->closed, 0);
    assert_int_equal(to->bytes, bytes);
    assert_int_equal(to->sum, sum);
    assert_int_equal(link_received(to->link), bytes + 2000 * FRAME_HEADER);
}

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

/* --- without the key --------------------------------------------------------------------------------------------- */
static void another_key_is_refused_at_both_ends(void **state) {
    struct end listener, dialler;
    listen_as(&listener, TLS_NODE, KEY_A, "127.0.0.1:0");
    dial_as(&dialler, TLS_PPFS, KEY_B, peer_listener_address(listener.listener));
    turn_until(dial_over, &dialler);
    turn_until(has_refused, &listener);
    assert_int_equal(dialler.failed, 1);
    assert_int_equal(listener.accepted, 0);
    assert_non_null(strstr(dialler.sentence, "another key"));
    assert_non_null(strstr(listener.sentence, "another key"));
    end_free(&dialler);
    end_free(&listener);
}

/* A relay that leads a ppfs back to itself, or one ppfs to another: the key is right and the part is not. */
static void the_same_part_is_refused(void **state) {
    for (int side = 0; side < 2; side++) {
        struct end listener, dialler;
        listen_as(&listener, side ? TLS_NODE : TLS_PPFS, KEY_A, "127.0.0.1:0");
        dial_as(&dialler, side ? TLS_NODE : TLS_PPFS, KEY_A, peer_listener_address(listener.listener));
        turn_until(dial_over, &dialler);
        turn_until(has_refused, &listener);
        assert_int_equal(dialler.failed, 1);
        assert_int_equal(listener.accepted, 0);
        end_free(&dialler);
        end_free(&listener);
    }
}

/* A stranger who sends bytes and closes. */
static void send_without_key(struct end *listener, const void *bytes, size_t size) {
    int fd = connect_to(peer_listener_address(listener->listener));
    assert_int_equal(send(fd, bytes, size, MSG_NOSIGNAL), (ssize_t)size);
    shutdown(fd, SHUT_WR);
    turn_until(has_refused, listener);
    close(fd);
    assert_int_equal(listener->accepted, 0);
}

static void plain_clients_are_refused(void **state) {
    struct end listener;
    uint8_t frame[FRAME_HEADER];
    listen_as(&listener, TLS_NODE, KEY_A, "127.0.0.1:0");
    send_without_key(&listener, "GET / HTTP/1.0\r\n\r\n", 18);
    assert_non_null(strstr(listener.sentence, "TLS 1.3"));
    listen_again(&listener, TLS_NODE, KEY_A);
    frame_encode(frame, 240, 0, 0);
    send_without_key(&listener, frame, sizeof(frame));
    listen_again(&listener, TLS_NODE, KEY_A);
    send_without_key(&listener, "", 0);
    end_free(&listener);
}

/* The first flight of a dial, as somebody on the network sees it. */
static size_t record_hello(uint8_t *to, size_t room) {
    char address[64];
    struct end dialler;
    int listening = listen_on(address);
    dial_as(&dialler, TLS_NODE, KEY_A, address);
    fcntl(listening, F_SETFL, O_NONBLOCK);
    int fd = -1;
    ssize_t n = -1;
    for (double limit = now_s() + DEADLINE_S; n <= 0 && now_s() < limit;) {
        event_base_loop(base, EVLOOP_NONBLOCK);
        fd = fd >= 0 ? fd : accept4(listening, NULL, NULL, SOCK_NONBLOCK);
        n = fd >= 0 ? recv(fd, to, room, 0) : -1;
    }
    assert_true(n > 100);
    close(fd);
    close(listening);
    turn_until(dial_over, &dialler);
    end_free(&dialler);
    return (size_t)n;
}

static void replayed_and_truncated_handshakes_are_refused(void **state) {
    uint8_t hello[4096];
    size_t size = record_hello(hello, sizeof(hello));
    struct end listener;
    listen_as(&listener, TLS_PPFS, KEY_A, "127.0.0.1:0");
    for (size_t cut = 0; cut <= size; cut += 1 + size / 40) { /* the last is nearly whole */
        send_without_key(&listener, hello, cut);
        listen_again(&listener, TLS_PPFS, KEY_A);
    }
    send_without_key(&listener, hello, size);
    for (size_t at = 0; at < size; at += 7) { /* and each with one byte changed */
        listen_again(&listener, TLS_PPFS, KEY_A);
        hello[at] ^= 0x41;
        send_without_key(&listener, hello, size);
        hello[at] ^= 0x41;
    }
    end_free(&listener);
}

static X509 *self_signed(EVP_PKEY *key) {
    X509 *x = X509_new();
    ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
    X509_gmtime_adj(X509_getm_notBefore(x), 0);
    X509_gmtime_adj(X509_getm_notAfter(x), 3600);
    X509_set_pubkey(x, key);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_ASC, (const unsigned char *)"rogue", -1, -1, 0);
    X509_set_issuer_name(x, X509_get_subject_name(x));
    X509_sign(x, key, EVP_sha256());
    return x;
}

/* A child that speaks TLS without the key. Exits with 0 when the other end let it in. */
static pid_t rogue(int fd, bool server) {
    pid_t pid = fork();
    if (pid)
        return pid;
    SSL_CTX *x = SSL_CTX_new(server ? TLS_server_method() : TLS_client_method());
    if (server) {
        EVP_PKEY *key = EVP_EC_gen("P-256");
        SSL_CTX_use_certificate(x, self_signed(key));
        SSL_CTX_use_PrivateKey(x, key);
    }
    SSL *ssl = SSL_new(x);
    int conn = server ? accept(fd, NULL, NULL) : fd;
    char byte;
    SSL_set_fd(ssl, conn);
    int done = server ? SSL_accept(ssl) : SSL_connect(ssl);
    if (done == 1 && server)
        done = SSL_read(ssl, &byte, 1);
    _exit(done == 1 ? 0 : 1);
}

static void a_rogue_server_with_a_certificate_is_refused(void **state) {
    char address[64];
    struct end dialler;
    int status, listening = listen_on(address);
    pid_t pid = rogue(listening, true);
    dial_as(&dialler, TLS_NODE, KEY_A, address);
    turn_until(dial_over, &dialler);
    assert_int_equal(dialler.failed, 1);
    assert_non_null(strstr(dialler.sentence, "another key or none"));
    end_free(&dialler);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_not_equal(status, 0);
    close(listening);
}

static const struct tls_keys *leaked; /* what the child below has of the key */

static int find_leaked(SSL *ssl, const unsigned char *id, size_t id_size, SSL_SESSION **out) {
    static const unsigned char suite[2] = {0x13, 0x01};
    *out = SSL_SESSION_new();
    return SSL_SESSION_set1_master_key(*out, leaked->at[0].psk, TLS_PSK) &&
           SSL_SESSION_set_cipher(*out, SSL_CIPHER_find(ssl, suite)) &&
           SSL_SESSION_set_protocol_version(*out, TLS1_3_VERSION);
}

static int fill_ticket(SSL *ssl, void *arg) {
    static const char much[2000];
    return SSL_SESSION_set1_ticket_appdata(SSL_get_session(ssl), much, sizeof(much));
}

static SSL_TICKET_RETURN take_ticket(SSL *ssl, SSL_SESSION *session, const unsigned char *name, size_t size,
                                     SSL_TICKET_STATUS status, void *arg) {
    return SSL_TICKET_RETURN_IGNORE;
}

/* A child that has the key, and sends the first record of a message of the handshake that goes on in the next. */
static pid_t halting(int listening) {
    pid_t pid = fork();
    if (pid)
        return pid;
    SSL_CTX *x = SSL_CTX_new(TLS_server_method());
    SSL_CTX_set_psk_find_session_callback(x, find_leaked);
    SSL_CTX_set_num_tickets(x, 0);
    SSL_CTX_set_session_ticket_cb(x, fill_ticket, take_ticket, NULL);
    SSL_CTX_set_max_send_fragment(x, 512);
    SSL *ssl = SSL_new(x);
    int conn = accept(listening, NULL, NULL);
    SSL_set_fd(ssl, conn);
    if (SSL_accept(ssl) != 1)
        _exit(1);
    BIO *out = BIO_new(BIO_s_mem());
    char *bytes;
    SSL_set0_wbio(ssl, out);
    SSL_new_session_ticket(ssl);
    if (SSL_do_handshake(ssl) != 1)
        _exit(2);
    long size = BIO_get_mem_data(out, &bytes), first = 5 + ((uint8_t)bytes[3] << 8 | (uint8_t)bytes[4]);
    if (size < 5 || size <= first || write(conn, bytes, (size_t)first) != first)
        _exit(3);
    while (read(conn, bytes, 1) > 0)
        ;
    _exit(0);
}

static void one_with_the_key_that_halts_in_a_message_does_not_hold_up_the_loop(void **state) {
    char address[64];
    struct end dialler;
    int status, listening = listen_on(address);
    struct tls *theirs = make_tls(TLS_PPFS, KEY_A);
    leaked = tls_keys(theirs);
    pid_t pid = halting(listening);
    dial_as(&dialler, TLS_NODE, KEY_A, address);
    turn_until(dial_over, &dialler);
    assert_int_equal(dialler.dialled, 1);
    link_up(&dialler);
    alarm(DEADLINE_S); /* no deadline of the loop ends what never comes back to it */
    while (!dialler.closed) {
        link_send(dialler.link, 1, 2, "whatever", 8);
        event_base_loop(base, EVLOOP_NONBLOCK);
    }
    alarm(0);
    assert_int_equal(dialler.closed, EPROTO);
    end_free(&dialler);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    tls_destroy(theirs);
    close(listening);
}

static void a_client_without_a_key_is_refused(void **state) {
    struct end listener;
    int status;
    listen_as(&listener, TLS_PPFS, KEY_A, "127.0.0.1:0");
    int fd = connect_to(peer_listener_address(listener.listener));
    pid_t pid = rogue(fd, false);
    close(fd);
    turn_until(has_refused, &listener);
    assert_non_null(strstr(listener.sentence, "another key or none"));
    assert_int_equal(listener.accepted, 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_not_equal(status, 0);
    end_free(&listener);
}

static int show_old_key(SSL *ssl, const EVP_MD *md, const unsigned char **id, size_t *size, SSL_SESSION **out) {
    static const unsigned char suite[2] = {0x13, 0x01}, key[32];
    *id = (const unsigned char *)"ppfs";
    *size = 4;
    *out = SSL_SESSION_new();
    return SSL_SESSION_set1_master_key(*out, key, sizeof(key)) &&
           SSL_SESSION_set_cipher(*out, SSL_CIPHER_find(ssl, suite)) &&
           SSL_SESSION_set_protocol_version(*out, TLS1_3_VERSION);
}

/* A node of before there was a key for each: it is told from one with another key. */
static void a_node_of_before_is_refused_with_what_to_do(void **state) {
    struct end listener;
    int status;
    listen_as(&listener, TLS_PPFS, KEY_A, "127.0.0.1:0");
    int fd = connect_to(peer_listener_address(listener.listener));
    pid_t pid = fork();
    if (pid == 0) {
        SSL_CTX *x = SSL_CTX_new(TLS_client_method());
        SSL_CTX_set_psk_use_session_callback(x, show_old_key);
        SSL *ssl = SSL_new(x);
        SSL_set_fd(ssl, fd);
        _exit(SSL_connect(ssl) == 1 ? 0 : 1);
    }
    close(fd);
    turn_until(has_refused, &listener);
    assert_non_null(strstr(listener.sentence, "older ppfs"));
    assert_non_null(strstr(listener.sentence, "join.key"));
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_not_equal(status, 0);
    assert_int_equal(listener.accepted, 0);
    end_free(&listener);
}

static bool peer_closed(void *arg) {
    char byte;
    return recv(*(int *)arg, &byte, 1, MSG_DONTWAIT) == 0;
}

static void a_silent_peer_is_closed_and_disturbs_nobody(void **state) {
    struct end listener, dialler;
    listen_as(&listener, TLS_PPFS, KEY_A, "127.0.0.1:0");
    int fd = connect_to(peer_listener_address(listener.listener));
    event_base_loop(base, EVLOOP_ONCE);
    dial_as(&dialler, TLS_NODE, KEY_A, peer_listener_address(listener.listener));
    turn_until(dial_over, &dialler);
    assert_int_equal(dialler.dialled, 1);
    assert_int_equal(listener.refused, 0);
    turn_until(peer_closed, &fd);
    assert_int_equal(listener.refused, 1);
    assert_non_null(strstr(listener.sentence, "5 seconds"));
    close(fd);
    /* And the other way round: a server that says nothing. */
    char address[64];
    int listening = listen_on(address);
    end_free(&dialler);
    dial_as(&dialler, TLS_NODE, KEY_A, address);
    turn_until(dial_over, &dialler);
    assert_int_equal(dialler.failed, 1);
    assert_non_null(strstr(dialler.sentence, "5 seconds"));
    close(listening);
    end_free(&dialler);
    end_free(&listener);
}

/* A machine that is off, or a firewall that drops: nobody was there to show a key or not. */
static void who_does_not_answer_is_told_from_who_is_silent(void **state) {
    char address[64];
    struct end dialler;
    int fds[8], listening = listen_on(address);
    assert_int_equal(listen(listening, 0), 0);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(strrchr(address, ':') + 1))};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    for (int i = 0; i < 8; i++) { /* more than the backlog takes: what comes now is dropped */
        fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        connect(fds[i], (struct sockaddr *)&to, sizeof(to));
    }
    dial_as(&dialler, TLS_NODE, KEY_A, address);
    turn_until(dial_over, &dialler);
    assert_int_equal(dialler.failed, 1);
    assert_non_null(strstr(dialler.sentence, "has not answered in 5 seconds"));
    for (int i = 0; i < 8; i++)
        close(fds[i]);
    close(listening);
    end_free(&dialler);
}

static bool accepted_all(void *arg) {
    struct expected *x = arg;
    return (uint64_t)x->end->accepted >= x->frames;
}

static void a_thousand_without_a_key_at_once_cost_little_and_keep_nobody_out(void **state) {
    enum { STRANGERS = 1000 };
    struct rlimit limit;
    struct end listener, dialler;
    static int fds[STRANGERS];
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_cur < 2 * STRANGERS)
        skip();
    listen_as(&listener, TLS_PPFS, KEY_A, "127.0.0.1:0");
    unsigned before = open_descriptors();
    for (int i = 0; i < STRANGERS; i++)
        fds[i] = connect_to(peer_listener_address(listener.listener));
    for (int i = 0; i < 5; i++) { /* honest ones behind them in the backlog, and among them */
        dial_as(&dialler, TLS_NODE, KEY_A, peer_listener_address(listener.listener));
        turn_until(dial_over, &dialler);
        assert_int_equal(dialler.dialled, 1);
        end_free(&dialler);
    }
    struct expected x = {&listener, 5};
    turn_until(accepted_all, &x);
    assert_true(open_descriptors() <= before + STRANGERS + CANDIDATES_MAX + 8);
    assert_int_equal(listener.refused, 1); /* one source, one minute, one line */
    for (int i = 0; i < STRANGERS; i++)
        close(fds[i]);
    end_free(&listener);
}

static void without_descriptors_connections_wait_in_the_backlog(void **state) {
    struct rlimit limit, none;
    struct end listener, dialler;
    listen_as(&listener, TLS_PPFS, KEY_A, "127.0.0.1:0");
    int fd = connect_to(peer_listener_address(listener.listener)), next = dup(fd);
    close(next);
    unsigned before = open_descriptors();
    getrlimit(RLIMIT_NOFILE, &limit);
    none = limit;
    /* the lowest free one is one too many; then: those there are, are for workers */
    for (int kept = 0; kept <= 3; kept += 3) {
        none.rlim_cur = (rlim_t)(next + kept);
        setrlimit(RLIMIT_NOFILE, &none);
        for (int i = 0; i < 20; i++)
            event_base_loop(base, EVLOOP_NONBLOCK);
        assert_int_equal(open_descriptors(), before);
        if (kept) {
            dial_as(&dialler, TLS_NODE, KEY_A, peer_listener_address(listener.listener));
            turn_until(dial_over, &dialler);
            assert_int_equal(dialler.failed, 1);
            assert_non_null(strstr(dialler.sentence, "Too many open files"));
            end_free(&dialler);
        }
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    dial_as(&dialler, TLS_NODE, KEY_A, peer_listener_address(listener.listener));
    turn_until(dial_over, &dialler);
    assert_int_equal(dialler.dialled, 1);
    close(fd);
    end_free(&dialler);
    end_free(&listener);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_mount_makes_its_secret_once_and_only_for_itself),
        cmocka_unit_test(a_bad_key_file_is_refused_in_one_sentence),
        cmocka_unit_test(what_a_mount_gives_to_a_node_is_read_as_it_was),
        cmocka_unit_test(only_the_mount_signs_and_only_for_one_greeting),
        cmocka_unit_test(both_ends_learn_the_key_and_the_binding_of_a_connection),
        cmocka_unit_test(a_signature_fits_its_bytes_and_key_only),
        cmocka_unit_test(both_may_dial_and_frames_flow_both_ways),
        cmocka_unit_test(a_held_link_reads_nothing_and_goes_on_with_what_was_read_ahead),
        cmocka_unit_test(who_sends_without_end_leaves_the_others_their_turn),
        cmocka_unit_test(names_are_looked_up_and_a_dial_can_be_dropped),
        cmocka_unit_test(addresses_are_checked),
        cmocka_unit_test(another_key_is_refused_at_both_ends),
        cmocka_unit_test(the_same_part_is_refused),
        cmocka_unit_test(plain_clients_are_refused),
        cmocka_unit_test(replayed_and_truncated_handshakes_are_refused),
        cmocka_unit_test(a_rogue_server_with_a_certificate_is_refused),
        cmocka_unit_test(one_with_the_key_that_halts_in_a_message_does_not_hold_up_the_loop),
        cmocka_unit_test(a_node_of_before_is_refused_with_what_to_do),
        cmocka_unit_test(a_client_without_a_key_is_refused),
        cmocka_unit_test(a_silent_peer_is_closed_and_disturbs_nobody),
        cmocka_unit_test(who_does_not_answer_is_told_from_who_is_silent),
        cmocka_unit_test(a_thousand_without_a_key_at_once_cost_little_and_keep_nobody_out),
        cmocka_unit_test(without_descriptors_connections_wait_in_the_backlog),
    };
    return cmocka_run_group_tests(tests, rig_setup, rig_teardown);
}
