/* Sessions with peers that have the key and bad manners. */
#include <malloc.h>

#include "net/tls/tls_int.h"
#include "tests/unit/sessionrig.h"

/* --- those with the key and bad manners --------------------------------------------------------------------------- */
static struct link *rude;
static uint8_t heard_kind[16];
static uint64_t heard_id[16];
static uint8_t heard_body[16][64];
static int heard, rude_closed;

static void rude_frame(void *arg, const struct frame *f) {
    if (heard < 16) {
        heard_kind[heard] = f->kind;
        heard_id[heard] = f->id;
        memcpy(heard_body[heard], f->body, f->size < 64 ? f->size : 64);
        heard++;
    }
}

static void rude_end(void *arg, int err) {
    rude_closed = 1;
}

static const struct link_events rude_events = {.frame = rude_frame, .closed = rude_end};

static struct tls_proof rude_proof;

/* The HELLO of the hub with that id, as the mount of key, which was asked by a node's HELLO. */
static void sign_hello(uint8_t hello[32 + KEY_SIGNATURE], const struct tls_proof *proof, const uint8_t *id,
                       const char *key, const uint8_t *asked) {
    struct key_greeting claim;
    memset(hello, 0, 32);
    memcpy(hello, HELLO_BEGIN, 9);
    memcpy(hello + 16, id, SESSION_ID);
    memcpy(claim.binding, proof->binding, TLS_BINDING);
    memcpy(claim.ppfs, id, SESSION_ID);
    memcpy(claim.node, asked + 16, SESSION_ID);
    memcpy(claim.nonce, asked + 32, KEY_NONCE);
    assert_int_equal(mount_key_sign(mount_of(key), &claim, hello + 32), 0);
}

static void greet_as(struct link *link, const struct tls_proof *proof, const uint8_t *id, const char *key,
                     const uint8_t *asked) {
    uint8_t hello[32 + KEY_SIGNATURE];
    sign_hello(hello, proof, id, key, asked);
    link_send(link, 240, 0, hello, sizeof(hello));
}

static void greet_as_node(struct link *link, const uint8_t *id) {
    uint8_t hello[32 + KEY_NONCE] = HELLO_BEGIN;
    memcpy(hello + 16, id, SESSION_ID);
    link_send(link, 240, 0, hello, sizeof(hello));
}

static void rude_dialled(void *arg, struct tls_conn *conn, const char *sentence) {
    peer_dial_destroy(*(struct peer_dial **)arg);
    assert_non_null(conn);
    tls_conn_proof(conn, &rude_proof);
    assert_int_equal(link_create_tls(&rude, base, conn, &rude_events, NULL), 0);
}

static bool rude_heard(void *arg) {
    return heard >= *(int *)arg || rude_closed;
}

static bool rude_over(void *arg) {
    return rude_closed;
}

/* A ppfs of bad manners at the node: it is greeted, and answers as told. steps: 0 nothing, 1 HELLO, 2 RESUME too. */
static struct tls *rude_tls;
static struct peer_dial *rude_dial;

static void rude_start(int steps) {
    uint8_t body[32];
    int two = 2;
    heard = rude_closed = 0;
    rude = NULL;
    side_start(&node, TLS_NODE, 0, 0);
    assert_int_equal(
        peer_listen(&node.listener, base, node.tls, "127.0.0.1:0", &listener_events, &node, why, sizeof(why)), 0);
    rude_tls = make_tls(TLS_PPFS, KEY_A);
    assert_int_equal(
        peer_dial(&rude_dial, base, rude_tls, peer_listener_address(node.listener), rude_dialled, &rude_dial), 0);
    int one = 1;
    while (!rude)
        event_base_loop(base, EVLOOP_ONCE);
    turn_until(rude_heard, &one);
    assert_int_equal(heard_kind[0], 240);
    assert_memory_equal(heard_body[0], HELLO_BEGIN "\0\0\0\0\0\0\0", 16);
    memset(body + 16, 7, 16);
    if (steps >= 1) {
        greet_as(rude, &rude_proof, body + 16, KEY_A, heard_body[0]);
        turn_until(rude_heard, &two);
        assert_int_equal(heard_kind[1], 241);
    }
    memset(body, 0, 16);
    if (steps >= 2) {
        link_send(rude, 241, 0, body, sizeof(body));
        int three = 3;
        turn_until(rude_heard, &three); /* the first heartbeat */
        assert_int_equal(node.fresh, 1);
    }
}

static void rude_stop(void) {
    link_destroy(rude);
    tls_destroy(rude_tls);
    side_stop(&node);
}

