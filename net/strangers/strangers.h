/* Who comes to a listening socket, until he has shown a key. Nothing that he sends is looked at by anybody but the TLS
 * library, and he costs a descriptor for five seconds at most. */
#ifndef PPFS_STRANGERS_H
#define PPFS_STRANGERS_H
#include <event2/event.h>
#include <sys/socket.h>

#include "net/tls/tls.h"

#define STRANGERS_MAX 64u /* under way at once; one more costs the busiest source its oldest */

struct strangers;

struct strangers_events {
    /* Somebody with a key. Takes conn. It may destroy the strangers. */
    void (*known)(void *arg, struct tls_conn *conn, const struct sockaddr_storage *from);
    /* Somebody was refused, with -errno of handshake_reason; at most one a source and minute. It may not destroy them.
     * */
    void (*refused)(void *arg, const struct sockaddr_storage *from, int err);
};

/* Takes the listening socket, also on failure. tls must outlive it. 0 or -ENOMEM. */
int strangers_create(struct strangers **out, struct event_base *base, const struct tls *tls, int fd,
                     const struct strangers_events *ev, void *arg);
void strangers_destroy(struct strangers *l); /* accepts NULL */
#endif
