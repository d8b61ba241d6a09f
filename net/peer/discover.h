/* Discovery: a ppfs asks on the local networks, by multicast, and nodes with the same key answer where they listen.
 *
 * Every packet is signed (tls_sign) and carries the time and a nonce: one that is wrong, more than 30 s off, or was
 * seen before is as good as none, and nobody answers it. "where" is [GROUP][%INTERFACE][:PORT], each part optional, an
 * IPv6 group in brackets; NULL: both default groups on every interface that can do multicast. */
#ifndef PPFS_DISCOVER_H
#define PPFS_DISCOVER_H
#include <event2/event.h>

#include "net/session/session.h"

#define DISCOVER_WHERE_MAX 128u /* bytes of a "where" with the final zero */

struct discover;

struct discover_events {
    /* A ppfs hears of a node: what to dial, and the hub_shown it goes by (it may be found at several addresses). Comes
     * again with each answer. It must not destroy the discover. */
    void (*found)(void *arg, const char *address, const uint8_t id[SESSION_ID]);
    /* A sentence for the log about a packet that was refused; at most one a source and minute. */
    void (*refused)(void *arg, const char *sentence);
};

/* A ppfs (side of tls) asks at once, then in growing steps up to 10 s, and when a node says that it has come. A node
 * answers with listen_port. tls must outlive it. 0, or -errno and one sentence. */
int discover_create(struct discover **out, struct event_base *base, const struct tls *tls, const char *where,
                    const uint8_t id[SESSION_ID], uint16_t listen_port, const struct discover_events *ev, void *arg,
                    char *why, size_t why_size);
void discover_destroy(struct discover *d); /* accepts NULL */
/* Checks the form of where. 0, or -EINVAL and one sentence. */
int discover_check(const char *where, char *why, size_t why_size);
#endif
