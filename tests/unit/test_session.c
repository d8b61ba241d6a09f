/* Sessions: two hubs in one loop, over real TLS, through a relay that can be cut and frozen. */
#include <event2/bufferevent.h>
#include <event2/buffer.h>
#include <event2/listener.h>
#include <malloc.h>

#include "net/session/session_int.h"
#include "net/states.h"
#include "net/tls/tls_int.h"
#include "tests/unit/netrig.h"

/* --- the relay: what lies between ----------------------------------------------------------------------------------
 * */
enum { PAIRS = 64 };
struct relay {
    struct evconnlistener *listener;
    char address[64];
    const char *to;
    struct bufferevent *in[PAIRS], *out[PAIRS]; /* in: the dialler's side */
    int accepted;
};

static void relay_close(struct relay *r, int i) {
    if (r->in[i])
        bufferevent_free(r->in[i]);
    if (r->out[i])
        bufferevent_free(r->out[i]);
    r->in[i] = r->out[i] = NULL;
}

static struct relay relay;

static bool tampers; /* it changes the next byte that it can */

static void relay_read(struct bufferevent *b, void *arg) {
    if (tampers) {
        struct evbuffer *in = bufferevent_get_input(b);
        evbuffer_pullup(in, -1)[evbuffer_get_length(in) - 1] ^= 1;
        tampers = false;
    }
    bufferevent_write_buffer(arg, bufferevent_get_input(b));
}

static void relay_event(struct bufferevent *b, short what, void *arg) {
    if (what & (BEV_EVENT_EOF | BEV_EVENT_ERROR))
        for (int i = 0; i < PAIRS; i++)
            if (relay.in[i] == b || relay.out[i] == b) {
                struct bufferevent *other = relay.in[i] == b ? relay.out[i] : relay.in[i];
                evbuffer_unfreeze(bufferevent_get_output(other), 1);
                /* what came just before the end */
                evbuffer_write(bufferevent_get_output(other), bufferevent_getfd(other));
                relay_close(&relay, i);
            }
}

static void relay_accept(struct evconnlistener *l, evutil_socket_t fd, struct sockaddr *from, int size, void *arg) {
    struct relay *r = arg;
    int i = 0;
    while (r->in[i])
        assert_true(++i < PAIRS);
    int to = connect_to(r->to);
    evutil_make_socket_nonblocking(to);
    r->in[i] = bufferevent_socket_new(base, fd, BEV_OPT_CLOSE_ON_FREE);
    r->out[i] = bufferevent_socket_new(base, to, BEV_OPT_CLOSE_ON_FREE);
    bufferevent_setcb(r->in[i], relay_read, NULL, relay_event, r->out[i]);
    bufferevent_setcb(r->out[i], relay_read, NULL, relay_event, r->in[i]);
    bufferevent_enable(r->in[i], EV_READ | EV_WRITE);
    bufferevent_enable(r->out[i], EV_READ | EV_WRITE);
    r->accepted++;
}

static void relay_start(const char *to) {
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t size = sizeof(at);
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    relay = (struct relay){.to = to};
    signal(SIGPIPE, SIG_IGN); /* the relay's own writes to what was cut; test_peer sees that ours raise none */
    relay.listener = evconnlistener_new_bind(base, relay_accept, &relay, LEV_OPT_CLOSE_ON_FREE, 64,
                                             (struct sockaddr *)&at, sizeof(at));
    assert_non_null(relay.listener);
    getsockname(evconnlistener_get_fd(relay.listener), (struct sockaddr *)&at, &size);
    snprintf(relay.address, sizeof(relay.address), "127.0.0.1:%d", ntohs(at.sin_port));
}

static void relay_cut(void) {
    for (int i = 0; i < PAIRS; i++)
        relay_close(&relay, i);
}

/* Lets nothing through any more on the connections there are: a cable that is pulled. one_way: only to the dialler. */
static void relay_freeze(bool one_way) {
    for (int i = 0; i < PAIRS; i++)
        if (relay.in[i]) {
            bufferevent_disable(relay.out[i], EV_READ);
            if (!one_way)
                bufferevent_disable(relay.in[i], EV_READ);
        }
}

