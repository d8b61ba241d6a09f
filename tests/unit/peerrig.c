
#include "tests/unit/peerrig.h"

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

const struct peer_listener_events listener_events = {.accepted = on_accepted, .refused = on_refused};

void listen_as(struct end *e, enum tls_side side, const char *key, const char *address) {
    *e = (struct end){.tls = make_tls(side, key)};
    if (peer_listen(&e->listener, base, e->tls, address, &listener_events, e, why, sizeof(why)))
        fail_msg("%s", why);
}

void dial_as(struct end *e, enum tls_side side, const char *key, const char *address) {
    *e = (struct end){.tls = make_tls(side, key)};
    assert_int_equal(peer_dial(&e->dial, base, e->tls, address, on_dialled, e), 0);
    assert_int_equal(e->dialled + e->failed, 0);
}

void end_free(struct end *e) {
    link_destroy(e->link);
    tls_conn_destroy(e->conn);
    peer_dial_destroy(e->dial);
    peer_listener_destroy(e->listener);
    tls_destroy(e->tls);
}

bool dial_over(void *arg) {
    struct end *e = arg;
    return e->dialled || e->failed;
}

bool has_accepted(void *arg) {
    return ((struct end *)arg)->accepted > 0;
}

bool has_refused(void *arg) {
    return ((struct end *)arg)->refused > 0;
}

void listen_again(struct end *e, enum tls_side side, const char *key) {
    end_free(e);
    listen_as(e, side, key, "127.0.0.1:0");
}

unsigned open_descriptors(void) {
    unsigned n = 0;
    for (int fd = 0; fd < 4096; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

static void on_frame(void *arg, const struct frame *f) {
    struct end *e = arg;
    e->frames++;
    e->bytes += f->size;
    for (uint32_t i = 0; i < f->size; i += 997)
        e->sum += f->body[i];
    e->sum += f->kind + f->id;
}

void on_closed(void *arg, int err) {
    struct end *e = arg;
    e->closed = err ? err : -1;
}

const struct link_events link_events = {.frame = on_frame, .closed = on_closed};

void link_up(struct end *e) {
    struct tls_conn *conn = e->conn;
    e->conn = NULL;
    assert_int_equal(link_create_tls(&e->link, base, conn, &link_events, e), 0);
}

bool has_frames(void *arg) {
    struct expected *x = arg;
    return x->end->frames >= x->frames || x->end->closed;
}

bool has_closed(void *arg) {
    return ((struct end *)arg)->closed;
}

void exchange(struct end *from, struct end *to, uint8_t *body) {
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
