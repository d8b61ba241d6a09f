/* The listening end. At most PEER_HANDSHAKES strangers are kept at a time. One more takes the place of another: the
 * oldest of the source that has most of them, so that who floods us competes with himself, and an honest peer, who is
 * done in milliseconds, hardly ever pays. A turn accepts ACCEPT_TURN at most; the rest waits in the backlog. */
#include "net/peer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "net/address.h"
#include "net/descriptors.h"
#include "net/handshake.h"

enum { ACCEPT_TURN = 16, BACKLOG = 1024 };

struct stranger {
    struct peer_listener *l;
    struct handshake *h; /* NULL: a free place */
    uint64_t number;     /* counts up: the smallest is the oldest */
    struct source source;
    char address[PEER_ADDRESS_MAX];
};

struct peer_listener {
    struct event_base *base;
    const struct tls *tls;
    struct peer_listener_events ev;
    void *arg;
    int fd;
    struct event *readable, *again; /* again: after accept failed for want of descriptors */
    char address[PEER_ADDRESS_MAX];
    struct stranger strangers[PEER_HANDSHAKES];
    uint64_t numbers;
    struct refusals refusals;
};

static void tell_refused(struct peer_listener *l, const struct stranger *s, int err) {
    char sentence[PEER_ADDRESS_MAX + 100];

    if (!l->ev.refused || !refusals_tell(&l->refusals, &s->source))
        return;
    snprintf(sentence, sizeof(sentence), "refused %s: it %s", s->address, handshake_reason(err));
    l->ev.refused(l->arg, sentence);
}

static void on_handshake(void *arg, struct tls_conn *conn, int err) {
    struct stranger *s = arg;
    struct peer_listener *l = s->l;

    handshake_destroy(s->h);
    s->h = NULL;
    if (conn) /* the last thing: it may destroy the listener */
        l->ev.accepted(l->arg, conn, s->address);
    else
        tell_refused(l, s, err);
}

/* A place for one more: a free one, or that of the oldest of the source that has most. */
static struct stranger *make_place(struct peer_listener *l) {
    struct stranger *victim = NULL;
    unsigned most = 0;

    for (size_t i = 0; i < PEER_HANDSHAKES; i++) {
        struct stranger *s = &l->strangers[i];
        unsigned count = 0;
        if (!s->h)
            return s;
        for (size_t k = 0; k < PEER_HANDSHAKES; k++)
            count += source_same(&l->strangers[k].source, &s->source);
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

static void admit(struct peer_listener *l, int fd, const struct sockaddr_storage *from) {
    struct stranger *s = make_place(l);

    s->l = l;
    s->number = l->numbers++;
    s->source = address_source(from);
    address_text(from, s->address);
    handshake_tune(fd);
    if (handshake_create(&s->h, l->base, l->tls, fd, false, on_handshake, s))
        s->h = NULL; /* no memory: as if it had not come */
}

/* The connection stays in the backlog, so the socket stays readable: look again a little later. */
static void wait_a_little(struct peer_listener *l) {
    static const struct timeval pause = {0, 200 * 1000};

    event_del(l->readable);
    event_add(l->again, &pause);
}

static void on_connection(evutil_socket_t listening, short what, void *arg) {
    struct peer_listener *l = arg;

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
    struct peer_listener *l = arg;

    (void)fd;
    (void)what;
    event_add(l->readable, NULL);
}

/* A socket that listens on the first address of the name that can be had. The descriptor, or -errno and one
 * sentence. */
static int open_listening(const char *address, char *why, size_t why_size) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *found = NULL;
    struct address parts;
    int fd = -1, on = 1, err = address_parse(&parts, address, false, why, why_size);

    if (err)
        return err;
    int failed = getaddrinfo(parts.host, parts.port, &hints, &found);
    if (failed) {
        snprintf(why, why_size, "cannot listen on %s: %s", address, gai_strerror(failed));
        return -EADDRNOTAVAIL;
    }
    for (struct addrinfo *a = found; a && fd < 0; a = a->ai_next) {
        fd = socket(a->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (fd >= 0 && !setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) &&
            !bind(fd, a->ai_addr, a->ai_addrlen) && !listen(fd, BACKLOG))
            break;
        err = -errno;
        if (fd >= 0)
            close(fd);
        fd = -1;
    }
    freeaddrinfo(found);
    if (fd < 0)
        snprintf(why, why_size, "cannot listen on %s: %s%s", address, strerror(-err),
                 err == -EADDRINUSE ? " (choose another port)" : "");
    return fd < 0 ? err : fd;
}

int peer_listen(struct peer_listener **out, struct event_base *base, const struct tls *tls, const char *address,
                const struct peer_listener_events *ev, void *arg, char *why, size_t why_size) {
    struct sockaddr_storage bound = {0};
    socklen_t size = sizeof(bound);
    int fd = open_listening(address, why, why_size);

    if (fd < 0)
        return fd;
    struct peer_listener *l = calloc(1, sizeof(*l));
    if (!l) {
        close(fd);
        goto no_memory;
    }
    *l = (struct peer_listener){.base = base, .tls = tls, .ev = *ev, .arg = arg, .fd = fd};
    getsockname(fd, (struct sockaddr *)&bound, &size);
    address_text(&bound, l->address);
    l->readable = event_new(base, fd, EV_READ | EV_PERSIST, on_connection, l);
    l->again = evtimer_new(base, on_again, l);
    if (!l->readable || !l->again || event_add(l->readable, NULL)) {
        peer_listener_destroy(l);
        goto no_memory;
    }
    *out = l;
    return 0;
no_memory:
    snprintf(why, why_size, "cannot listen on %s: out of memory", address);
    return -ENOMEM;
}

const char *peer_listener_address(const struct peer_listener *l) {
    return l->address;
}

void peer_listener_destroy(struct peer_listener *l) {
    int saved = errno;

    if (!l)
        return;
    for (size_t i = 0; i < PEER_HANDSHAKES; i++)
        handshake_destroy(l->strangers[i].h);
    if (l->readable)
        event_free(l->readable);
    if (l->again)
        event_free(l->again);
    close(l->fd);
    free(l);
    errno = saved;
}