static void relay_stop(void) {
    relay_cut();
    if (relay.listener)
        evconnlistener_free(relay.listener);
    relay.listener = NULL;
}

/* --- one process ------------------------------------------------------------------------------------------------- */
struct side {
    enum tls_side part;
    struct tls *tls;
    struct hub *hub;
    struct peer_listener *listener;
    struct peer_dial *dial;
    struct event *redial;
    const char *dials;
    struct session *session;
    int fresh, resumed, failed, up, down, rooms, lost, seen;
    char sentence[512];
    uint64_t sent, got, bytes; /* numbered frames */
    bool wrong;
};

static uint32_t size_of(uint64_t number) {
    if (number % 1000 == 999)
        return FRAME_BODY_MAX;
    return number % 50 == 49 ? 20000 : (uint32_t)(number * 7919 % 400) + 8;
}

static void send_numbered(struct side *x, unsigned count) {
    static uint8_t body[FRAME_BODY_MAX];
    session_cork(x->session);
    for (unsigned i = 0; i < count; i++) {
        uint64_t number = x->sent++;
        uint32_t size = size_of(number);
        memset(body, (int)number, size);
        memcpy(body, &number, 8);
        assert_int_equal(session_send(x->session, (uint8_t)(number % 240), number << 3, body, size), 0);
    }
    session_uncork(x->session);
}

static void on_frame(void *arg, const struct frame *f) {
    struct side *x = arg;
    uint64_t number = 0;
    memcpy(&number, f->body, f->size < 8 ? f->size : 8);
    x->wrong |= number != x->got || f->id != number << 3 || f->kind != number % 240 || f->size != size_of(number) ||
                f->body[f->size - 1] != (f->size > 8 ? (uint8_t)number : f->body[7]);
    x->got++;
    x->bytes += f->size;
}

static void redial(struct side *x) {
    struct timeval soon = {0, 5000};
    if (x->dials && !x->dial)
        event_add(x->redial, &soon);
}

static void on_linked(void *arg, bool up, const char *sentence) {
    struct side *x = arg;
    up ? x->up++ : x->down++;
    if (!up) {
        snprintf(x->sentence, sizeof(x->sentence), "%s", sentence);
        redial(x);
    }
}

static void on_room(void *arg) {
    ((struct side *)arg)->rooms++;
}

static void on_lost(void *arg, const char *sentence) {
    struct side *x = arg;
    x->lost++;
    snprintf(x->sentence, sizeof(x->sentence), "%s", sentence);
    session_destroy(x->session);
    x->session = NULL;
    redial(x);
}

static const struct session_events session_events = {
    .frame = on_frame, .linked = on_linked, .room = on_room, .lost = on_lost};

static void on_greeted(void *arg, void *tag, struct session *s, bool fresh) {
    struct side *x = arg;
    assert_ptr_equal(tag, x);
    if (fresh) {
        assert_null(x->session);
        session_watch(s, &session_events, x);
        x->session = s;
        x->sent = x->got = 0;
    }
    fresh ? x->fresh++ : x->resumed++;
}

static void on_failed(void *arg, void *tag, const char *sentence) {
    struct side *x = arg;
    x->failed++;
    snprintf(x->sentence, sizeof(x->sentence), "%s", sentence);
    redial(x);
}

static void on_accepted(void *arg, struct tls_conn *conn, const char *address) {
    struct side *x = arg;
    assert_int_equal(hub_greet(x->hub, conn, address, x), 0);
}

static void on_dialled(void *arg, struct tls_conn *conn, const char *sentence) {
    struct side *x = arg;
    peer_dial_destroy(x->dial);
    x->dial = NULL;
    if (conn)
        assert_int_equal(hub_greet(x->hub, conn, x->dials, x), 0);
    else
        redial(x);
}

