/* Two ways, which do not wait for each other.
 *
 * Out, from the bare socket: read only while nothing waits to be sent, and at most what waits there may, so that what
 * the network does not take stays with the session, which knows what of it is urgent. In, from TLS: many records go on
 * with one write, for each write wakes the other process. What the bare socket does not take waits in `in`, and nothing
 * more is read from the network.
 *
 * An end of the bare socket is our process letting go: what it had written is sent, for LINGER_MS at most. An end of
 * the network, or a fault of it, is told when all that had come before was handed on. */
#include "net/program/relay.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/event.h"

enum { OUT = 128 * 1024 /* as much as tls.c lets wait */, IN = 128 * 1024, TURN = 256 * 1024, LINGER_MS = 500 };

struct relay {
    struct tls_conn *conn;
    int bare;
    struct event *net_readable, *net_writable, *bare_readable, *bare_writable, *again, *linger;
    uint8_t *in; /* bytes for the bare socket, from in_at to in_end; NULL: none */
    size_t in_at, in_end;
    int err;                 /* of the network */
    bool net_ended, letting; /* letting: the bare socket has ended */
    relay_ended *ended;
    void *arg;
};

static uint8_t buffer[IN > OUT ? IN : OUT]; /* of the relay whose turn it is */

/* --- out --------------------------------------------------------------------------------------------------------- */
/* The network may still have bytes for us, so an error here ends only this direction. */
static void out_failed(struct relay *r, int err) {
    r->err = r->err ? r->err : err;
    event_del(r->net_writable);
    event_del(r->bare_readable);
    event_active(r->net_readable, EV_READ, 0);
}

/* 0, -EAGAIN: it goes on when the network takes more, or -errno. */
static int encrypt(struct relay *r, size_t size) {
    for (size_t at = 0; at < size;) {
        ssize_t n = tls_write(r->conn, buffer + at, size - at < TLS_RECORD ? size - at : TLS_RECORD);
        if (n < 0)
            return n == -EAGAIN ? -EPROTO : (int)n; /* there was room */
        at += (size_t)n;
    }
    return tls_flush(r->conn);
}

