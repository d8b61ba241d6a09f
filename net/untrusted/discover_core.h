/* Discovery over sockets that are open: what is sent and heard there. discover.h has what it is for. */
#ifndef PPFS_DISCOVER_CORE_H
#define PPFS_DISCOVER_CORE_H
#include <event2/event.h>

#include "net/untrusted/discover_socket.h"
#include "net/session/session.h"

enum { DISCOVER_FOREIGN = 1 /* signed with another key */, DISCOVER_CLOCK /* its clock is off */, DISCOVER_REASONS };

struct discover_core;
struct discover_core_events {
    /* A node listens at that address. It must not destroy the discovery. */
    void (*found)(void *arg, const struct sockaddr_storage *at, const uint8_t id[SESSION_ID]);
    /* A packet was refused for that reason; at most one a source and minute. */
    void (*refused)(void *arg, const struct sockaddr_storage *from, int reason);
};

/* Takes the sockets, also on failure. tls must outlive it. 0 or -ENOMEM. */
int discover_core_create(struct discover_core **out, struct event_base *base, const struct tls *tls,
                         const struct discover_where *where, const int sockets[DISCOVER_SOCKETS],
                         const uint8_t id[SESSION_ID], uint16_t port, const struct discover_core_events *ev, void *arg);
void discover_core_destroy(struct discover_core *d); /* accepts NULL */
#endif
