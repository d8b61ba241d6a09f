/* The dialling end. A name is looked up in a thread of its own, because the system's resolver waits; the thread and the
 * dial share a lookup, which belongs to both and is freed by the later of them. Then each address in turn: connect,
 * handshake, TLS_HANDSHAKE_MS for both together. The last failure is the one that is told. */
#include "net/event.h"
#include "net/peer/peer.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "net/address.h"
#include "net/descriptors.h"
#include "net/untrusted/handshake.h"
#include "net/proxy/proxy_int.h"

struct lookup {
    atomic_int owners;
    int fd; /* an eventfd, written when found and failed are set */
    struct address address;
    struct addrinfo *found;
    int failed; /* of getaddrinfo */
};

struct peer_dial {
    struct event_base *base;
    const struct tls *tls;
    peer_dial_cb *done;
    void *arg;
    char address[ADDRESS_MAX];
    struct event *start; /* begins in the loop, so that done never comes from inside peer_dial */
    struct event *answered;
    struct lookup *lookup;
    const struct addrinfo *next; /* in lookup->found */
    struct handshake *here;      /* the handshake; of these two is one at most */
    struct proxy_shake *there;
};

static void lookup_drop(struct lookup *k) {
    if (!k || atomic_fetch_sub(&k->owners, 1) > 1)
        return;
    if (k->found)
        freeaddrinfo(k->found);
    close(k->fd);
    free(k);
}

static void lookup_run(struct lookup *k, int flags) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = flags};

    k->failed = getaddrinfo(k->address.host, k->address.port, &hints, &k->found);
}

static void *lookup_thread(void *arg) {
    struct lookup *k = arg;
    uint64_t one = 1;

    lookup_run(k, 0);
    if (write(k->fd, &one, sizeof(one)) < 0) {
        /* cannot be: nobody else writes to it */
    }
    lookup_drop(k);
    return NULL;
}

/* Looks up in a thread, with all signals blocked: they are the loop's. 0 or -errno. */
static int lookup_start(struct lookup *k) {
    sigset_t all, before;
    pthread_t thread;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    atomic_fetch_add(&k->owners, 1);
    int err = pthread_create(&thread, NULL, lookup_thread, k);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (err)
        atomic_fetch_sub(&k->owners, 1);
    else
        pthread_detach(thread);
    return -err;
}

static void dial_end(struct peer_dial *d, struct tls_conn *conn, const char *what) {
    char why[ADDRESS_MAX + 200];

    snprintf(why, sizeof(why), "%s %s", d->address, what ? what : "");
    d->next = NULL;
    d->done(d->arg, conn, conn ? NULL : why);
}

static void dial_next(struct peer_dial *d, int err);

static void shake_end(struct peer_dial *d) {
    handshake_destroy(d->here);
    proxy_shake_destroy(d->there);
    d->here = NULL;
    d->there = NULL;
}

static void on_handshake(void *arg, struct tls_conn *conn, int err) {
    struct peer_dial *d = arg;

    shake_end(d);
    if (conn)
        dial_end(d, conn, NULL);
    else
        dial_next(d, err);
}

/* Begins the handshake, here or in the network process, over a connecting socket, which is taken. 0 or -errno. */
static int shake_begin(struct peer_dial *d, int fd) {
    struct proxy *p = tls_proxy(d->tls);
    int err = p ? proxy_shake(&d->there, p, fd, true, on_handshake, d)
                : handshake_create(&d->here, d->base, d->tls, fd, true, on_handshake, d);

    if (err) {
        d->here = NULL;
        d->there = NULL;
    }
    return err;
}

/* Tries the next address; without one it ends with err. */
static void dial_next(struct peer_dial *d, int err) {
    while (d->next) {
        const struct addrinfo *a = d->next;
        int fd = -1;

        d->next = a->ai_next;
        if (descriptors_spare(1, DESCRIPTORS_FOR_WORKERS))
            fd = socket(a->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        else
            errno = EMFILE;
        if (fd < 0) {
            err = -errno;
            continue;
        }
        handshake_tune(fd);
        if (connect(fd, a->ai_addr, a->ai_addrlen) && errno != EINPROGRESS) {
            err = -errno;
            close(fd);
            continue;
        }
        err = shake_begin(d, fd);
        if (!err)
            return;
    }
    char what[200];
    bool peer_did = err == -EACCES || err == -EPROTO || err == -EPIPE || err == -ECONNRESET || err == -ETIMEDOUT ||
                    err == -EHOSTDOWN || err == -EOWNERDEAD;
    snprintf(what, sizeof(what), peer_did ? "%s" : "cannot be reached: %s", handshake_reason(err));
    dial_end(d, NULL, what);
}

static void lookup_failed(struct peer_dial *d, const char *why) {
    char what[200];

    snprintf(what, sizeof(what), "cannot be looked up: %s", why);
    dial_end(d, NULL, what);
}

static void lookup_done(struct peer_dial *d) {
    if (d->lookup->failed) {
        lookup_failed(d, gai_strerror(d->lookup->failed));
        return;
    }
    d->next = d->lookup->found;
    dial_next(d, -EHOSTUNREACH);
}

static void on_answered(evutil_socket_t fd, short what, void *arg) {
    struct peer_dial *d = arg;

    event_del(d->answered);
    lookup_done(d);
}

static void on_start(evutil_socket_t fd, short what, void *arg) {
    struct peer_dial *d = arg;

    lookup_run(d->lookup, AI_NUMERICHOST | AI_NUMERICSERV);
    if (d->lookup->failed != EAI_NONAME) {
        lookup_done(d);
        return;
    }
    d->lookup->failed = 0;
    int err = lookup_start(d->lookup);
    if (err)
        lookup_failed(d, strerror(-err));
    else
        event_add(d->answered, NULL);
}

int peer_dial(struct peer_dial **out, struct event_base *base, const struct tls *tls, const char *address,
              peer_dial_cb *done, void *arg) {
    struct timeval now = {0, 0};
    struct peer_dial *d = calloc(1, sizeof(*d));
    char why[200];
    int err = -ENOMEM;

    if (!d)
        return err;
    *d = (struct peer_dial){.base = base, .tls = tls, .done = done, .arg = arg};
    d->lookup = calloc(1, sizeof(*d->lookup));
    if (!d->lookup)
        goto out;
    atomic_init(&d->lookup->owners, 1);
    d->lookup->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    err = d->lookup->fd < 0 ? -errno : address_parse(&d->lookup->address, address, true, why, sizeof(why));
    if (err)
        goto out;
    snprintf(d->address, sizeof(d->address), "%s", address);
    err = -ENOMEM;
    d->start = evtimer_new(base, on_start, d);
    d->answered = event_new(base, d->lookup->fd, EV_READ, on_answered, d);
    if (!d->start || !d->answered || event_add(d->start, &now))
        goto out;
    *out = d;
    return 0;
out:
    peer_dial_destroy(d);
    return err;
}

void peer_dial_destroy(struct peer_dial *d) {
    if (!d)
        return;
    shake_end(d);
    event_drop(d->start);
    event_drop(d->answered);
    lookup_drop(d->lookup);
    free(d);
}