/* True while the relay is there. */
static bool pump_out(struct relay *r) {
    if (event_pending(r->net_writable, EV_WRITE, NULL))
        return true; /* on_net_writable goes on */
    for (size_t total = 0; total < TURN && !r->letting && !r->err;) {
        ssize_t n = recv(r->bare, buffer, OUT, MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            break;
        if (n <= 0) {
            r->letting = true;
            break;
        }
        total += (size_t)n;
        int err = encrypt(r, (size_t)n);
        if (err == -EAGAIN) {
            event_del(r->bare_readable);
            event_add(r->net_writable, NULL);
            return true;
        }
        if (err) {
            out_failed(r, -err);
            return true;
        }
        if ((size_t)n < OUT)
            break; /* a short read means empty */
    }
    if (!r->letting)
        return true;
    event_del(r->bare_readable);
    if (!r->err && tls_flush(r->conn) == -EAGAIN) {
        struct timeval limit = {0, LINGER_MS * 1000};
        event_add(r->linger, &limit);
        event_add(r->net_writable, NULL);
        return true;
    }
    r->ended(r->arg, r, 0);
    return false;
}

static void on_bare_readable(evutil_socket_t fd, short what, void *arg) {
    pump_out(arg);
}

static void on_net_writable(evutil_socket_t fd, short what, void *arg) {
    struct relay *r = arg;

    int err = tls_flush(r->conn);
    if (err == -EAGAIN)
        return;
    event_del(r->net_writable);
    if (r->letting) {
        r->ended(r->arg, r, 0);
    } else if (err) {
        out_failed(r, -err);
    } else {
        event_add(r->bare_readable, NULL);
        pump_out(r);
    }
}

static void on_linger(evutil_socket_t fd, short what, void *arg) {
    struct relay *r = arg;

    r->ended(r->arg, r, 0);
}

/* --- in ---------------------------------------------------------------------------------------------------------- */
/* Passes bytes on; the rest is kept. 0, -EAGAIN, or -errno: the bare socket has ended. */
static int hand_on(struct relay *r, const uint8_t *bytes, size_t size) {
    size_t at = 0;

    while (at < size) {
        ssize_t n = send(r->bare, bytes + at, size - at, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno != EAGAIN)
            return -errno;
        if (n < 0)
            break;
        at += (size_t)n;
    }
    if (at == size)
        return 0;
    if (!r->in) {
        r->in = malloc(IN);
        if (!r->in)
            return -ENOMEM;
        memcpy(r->in, bytes + at, size - at);
        r->in_at = 0;
        r->in_end = size - at;
    } else {
        r->in_at += at;
    }
    return -EAGAIN;
}

/* Reads all records there are, up to IN bytes. *last: the last result. */
static size_t decrypt(struct relay *r, ssize_t *last) {
    size_t size = 0;

    while (size < IN && (*last = tls_read(r->conn, buffer + size, IN - size)) > 0)
        size += (size_t)*last;
    return size;
}

/* The network has ended, or reading it failed. */
static void net_over(struct relay *r, ssize_t last) {
    r->net_ended = true;
    if (!r->err)
        r->err = last < 0 ? (int)-last : 0;
    event_del(r->net_readable);
    if (!r->in)
        r->ended(r->arg, r, r->err);
}

/* Our process has closed the bare socket; its last bytes are sent first. */
static void bare_over(struct relay *r, int err) {
    event_del(r->net_readable);
    if (err == -ENOMEM && !r->err)
        r->err = ENOMEM;
    if (r->err || r->net_ended)
        r->ended(r->arg, r, r->err);
    else if (!r->letting)
        event_active(r->bare_readable, EV_READ, 0);
}

static void pump_in(struct relay *r) {
    ssize_t last = 1;

    for (size_t total = 0; total < TURN && last > 0;) {
        size_t size = decrypt(r, &last);
        total += size;
        int err = size ? hand_on(r, buffer, size) : 0;
        if (err == -EAGAIN) {
            event_del(r->net_readable);
            event_add(r->bare_writable, NULL);
            if (last <= 0 && last != -EAGAIN)
                net_over(r, last);
            return;
        }
        if (err) {
            bare_over(r, err);
            return;
        }
    }
    if (last != -EAGAIN && last <= 0) {
        net_over(r, last);
        return;
    }
    if (last > 0) /* the loop does not see bytes that TLS has read ahead */
        event_add(r->again, &(struct timeval){0});
    if (tls_unsent(r->conn) && !r->err && !event_pending(r->net_writable, EV_WRITE, NULL)) {
        event_del(r->bare_readable); /* TLS has answered something of its own */
        event_add(r->net_writable, NULL);
    }
}

static void on_net_readable(evutil_socket_t fd, short what, void *arg) {
    struct relay *r = arg;

    if (!r->in && !r->net_ended)
        pump_in(r);
}

static void on_bare_writable(evutil_socket_t fd, short what, void *arg) {
    struct relay *r = arg;

    int err = hand_on(r, r->in + r->in_at, r->in_end - r->in_at);
    if (err == -EAGAIN)
        return;
    free(r->in);
    r->in = NULL;
    event_del(r->bare_writable);
    if (err) {
        bare_over(r, err);
    } else if (r->net_ended) {
        r->ended(r->arg, r, r->err);
    } else {
        event_add(r->net_readable, NULL);
        pump_in(r); /* bytes that TLS has read ahead */
    }
}

/* --- life -------------------------------------------------------------------------------------------------------- */
int relay_create(struct relay **out, struct event_base *base, struct tls_conn *conn, int bare, relay_ended *ended,
                 void *arg) {
    struct relay *r = calloc(1, sizeof(*r));
    int fd = tls_conn_fd(conn);

    if (!r) {
        tls_conn_destroy(conn);
        close(bare);
        return -ENOMEM;
    }
    *r = (struct relay){.conn = conn, .bare = bare, .ended = ended, .arg = arg};
    r->net_readable = event_new(base, fd, EV_READ | EV_PERSIST, on_net_readable, r);
    r->net_writable = event_new(base, fd, EV_WRITE | EV_PERSIST, on_net_writable, r);
    r->bare_readable = event_new(base, bare, EV_READ | EV_PERSIST, on_bare_readable, r);
    r->bare_writable = event_new(base, bare, EV_WRITE | EV_PERSIST, on_bare_writable, r);
    r->again = evtimer_new(base, on_net_readable, r);
    r->linger = evtimer_new(base, on_linger, r);
    if (!r->net_readable || !r->net_writable || !r->bare_readable || !r->bare_writable || !r->again || !r->linger ||
        event_add(r->net_readable, NULL) || event_add(r->bare_readable, NULL)) {
        relay_destroy(r);
        return -ENOMEM;
    }
    event_active(r->net_readable, EV_READ, 0); /* bytes may have come with the end of the handshake */
    *out = r;
    return 0;
}

void relay_destroy(struct relay *r) {
    struct event **events[] = {&r->net_readable,  &r->net_writable, &r->bare_readable,
                               &r->bare_writable, &r->again,        &r->linger};

    if (!r)
        return;
    for (unsigned i = 0; i < sizeof(events) / sizeof(*events); i++)
        event_drop(*events[i]);
    free(r->in);
    tls_conn_destroy(r->conn);
    close(r->bare);
    free(r);
}
