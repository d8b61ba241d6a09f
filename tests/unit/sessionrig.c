
#include "tests/unit/sessionrig.h"

static uint32_t size_of(uint64_t number) {
    if (number % 1000 == 999)
        return FRAME_BODY_MAX;
    return number % 50 == 49 ? 20000 : (uint32_t)(number * 7919 % 400) + 8;
}

void send_numbered(struct side *x, unsigned count) {
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

void on_frame(void *arg, const struct frame *f) {
    struct side *x = arg;
    uint64_t number = 0;
    memcpy(&number, f->body, f->size < 8 ? f->size : 8);
    x->wrong |= number != x->got || f->id != number << 3 || f->kind != number % 240 || f->size != size_of(number) ||
                f->body[f->size - 1] != (f->size > 8 ? (uint8_t)number : f->body[7]);
    x->got++;
    x->bytes += f->size;
}

void redial(struct side *x) {
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

static void on_sent(void *arg) {
    ((struct side *)arg)->drained++;
}

static void on_lost(void *arg, const char *sentence) {
    struct side *x = arg;
    x->lost++;
    snprintf(x->sentence, sizeof(x->sentence), "%s", sentence);
    session_destroy(x->session);
    x->session = NULL;
    redial(x);
}

const struct session_events session_events = {
    .frame = on_frame, .linked = on_linked, .room = on_room, .sent = on_sent, .lost = on_lost};

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

const struct peer_listener_events listener_events = {.accepted = on_accepted};

void side_start(struct side *x, enum tls_side part, unsigned silence_ms, unsigned timeout_ms) {
    struct hub_config config = {.side = part,
                                .silence_ms = silence_ms,
                                .timeout_ms = timeout_ms,
                                .mount = mount_of(KEY_A),
                                .node = node_of(KEY_A)};
    *x = (struct side){.part = part, .tls = make_tls(part, KEY_A), .redial = evtimer_new(base, on_redial, x)};
    assert_int_equal(hub_create(&x->hub, base, &config, &hub_events, x), 0);
}

void side_stop(struct side *x) {
    session_destroy(x->session);
    hub_destroy(x->hub);
    peer_dial_destroy(x->dial);
    peer_listener_destroy(x->listener);
    if (x->redial)
        event_free(x->redial);
    tls_destroy(x->tls);
    *x = (struct side){0};
}

struct side ppfs, node;

void rig_start(bool node_dials, unsigned silence_ms, unsigned timeout_ms) {
    struct side *dials = node_dials ? &node : &ppfs, *listens = node_dials ? &ppfs : &node;
    side_start(&ppfs, TLS_PPFS, silence_ms, timeout_ms);
    side_start(&node, TLS_NODE, silence_ms, timeout_ms);
    assert_int_equal(
        peer_listen(&listens->listener, base, listens->tls, "127.0.0.1:0", &listener_events, listens, why, sizeof(why)),
        0);
    relay_start(peer_listener_address(listens->listener), 0);
    dials->dials = relay.address;
    redial(dials);
}

void rig_stop(void) {
    side_stop(&ppfs);
    side_stop(&node);
    relay_stop();
}

bool both_up(void *arg) {
    return ppfs.session && node.session && session_linked(ppfs.session) && session_linked(node.session);
}

bool all_there(void *arg) {
    return both_up(NULL) && node.got == ppfs.sent && ppfs.got == node.sent && !session_pending(ppfs.session) &&
           !session_pending(node.session);
}

bool rtt_known(void *arg) {
    return session_rtt(ppfs.session) && session_rtt(node.session);
}

bool one_down(void *arg) {
    return ppfs.down || node.down;
}

bool ppfs_lost(void *arg) {
    return ppfs.lost;
}

bool node_lost(void *arg) {
    return node.lost;
}

bool both_anew(void *arg) {
    return both_up(NULL) && ppfs.fresh == 2;
}