static void on_redial(evutil_socket_t fd, short what, void *arg) {
    struct side *x = arg;
    if (!x->dial)
        assert_int_equal(peer_dial(&x->dial, base, x->tls, x->dials, on_dialled, x), 0);
}

static const struct hub_events hub_events = {.greeted = on_greeted, .failed = on_failed};
static const struct peer_listener_events listener_events = {.accepted = on_accepted};

static void side_start(struct side *x, enum tls_side part, unsigned silence_ms, unsigned timeout_ms) {
    struct hub_config config = {.side = part,
                                .silence_ms = silence_ms,
                                .timeout_ms = timeout_ms,
                                .mount = mount_of(KEY_A),
                                .node = node_of(KEY_A)};
    *x = (struct side){.part = part, .tls = make_tls(part, KEY_A), .redial = evtimer_new(base, on_redial, x)};
    assert_int_equal(hub_create(&x->hub, base, &config, &hub_events, x), 0);
}

static void side_stop(struct side *x) {
    session_destroy(x->session);
    hub_destroy(x->hub);
    peer_dial_destroy(x->dial);
    peer_listener_destroy(x->listener);
    if (x->redial)
        event_free(x->redial);
    tls_destroy(x->tls);
    *x = (struct side){0};
}

static struct side ppfs, node;

/* ppfs dials, through the relay; or the node does. */
static void rig_start(bool node_dials, unsigned silence_ms, unsigned timeout_ms) {
    struct side *dials = node_dials ? &node : &ppfs, *listens = node_dials ? &ppfs : &node;
    side_start(&ppfs, TLS_PPFS, silence_ms, timeout_ms);
    side_start(&node, TLS_NODE, silence_ms, timeout_ms);
    assert_int_equal(
        peer_listen(&listens->listener, base, listens->tls, "127.0.0.1:0", &listener_events, listens, why, sizeof(why)),
        0);
    relay_start(peer_listener_address(listens->listener));
    dials->dials = relay.address;
    redial(dials);
}

static void rig_stop(void) {
    side_stop(&ppfs);
    side_stop(&node);
    relay_stop();
}

static bool both_up(void *arg) {
    return ppfs.session && node.session && session_linked(ppfs.session) && session_linked(node.session);
}

static bool all_there(void *arg) {
    return both_up(NULL) && node.got == ppfs.sent && ppfs.got == node.sent && !session_pending(ppfs.session) &&
           !session_pending(node.session);
}

static bool rtt_known(void *arg) {
    return session_rtt(ppfs.session) && session_rtt(node.session);
}

/* One is enough: to the other a new link may have come before it noticed. */
static bool one_down(void *arg) {
    return ppfs.down || node.down;
}

static bool ppfs_lost(void *arg) {
    return ppfs.lost;
}

static bool node_lost(void *arg) {
    return node.lost;
}

static bool both_anew(void *arg) {
    return both_up(NULL) && ppfs.fresh == 2;
}

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
        tampers = true;
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
        cmocka_unit_test(a_session_begins_whoever_dials),
        cmocka_unit_test(frames_arrive_once_and_in_order_over_many_cuts),
        cmocka_unit_test(a_silent_link_is_closed_and_the_session_goes_on),
        cmocka_unit_test(what_is_changed_on_its_way_costs_the_link_alone),
        cmocka_unit_test(a_session_that_hears_nothing_until_the_time_out_is_lost),
        cmocka_unit_test(who_lost_it_makes_the_other_lose_it),
        cmocka_unit_test(a_goodbye_is_heard_at_once),
        cmocka_unit_test(a_process_that_begins_again_is_another),
        cmocka_unit_test(our_own_stop_is_not_the_others_silence),
        cmocka_unit_test(who_sends_hears_when_there_is_room_again),
        cmocka_unit_test(a_newer_link_takes_over_from_one_that_hangs),
        cmocka_unit_test(diallers_that_cross_agree),
        cmocka_unit_test(a_second_link_doubles_nothing_of_what_is_on_its_way_by_the_first),
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