static void bad_greetings_end_the_connection(void **state) {
    static const struct {
        int steps;
        uint8_t kind;
        uint64_t id;
        const char *body;
        uint32_t size;
        const char *sentence;
    } cases[] = {
        {0, 240, 0, "ppfsnode\177\0\0\0\0\0\0\0aaaaaaaaaaaaaaaa", 32, "version 127 of the protocol"},
        {0, 240, 0, "ppfsnods\1\0\0\0\0\0\0\0aaaaaaaaaaaaaaaa", 32, "does not greet"},
        {0, 240, 1, HELLO_BEGIN "\0\0\0\0\0\0\0aaaaaaaaaaaaaaaa", 32, "does not greet"},
        {0, 240, 0, HELLO_BEGIN "\0\0\0\0\0\0\0aaaaaaaaaaaaaaa", 31, "does not greet"},
        {0, 240, 0, "", 0, "does not greet"},
        {0, 241, 0, "0123456789abcdef0123456789abcdef", 32, "does not greet"},
        {0, 1, 0, "x", 1, "does not greet"},
        {0, 240, 0, HELLO_BEGIN "\0\0\0\0\0\0\0aaaaaaaaaaaaaaaa", 32, "has not the secret"},
        {1, 240, 0, HELLO_BEGIN "\0\0\0\0\0\0\0aaaaaaaaaaaaaaaa", 32, "does not greet"},
        {1, 241, 0, "0123456789abcdef0123456789abcde", 31, "does not greet"},
        {1, 241, 0, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 32, "offers no session"},
        {1, 242, 0, "01234567", 8, "does not greet"},
        {2, 242, 1, "01234567", 8, "never sent"},
        {2, 243, ~0ull, "01234567", 8, "never sent"},
        {2, 244, 1, "", 0, "never sent"},
        {2, 242, 0, "0123456", 7, "no session has"},
        {2, 244, 0, "0", 1, "no session has"},
        {2, 240, 0, HELLO_BEGIN "\0\0\0\0\0\0\0aaaaaaaaaaaaaaaa", 32, "no session has"},
        {2, 246, 0, "", 0, "no session has"},
        {2, 255, 0, "", 0, "no session has"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        rude_start(cases[i].steps);
        link_send(rude, cases[i].kind, cases[i].id, cases[i].body, cases[i].size);
        turn_until(rude_over, NULL);
        if (!strstr(node.sentence, cases[i].sentence))
            fail_msg("case %zu: %s", i, node.sentence);
        assert_int_equal(node.failed, cases[i].steps < 2);
        assert_int_equal(node.down, cases[i].steps == 2);
        rude_stop();
    }
}

/* He has the node's key and the node dials him, or he dials it: only the mount itself is obeyed. */
static void who_has_a_nodes_key_cannot_be_its_ppfs(void **state) {
    uint8_t id[SESSION_ID] = {9};
    struct tls_proof other;
    for (int i = 0; i < 3; i++) { /* another mount; the mount's own words to another; nothing */
        rude_start(0);
        other = rude_proof;
        other.binding[31] ^= i == 1;
        if (i == 2)
            memset(&other, 0, sizeof(other));
        greet_as(rude, &other, id, i == 0 ? KEY_B : KEY_A, heard_body[0]);
        turn_until(rude_over, NULL);
        assert_int_equal(node.failed, 1);
        assert_non_null(strstr(node.sentence, "has not the secret"));
        assert_int_equal(node.fresh, 0);
        rude_stop();
    }
}

/* A connection whose TLS is the network process's, which says of it what it likes: ours, the node's end. */
static struct link *pretend(const struct tls_proof *proof) {
    struct tls_conn *conn;
    struct link *link;
    int ends[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends), 0);
    assert_int_equal(tls_conn_bare(&conn, ends[0], proof, NULL, NULL, 0), 0);
    heard = rude_closed = 0;
    assert_int_equal(link_create(&link, base, ends[1], &rude_events, NULL), 0);
    assert_int_equal(hub_greet(node.hub, conn, "pretended", &node), 0);
    return link;
}

/* The network process of a node has seen all that the mount says, and decides what the node hears of a connection. */
static void a_greeting_of_before_is_worth_nothing(void **state) {
    static const uint8_t id[SESSION_ID] = {9};
    struct tls_proof proof = {.binding = {1}};
    uint8_t hello[32 + KEY_SIGNATURE], nonces[2][KEY_NONCE];
    int one = 1, two = 2;
    side_start(&node, TLS_NODE, 0, 0);
    for (int i = 0; i < 2; i++) {
        struct link *link = pretend(&proof);
        turn_until(rude_heard, &one);
        memcpy(nonces[i], heard_body[0] + 32, KEY_NONCE);
        if (!i)
            sign_hello(hello, &proof, id, KEY_A, heard_body[0]);
        link_send(link, 240, 0, hello, sizeof(hello));
        if (!i) {
            turn_until(rude_heard, &two);
            assert_int_equal(heard_kind[1], 241); /* it was what the node had asked for */
        } else {
            turn_until(rude_over, NULL);
            assert_non_null(strstr(node.sentence, "has not the secret"));
        }
        assert_int_equal(node.failed, i);
        link_destroy(link);
        hub_forget(node.hub, &node);
    }
    assert_memory_not_equal(nonces[0], nonces[1], KEY_NONCE);
    side_stop(&node);
}

