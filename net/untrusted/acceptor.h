/* Peers at a listening socket, until they have shown a key. Only the TLS library reads their bytes, and each costs a
 * descriptor for five seconds at most. */
#ifndef PPFS_ACCEPTOR_H
#define PPFS_ACCEPTOR_H
#include <event2/event.h>
#include <sys/socket.h>

#include "net/tls/tls.h"

#define CANDIDATES_MAX 64u /* under way at once; one more costs the busiest source its oldest */

struct acceptor;

struct acceptor_events {
    /* A peer has shown a key. Takes conn; may destroy the acceptor. */
    void (*known)(void *arg, struct tls_conn *conn, const struct sockaddr_storage *from);
    /* A peer was refused, with -errno of handshake_reason; at most one a source and minute. It may not destroy it. */
    void (*refused)(void *arg, const struct sockaddr_storage *from, int err);
};

/* Takes the listening socket, also on failure. tls must outlive it. 0 or -ENOMEM. */
int acceptor_create(struct acceptor **out, struct event_base *base, const struct tls *tls, int fd,
                    const struct acceptor_events *ev, void *arg);
void acceptor_destroy(struct acceptor *l); /* accepts NULL */
#endif
