/* At most STRANGERS_MAX strangers are kept at a time. One more takes the place of another: the oldest of the source
 * that has most of them, so that who floods us competes with himself, and an honest peer, who is done in milliseconds,
 * hardly ever pays. A turn accepts ACCEPT_TURN at most; the rest waits in the backlog. */
#include "net/strangers/strangers.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "net/address.h"
#include "net/descriptors.h"
#include "net/strangers/handshake.h"

enum { ACCEPT_TURN = 16 };

struct stranger {
    struct strangers *l;
    struct handshake *h; /* NULL: a free place */
    uint64_t number;     /* counts up: the smallest is the oldest */
    struct source source;
    struct sockaddr_storage from;
};

struct strangers {
    struct event_base *base;
    const struct tls *tls;
    struct strangers_events ev;
    void *arg;
    int fd;
    struct event *readable, *again; /* again: after accept failed for want of descriptors */
    struct stranger all[STRANGERS_MAX];
    uint64_t numbers;
    struct refusals refusals;
};

static void tell_refused(struct strangers *l, const struct stranger *s, int err) {
    if (l->ev.refused && refusals_tell(&l->refusals, &s->source))
        l->ev.refused(l->arg, &s->from, err);
}

static void on_handshake(void *arg, struct tls_conn *conn, int err) {
    struct stranger *s = arg;
    struct strangers *l = s->l;

    handshake_destroy(s->h);
    s->h = NULL;
    if (conn) /* the last thing: it may destroy the strangers */
        l->ev.known(l->arg, conn, &s->from);
    else
        tell_refused(l, s, err);
}

/* A place for one more: a free one, or that of the oldest of the source that has most. */
static struct stranger *make_place(struct strangers *l) {
    struct stranger *victim = NULL;
    unsigned most = 0;

    for (size_t i = 0; i < STRANGERS_MAX; i++) {
        struct stranger *s = &l->all[i];
        unsigned count = 0;
        if (!s->h)
            return s;
        for (size_t k = 0; k < STRANGERS_MAX; k++)
            count += source_same(&l->all[k].source, &s->source);
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

static void admit(struct strangers *l, int fd, const struct sockaddr_storage *from) {
    struct stranger *s = make_place(l);

    s->l = l;
    s->number = l->numbers++;
    s->source = address_source(from);
    s->from = *from;
    handshake_tune(fd);
    if (handshake_create(&s->h, l->base, l->tls, fd, false, on_handshake, s))
        s->h = NULL; /* no memory: as if it had not come */
}

/* The connection stays in the backlog, so the socket stays readable: look again a little later. */
static void wait_a_little(struct strangers *l) {
    static const struct timeval pause = {0, 200 * 1000};

    event_del(l->readable);
    event_add(l->again, &pause);
}

static void on_connection(evutil_socket_t listening, short what, void *arg) {
    struct strangers *l = arg;

    (void)what;
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
    struct strangers *l = arg;

    (void)fd;
    (void)what;
    event_add(l->readable, NULL);
}

int strangers_create(struct strangers **out, struct event_base *base, const struct tls *tls, int fd,
                     const struct strangers_events *ev, void *arg) {
    struct strangers *l = calloc(1, sizeof(*l));

    if (!l) {
        close(fd);
        return -ENOMEM;
    }
    *l = (struct strangers){.base = base, .tls = tls, .ev = *ev, .arg = arg, .fd = fd};
    l->readable = event_new(base, fd, EV_READ | EV_PERSIST, on_connection, l);
    l->again = evtimer_new(base, on_again, l);
    if (!l->readable || !l->again || event_add(l->readable, NULL)) {
        strangers_destroy(l);
        return -ENOMEM;
    }
    *out = l;
    return 0;
}

void strangers_destroy(struct strangers *l) {
    int saved = errno;

    if (!l)
        return;
    for (size_t i = 0; i < STRANGERS_MAX; i++)
        handshake_destroy(l->all[i].h);
    if (l->readable)
        event_free(l->readable);
    if (l->again)
        event_free(l->again);
    close(l->fd);
    free(l);
    errno = saved;
}