/* A node of before says a shorter HELLO; it hears of which version this ppfs is, to say so itself. */
static void a_node_of_before_is_told_the_version(void **state) {
    int one = 1;
    heard = rude_closed = 0;
    rude = NULL;
    side_start(&ppfs, TLS_PPFS, 0, 0);
    assert_int_equal(
        peer_listen(&ppfs.listener, base, ppfs.tls, "127.0.0.1:0", &listener_events, &ppfs, why, sizeof(why)), 0);
    rude_tls = make_tls(TLS_NODE, KEY_A);
    assert_int_equal(
        peer_dial(&rude_dial, base, rude_tls, peer_listener_address(ppfs.listener), rude_dialled, &rude_dial), 0);
    while (!rude)
        event_base_loop(base, EVLOOP_ONCE);
    link_send(rude, 240, 0, "ppfsnode\2\0\0\0\0\0\0\0aaaaaaaaaaaaaaaa", 32);
    turn_until(rude_heard, &one);
    assert_int_equal(heard_kind[0], 240);
    assert_memory_equal(heard_body[0], HELLO_BEGIN "\0\0\0", 12);
    turn_until(rude_over, NULL);
    assert_non_null(strstr(ppfs.sentence, "version 2 of the protocol"));
    link_destroy(rude);
    tls_destroy(rude_tls);
    side_stop(&ppfs);
}

static void a_greeting_that_does_not_come_is_not_waited_for(void **state) {
    rude_start(0);
    turn_until(rude_over, NULL);
    assert_int_equal(node.failed, 1);
    assert_non_null(strstr(node.sentence, "5 seconds"));
    rude_stop();
}

/* Pings without end from one who never reads: the answers must not pile up here. (A sanitizer's malloc counts nothing.)
 * */
static void who_reads_nothing_is_owed_nothing(void **state) {
    uint64_t stamp = 1;
    rude_start(2);
    link_hold(rude, true);
    size_t before = mallinfo2().uordblks;
    for (int i = 0; i < 1000; i++) {
        link_cork(rude);
        for (int k = 0; k < 1000; k++)
            link_send(rude, 242, 0, &stamp, sizeof(stamp));
        link_uncork(rude);
        event_base_loop(base, EVLOOP_NONBLOCK);
    }
    while (link_pending(rude) && !rude_closed)
        event_base_loop(base, EVLOOP_ONCE);
    for (int i = 0; i < 1000; i++) /* the node has all of them */
        event_base_loop(base, EVLOOP_NONBLOCK);
    assert_in_range(mallinfo2().uordblks, 0, before + (3 << 20));
    assert_false(rude_closed);
    assert_int_equal(node.down, 0);
    assert_true(node.session && session_linked(node.session));
    rude_stop();
}

/* While somebody is greeted the session waits, and it goes on when nothing comes of that. */
static void a_greeting_that_fails_is_waited_for_and_no_longer(void **state) {
    int one = 1, two = 2;
    rig_start(false, 60000, 60000);
    turn_until(both_up, NULL);
    heard = rude_closed = 0;
    rude = NULL;
    assert_int_equal(peer_dial(&rude_dial, base, ppfs.tls, relay.address, rude_dialled, &rude_dial), 0);
    while (!rude)
        event_base_loop(base, EVLOOP_ONCE);
    turn_until(rude_heard, &one);
    greet_as(rude, &rude_proof, hub_id(ppfs.hub), KEY_A, heard_body[0]);
    turn_until(rude_heard, &two);
    assert_int_equal(heard_kind[1], 241);
    uint64_t before = node.got;
    send_numbered(&ppfs, 100);
    for (int i = 0; i < 100; i++)
        event_base_loop(base, EVLOOP_NONBLOCK);
    assert_int_equal(node.got, before);
    link_destroy(rude);
    turn_until(all_there, NULL);
    assert_false(ppfs.wrong || node.wrong);
    assert_int_equal(node.failed, 1);
    assert_int_equal(ppfs.down + node.down, 0);
    rig_stop();
}

/* Two connections of one hub that is being greeted: what both said must stay true. */
static struct link *twins[2];
static struct tls_proof twin_proofs[2];
static int twins_up, twins_closed, twins_resumed, twins_asked; /* the last three: a bit each */
static const uint8_t twin_id[SESSION_ID] = {7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7};

