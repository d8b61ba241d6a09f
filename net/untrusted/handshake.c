/* A handshake: steps of tls_handshake, each when the socket is ready for it, until it is done or its time is up. */
#include "net/untrusted/handshake.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/event.h"

struct handshake {
    struct tls_conn *conn;
    struct event *readable, *writable, *timer;
    bool connected; /* or connecting has failed, as the first step tells */
    handshake_cb *done;
    void *arg;
};

static void handshake_end(struct handshake *h, int err) {
    struct tls_conn *conn = h->conn;

    event_del(h->readable);
    event_del(h->writable);
    event_del(h->timer);
    h->conn = NULL;
    if (err) {
        tls_conn_destroy(conn);
        conn = NULL;
    }
    h->done(h->arg, conn, err);
}

static void on_ready(evutil_socket_t fd, short what, void *arg) {
    struct handshake *h = arg;
    bool want_write = false;

    h->connected = true;
    int err = tls_handshake(h->conn, &want_write);

    if (err != -EAGAIN) {
        handshake_end(h, err);
        return;
    }
    event_del(want_write ? h->readable : h->writable);
    event_add(want_write ? h->writable : h->readable, NULL);
}

static void on_timer(evutil_socket_t fd, short what, void *arg) {
    struct handshake *h = arg;

    handshake_end(h, h->connected ? -ETIMEDOUT : -EHOSTDOWN);
}

void handshake_tune(int fd) {
    /* After a short cut the peer should hear of us at once, not when a doubled timeout ends. */
    int on = 1, rto_max_ms = 1000;
    /* Unsent bytes wait in this process, where the session counts them, and not in the kernel. */
    int unsent_max = 128 * 1024;

    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent_max, sizeof(unsent_max));
    setsockopt(fd, IPPROTO_TCP, TCP_RTO_MAX_MS, &rto_max_ms, sizeof(rto_max_ms)); /* Linux 6.15 */
}

int handshake_create(struct handshake **out, struct event_base *base, const struct tls *tls, int fd, bool dialled,
                     handshake_cb *done, void *arg) {
    struct handshake *h = calloc(1, sizeof(*h));

    if (!h) {
        close(fd);
        return -ENOMEM;
    }
    *h = (struct handshake){.done = done, .arg = arg, .connected = !dialled};
    int err = tls_conn_create(&h->conn, tls, fd);
    if (err)
        goto out;
    err = -ENOMEM;
    h->readable = event_new(base, fd, EV_READ | EV_PERSIST, on_ready, h);
    h->writable = event_new(base, fd, EV_WRITE | EV_PERSIST, on_ready, h);
    h->timer = evtimer_new(base, on_timer, h);
    if (!h->readable || !h->writable || !h->timer || event_add_ms(h->timer, TLS_HANDSHAKE_MS) ||
        event_add(dialled || tls_side(tls) == TLS_NODE ? h->writable : h->readable, NULL)) /* a node speaks first */
        goto out;
    *out = h;
    return 0;
out:
    handshake_destroy(h);
    return err;
}

void handshake_destroy(struct handshake *h) {
    if (!h)
        return;
    event_drop(h->readable);
    event_drop(h->writable);
    event_drop(h->timer);
    tls_conn_destroy(h->conn);
    free(h);
}

const char *handshake_reason(int err) {
    switch (-err) {
    case EACCES:
        return "has another key or none, or one that was revoked (those that are right are in nodes/.keys of the ppfs)";
    case EPFNOSUPPORT:
        return "is of an older ppfs, whose nodes all had one key: install the same version on both, and give the node "
               "join.key from the state directory of the ppfs";
    case EPROTO:
        return "does not speak TLS 1.3 as a ppfs of this version does with its nodes (a ppfs talks with nodes, a "
               "ppfs-node with "
               "ppfs)";
    case EPIPE:
    case ECONNRESET: return "closed the connection before it had shown its key";
    case ETIMEDOUT: return "has not shown its key in 5 seconds (if it is a ppfs: it talks with nodes only)";
    case EHOSTDOWN: return "has not answered in 5 seconds";
    case EOWNERDEAD: return "was let go: the network process here died";
    case EBUSY: return "had to make way: too many connections that show no key";
    default: return strerror(-err);
    }
}
