/* Discovery: the sockets, and sentences about packets (discover_core.c). */
#include "net/peer/discover.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "net/address.h"
#include "net/proxy/proxy_int.h"

struct discover {
    struct discover_events ev;
    void *arg;
    struct discover_core *here; /* one of the two */
    struct proxy_discovery *there;
};

static void on_found(void *arg, const struct sockaddr_storage *at, const uint8_t id[SESSION_ID]) {
    struct discover *d = arg;
    char address[ADDRESS_MAX];

    address_text(at, address);
    if (d->ev.found)
        d->ev.found(d->arg, address, id);
}

static void on_refused(void *arg, const struct sockaddr_storage *from, int reason) {
    struct discover *d = arg;
    char address[ADDRESS_MAX], sentence[ADDRESS_MAX + 200];

    if (!d->ev.refused)
        return;
    address_text(from, address);
    snprintf(sentence, sizeof(sentence), "discovery: a packet of %s was refused: %s", address,
             reason == DISCOVER_FOREIGN ? "it was signed with another key"
                                        : "its clock and ours are more than 30 s apart; set them right");
    d->ev.refused(d->arg, sentence);
}

/* Opens sockets of the wanted families that this machine has, at least of one. 0 or -errno. */
static int open_sockets(const struct discover_where *where, int sockets[DISCOVER_SOCKETS]) {
    int err = -EAFNOSUPPORT;

    for (int i = 0; i < DISCOVER_SOCKETS; i++)
        sockets[i] = -1;
    for (int i = 0; i < 2; i++) {
        int hear = where->use[i] ? discover_hear(where, i) : -1, talk = hear < 0 ? hear : discover_talk(i);
        if (talk < 0) {
            err = where->use[i] ? talk : err;
            if (hear >= 0)
                close(hear);
            continue;
        }
        sockets[2 * i] = hear;
        sockets[2 * i + 1] = talk;
    }
    if (sockets[0] < 0 && sockets[2] < 0)
        return err;
    for (int i = 0; i < 2; i++) /* now, not in the first turn, so that nodes can be found at once */
        if (sockets[2 * i] >= 0)
            discover_join(where, i, sockets[2 * i]);
    return 0;
}

int discover_create(struct discover **out, struct event_base *base, const struct tls *tls, const char *where,
                    const uint8_t id[SESSION_ID], uint16_t listen_port, const struct discover_events *ev, void *arg,
                    char *why, size_t why_size) {
    static const struct discover_core_events events = {.found = on_found, .refused = on_refused};
    int sockets[DISCOVER_SOCKETS];
    struct discover_where w;
    int err = discover_parse(&w, where, why, why_size);

    if (err)
        return err;
    if (w.interface[0] && !if_nametoindex(w.interface)) {
        snprintf(why, why_size, "cannot discover: there is no network interface %s", w.interface);
        return -ENODEV;
    }
    err = open_sockets(&w, sockets);
    if (err) {
        snprintf(why, why_size, "cannot discover: no socket for multicast: %s", strerror(-err));
        return err;
    }
    struct discover *d = calloc(1, sizeof(*d));
    if (!d) {
        discover_close(sockets);
        err = -ENOMEM;
        goto out;
    }
    *d = (struct discover){.ev = *ev, .arg = arg};
    err = tls_proxy(tls) ? proxy_discover(&d->there, tls_proxy(tls), &w, sockets, id, listen_port, &events, d)
                         : discover_core_create(&d->here, base, tls, &w, sockets, id, listen_port, &events, d);
    if (err)
        goto out;
    *out = d;
    return 0;
out:
    free(d);
    snprintf(why, why_size, "cannot discover: %s", err == -ENOMEM ? "out of memory" : strerror(-err));
    return err;
}

void discover_destroy(struct discover *d) {
    if (!d)
        return;
    discover_core_destroy(d->here);
    proxy_discovery_destroy(d->there);
    free(d);
}