/* A ppfs answers the HELLO of each, when both have come: then both are greeted at once. */
static void twin_frame(void *arg, const struct frame *f) {
    static uint8_t asked[2][32 + KEY_NONCE];
    int i = (int)(intptr_t)arg;
    if (f->kind == 241)
        twins_resumed |= 1 << i;
    if (f->kind != 240 || f->size != sizeof(asked[i]))
        return;
    memcpy(asked[i], f->body, f->size);
    twins_asked |= 1 << i;
    for (int k = 0; twins_asked == 3 && k < 2; k++)
        greet_as(twins[k], &twin_proofs[k], twin_id, KEY_A, asked[k]);
}

static void twin_end(void *arg, int err) {
    twins_closed |= 1 << (int)(intptr_t)arg;
}

static const struct link_events twin_events = {.frame = twin_frame, .closed = twin_end};

static void twin_dialled(void *arg, struct tls_conn *conn, const char *sentence) {
    int i = twins_up++;
    peer_dial_destroy(*(struct peer_dial **)arg);
    assert_non_null(conn);
    tls_conn_proof(conn, &twin_proofs[i]);
    assert_int_equal(link_create_tls(&twins[i], base, conn, &twin_events, (void *)(intptr_t)i), 0);
}

static bool both_twins(void *arg) {
    return twins_up == 2;
}

static bool both_resumed(void *arg) {
    return twins_resumed == 3;
}

static bool one_is_fresh(void *arg) {
    return node.fresh + ppfs.fresh == 1;
}

static bool second_closed(void *arg) {
    return twins_closed & 2;
}

/* Two connections with x, both greeted; theirs is what they are. */
static void twins_start(struct side *x, enum tls_side theirs) {
    static struct peer_dial *dials[2];
    twins_up = twins_closed = twins_resumed = twins_asked = 0;
    side_start(x, theirs == TLS_PPFS ? TLS_NODE : TLS_PPFS, 0, 0);
    assert_int_equal(peer_listen(&x->listener, base, x->tls, "127.0.0.1:0", &listener_events, x, why, sizeof(why)), 0);
    rude_tls = make_tls(theirs, KEY_A);
    for (int i = 0; i < 2; i++)
        assert_int_equal(
            peer_dial(&dials[i], base, rude_tls, peer_listener_address(x->listener), twin_dialled, &dials[i]), 0);
    turn_until(both_twins, NULL);
    for (int i = 0; theirs == TLS_NODE && i < 2; i++)
        greet_as_node(twins[i], twin_id);
}

static void twins_stop(struct side *x) {
    for (int i = 0; i < 2; i++)
        link_destroy(twins[i]);
    tls_destroy(rude_tls);
    side_stop(x);
}

static void what_a_greeting_said_must_still_be_true(void **state) {
    uint8_t resume[32] = {0};
    twins_start(&node, TLS_PPFS);
    turn_until(both_resumed, NULL);
    memset(resume + 16, 9, 16);
    link_send(twins[0], 241, 0, resume, sizeof(resume));
    turn_until(one_is_fresh, NULL);
    memset(resume + 16, 8, 16);
    link_send(twins[1], 241, 0, resume, sizeof(resume));
    turn_until(second_closed, NULL);
    assert_non_null(strstr(node.sentence, "meanwhile"));
    assert_true(session_linked(node.session));
    assert_int_equal(node.fresh, 1);
    assert_int_equal(node.resumed + node.lost + node.down, 0);
    assert_int_equal(twins_closed, 2);
    twins_stop(&node);
}

static bool some_closed(void *arg) {
    return twins_closed;
}

static void a_ppfs_greets_one_connection_of_a_hub_at_a_time(void **state) {
    uint8_t resume[32] = {0};
    twins_start(&ppfs, TLS_NODE);
    turn_until(some_closed, NULL);
    assert_int_equal(ppfs.failed, 1);
    assert_non_null(strstr(ppfs.sentence, "already"));
    assert_int_not_equal(twins_resumed, 3);
    for (int i = 0; i < 2; i++)
        link_send(twins[i], 241, 0, resume, sizeof(resume));
    turn_until(one_is_fresh, NULL);
    assert_true(session_linked(ppfs.session));
    twins_stop(&ppfs);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_greeting_that_fails_is_waited_for_and_no_longer),
        cmocka_unit_test(bad_greetings_end_the_connection),
        cmocka_unit_test(who_has_a_nodes_key_cannot_be_its_ppfs),
        cmocka_unit_test(a_greeting_of_before_is_worth_nothing),
        cmocka_unit_test(a_node_of_before_is_told_the_version),
        cmocka_unit_test(a_greeting_that_does_not_come_is_not_waited_for),
        cmocka_unit_test(who_reads_nothing_is_owed_nothing),
        cmocka_unit_test(what_a_greeting_said_must_still_be_true),
        cmocka_unit_test(a_ppfs_greets_one_connection_of_a_hub_at_a_time),
    };
    return cmocka_run_group_tests(tests, rig_setup, rig_teardown);
}
