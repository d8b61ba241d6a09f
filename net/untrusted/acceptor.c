/* At most CANDIDATES_MAX handshakes are under way. One more ends another: the oldest of the source that has most, so
 * that a flood competes with itself, and an honest peer, which is done in milliseconds, hardly ever pays. A turn
 * accepts ACCEPT_TURN at most; the rest waits in the backlog. (An evconnlistener accepts until the backlog is empty;
 * code that holds it back would be as long as this.) */
#include "net/untrusted/acceptor.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "net/address.h"
#include "net/descriptors.h"
#include "net/event.h"
#include "net/untrusted/handshake.h"

enum { ACCEPT_TURN = 16 };

struct candidate {
    struct acceptor *l;
    struct handshake *h; /* NULL: a free one */
    uint64_t number;     /* counts up: the smallest is the oldest */
    struct origin source;
    struct sockaddr_storage from;
};

struct acceptor {
    struct event_base *base;
    const struct tls *tls;
    struct acceptor_events ev;
    void *arg;
    int fd;
    struct event *readable, *again; /* again: after accept failed for want of descriptors */
    struct candidate all[CANDIDATES_MAX];
    uint64_t numbers;
    struct refusals refusals;
};

static void tell_refused(struct acceptor *l, const struct candidate *s, int err) {
    if (l->ev.refused && refusals_tell(&l->refusals, &s->source))
        l->ev.refused(l->arg, &s->from, err);
}

static void on_handshake(void *arg, struct tls_conn *conn, int err) {
    struct candidate *s = arg;
    struct acceptor *l = s->l;

    handshake_destroy(s->h);
    s->h = NULL;
    if (conn) /* the last thing: it may destroy the acceptor */
        l->ev.known(l->arg, conn, &s->from);
    else
        tell_refused(l, s, err);
}

/* Room for one more: a free one, or that of the oldest of the source that has most. */
static struct candidate *make_room(struct acceptor *l) {
    struct candidate *victim = NULL;
    unsigned most = 0;

    for (size_t i = 0; i < CANDIDATES_MAX; i++) {
        struct candidate *s = &l->all[i];
        unsigned count = 0;
        if (!s->h)
            return s;
        for (size_t k = 0; k < CANDIDATES_MAX; k++)
            count += origin_same(&l->all[k].source, &s->source);
        if (count > most || (count == most && s->number < victim->number)) {
            most = count;
            victim = s;
        }
    }
    handshake_destroy(victim->h);
    victim->h = NULL;
    tell_refused(l, victim, -EBUSY);
    return victim;
}

static void admit(struct acceptor *l, int fd, const struct sockaddr_storage *from) {
    struct candidate *s = make_room(l);

    s->l = l;
    s->number = l->numbers++;
    s->source = address_origin(from);
    s->from = *from;
    handshake_tune(fd);
    if (handshake_create(&s->h, l->base, l->tls, fd, false, on_handshake, s))
        s->h = NULL; /* no memory: as if it had not come */
}

/* The connection stays in the backlog, so the socket stays readable: look again a little later. */
static void wait_a_little(struct acceptor *l) {
    static const struct timeval pause = {0, 200 * 1000};

    event_del(l->readable);
    event_add(l->again, &pause);
}

static void on_connection(evutil_socket_t listening, short what, void *arg) {
    struct acceptor *l = arg;

    if (!descriptors_spare(ACCEPT_TURN, DESCRIPTORS_FOR_WORKERS)) {
        wait_a_little(l);
        return;
    }
    for (int i = 0; i < ACCEPT_TURN; i++) {
        struct sockaddr_storage from = {0};
        socklen_t size = sizeof(from);
        int fd = accept4(listening, (struct sockaddr *)&from, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            admit(l, fd, &from);
        } else if (errno == EAGAIN) {
            return;
        } else if (descriptors_short(errno) || errno == ENOMEM) {
            wait_a_little(l);
            return;
        }
    }
}

static void on_again(evutil_socket_t fd, short what, void *arg) {
    struct acceptor *l = arg;

    event_add(l->readable, NULL);
}

int acceptor_create(struct acceptor **out, struct event_base *base, const struct tls *tls, int fd,
                    const struct acceptor_events *ev, void *arg) {
    struct acceptor *l = calloc(1, sizeof(*l));

    if (!l) {
        close(fd);
        return -ENOMEM;
    }
    *l = (struct acceptor){.base = base, .tls = tls, .ev = *ev, .arg = arg, .fd = fd};
    l->readable = event_new(base, fd, EV_READ | EV_PERSIST, on_connection, l);
    l->again = evtimer_new(base, on_again, l);
    if (!l->readable || !l->again || event_add(l->readable, NULL)) {
        acceptor_destroy(l);
        return -ENOMEM;
    }
    *out = l;
    return 0;
}

void acceptor_destroy(struct acceptor *l) {
    if (!l)
        return;
    for (size_t i = 0; i < CANDIDATES_MAX; i++)
        handshake_destroy(l->all[i].h);
    event_drop(l->readable);
    event_drop(l->again);
    close(l->fd);
    free(l);
}
