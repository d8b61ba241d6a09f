/* Messages of the network process.
 *
 * It reads bytes of peers without a key, so it may have been taken over. It is believed only that a peer has a key that
 * we have given it, and from which address. Ids are looked up, addresses and sentences are written by this process, and
 * messages that come too often are dropped. */
#include <errno.h>
#include <string.h>

#include "net/clock.h"
#include "net/descriptors.h"
#include "net/proxy/proxy_parts.h"
#include "net/untrusted/jail.h"

enum { FOUND_A_MINUTE = 4096 };

static bool is_address(const struct sockaddr_storage *a) {
    return a->ss_family == AF_INET || a->ss_family == AF_INET6;
}

static int fate_of(void *arg, uint32_t link) {
    struct proxy *p = arg;

    for (unsigned i = 0; i < PROXY_FATES; i++)
        if (p->fates[i].link == link && link)
            return p->fates[i].err;
    if (!p->wire)
        return EOWNERDEAD;
    const struct proxy_message *m = proxy_wire_find(p->wire, PROXY_FATE, link);
    if (!m && proxy_wire_ended(p->wire))
        return EOWNERDEAD;
    return m && m->err <= 0 && m->err > -4096 ? -m->err : 0;
}

/* The connection of a peer with a key; NULL: it is none. */
static struct tls_conn *take_conn(struct proxy *p, const struct proxy_message *m, int fds[PROXY_FDS]) {
    int domain = 0, type = 0;
    socklen_t size = sizeof(int);
    struct tls_conn *conn;

    if (fds[0] < 0 || getsockopt(fds[0], SOL_SOCKET, SO_DOMAIN, &domain, &size) ||
        getsockopt(fds[0], SOL_SOCKET, SO_TYPE, &type, &size) || domain != AF_UNIX || type != SOCK_STREAM ||
        !tls_keys_find(tls_keys(p->tls), m->proof.key, TLS_KEY_ID)) /* perhaps it was revoked just now */
        return NULL;
    int fd = fds[0], err = tls_conn_bare(&conn, fd, &m->proof, fate_of, p, m->link);
    fds[0] = -1;
    return err ? NULL : conn;
}

static void hear_ready(struct proxy *p, const struct proxy_message *m) {
    if (p->complained || (m->flag & JAIL_ALL) == JAIL_ALL)
        return;
    p->complained = true;
    proxy_say(p, "the network process has more privileges than it should: it %s here: %s",
              m->flag & JAIL_USER ? "cannot filter its system calls" : "cannot become another user",
              strerror(m->err < 0 && m->err > -4096 ? -m->err : EPERM));
}

static void hear_known(struct proxy *p, const struct proxy_message *m, int fds[PROXY_FDS]) {
    struct proxy_listener *l;

    LIST_FOREACH(l, &p->listeners, next)
        if (l->id == m->id)
            break;
    /* Workers come before nodes that dial in; a dropped node comes again. */
    bool room = l && is_address(&m->address) && descriptors_spare(1, DESCRIPTORS_FOR_WORKERS);
    struct tls_conn *conn = room ? take_conn(p, m, fds) : NULL;
    if (conn)
        l->ev.known(l->arg, conn, &m->address);
}

static void hear_refused(struct proxy *p, const struct proxy_message *m) {
    struct origin source = address_origin(&m->address);
    struct proxy_listener *l;
    struct proxy_discovery *d;

    if (!is_address(&m->address))
        return;
    LIST_FOREACH(l, &p->listeners, next)
        if (l->id == m->id && l->ev.refused && m->err < 0 && m->err > -4096 && refusals_tell(&l->refusals, &source)) {
            l->ev.refused(l->arg, &m->address, m->err);
            return;
        }
    LIST_FOREACH(d, &p->discoveries, next)
        if (d->id == m->id && d->ev.refused && m->err > 0 && m->err < DISCOVER_REASONS &&
            refusals_tell(&d->refusals, &source)) {
            d->ev.refused(d->arg, &m->address, m->err);
            return;
        }
}

static void hear_found(struct proxy *p, const struct proxy_message *m) {
    struct proxy_discovery *d;
    int64_t minute = clock_ms() / 60000;

    LIST_FOREACH(d, &p->discoveries, next)
        if (d->id == m->id)
            break;
    if (!d || !is_address(&m->address))
        return;
    d->found = d->minute == minute ? d->found + 1 : 0;
    d->minute = minute;
    if (d->found < FOUND_A_MINUTE)
        d->ev.found(d->arg, &m->address, m->hub);
}

static void hear_shaken(struct proxy *p, const struct proxy_message *m, int fds[PROXY_FDS]) {
    struct proxy_shake *s;

    LIST_FOREACH(s, &p->shakes, next)
        if (s->id == m->id)
            break;
    if (!s)
        return;
    bool lost = fds[0] < 0; /* there was no room for it here */
    struct tls_conn *conn = m->err ? NULL : take_conn(p, m, fds);
    int err = lost ? -EMFILE : -EACCES;
    if (m->err < 0 && m->err > -4096)
        err = m->err;
    LIST_REMOVE(s, next);
    s->p = NULL;
    s->done(s->arg, conn, conn ? 0 : err);
}

bool proxy_hear(void *arg, const struct proxy_message *m, int fds[PROXY_FDS]) {
    struct proxy *p = arg;

    switch (m->kind) {
    case PROXY_READY: hear_ready(p, m); return true;
    case PROXY_KNOWN: hear_known(p, m, fds); return true;
    case PROXY_REFUSED: hear_refused(p, m); return true;
    case PROXY_SHAKEN: hear_shaken(p, m, fds); return true;
    case PROXY_FATE:
        p->fates[p->fate].link = m->link;
        p->fates[p->fate].err = m->err <= 0 && m->err > -4096 ? -m->err : 0;
        p->fate = (p->fate + 1) % PROXY_FATES;
        return true;
    case PROXY_FOUND: hear_found(p, m); return true;
    case PROXY_PONG: p->unanswered = 0; return true;
    default: return false;
    }
}
