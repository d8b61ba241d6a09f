/* The listening end: the socket, and sentences about peers (acceptor.c). */
#include "net/peer/peer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "net/address.h"
#include "net/untrusted/handshake.h"
#include "net/proxy/proxy_int.h"
#include "net/untrusted/acceptor.h"

enum { BACKLOG = 1024 };

struct peer_listener {
    struct peer_listener_events ev;
    void *arg;
    char address[ADDRESS_MAX];
    struct acceptor *here; /* one of the two */
    struct proxy_listener *there;
};

static void on_known(void *arg, struct tls_conn *conn, const struct sockaddr_storage *from) {
    struct peer_listener *l = arg;
    char address[ADDRESS_MAX];

    address_text(from, address);
    l->ev.accepted(l->arg, conn, address);
}

static void on_refused(void *arg, const struct sockaddr_storage *from, int err) {
    struct peer_listener *l = arg;
    char address[ADDRESS_MAX], sentence[ADDRESS_MAX + 200];

    if (!l->ev.refused)
        return;
    address_text(from, address);
    snprintf(sentence, sizeof(sentence), "refused %s: it %s", address, handshake_reason(err));
    l->ev.refused(l->arg, sentence);
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
    static const struct acceptor_events events = {.known = on_known, .refused = on_refused};
    struct sockaddr_storage bound = {0};
    socklen_t size = sizeof(bound);
    int fd = open_listening(address, why, why_size);

    if (fd < 0)
        return fd;
    struct peer_listener *l = calloc(1, sizeof(*l));
    int err = -ENOMEM;
    if (!l) {
        close(fd);
        goto out;
    }
    *l = (struct peer_listener){.ev = *ev, .arg = arg};
    getsockname(fd, (struct sockaddr *)&bound, &size);
    address_text(&bound, l->address);
    err = tls_proxy(tls) ? proxy_listen(&l->there, tls_proxy(tls), fd, &events, l)
                         : acceptor_create(&l->here, base, tls, fd, &events, l);
    if (err)
        goto out;
    *out = l;
    return 0;
out:
    free(l);
    snprintf(why, why_size, "cannot listen on %s: %s", address, err == -ENOMEM ? "out of memory" : strerror(-err));
    return err;
}

const char *peer_listener_address(const struct peer_listener *l) {
    return l->address;
}

void peer_listener_destroy(struct peer_listener *l) {
    if (!l)
        return;
    acceptor_destroy(l->here);
    proxy_listener_destroy(l->there);
    free(l);
}
