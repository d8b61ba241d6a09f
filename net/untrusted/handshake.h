/* One handshake under way in the loop, of either end. The socket may still be connecting: then the first send waits for
 * it. */
#ifndef PPFS_HANDSHAKE_H
#define PPFS_HANDSHAKE_H
#include <event2/event.h>

#include "net/tls/tls.h"

#ifndef TCP_RTO_MAX_MS
#define TCP_RTO_MAX_MS 44
#endif

struct handshake;

/* conn (the callee takes it) with err 0, or NULL and -errno; after TLS_HANDSHAKE_MS -ETIMEDOUT, or -EHOSTDOWN where
 * not even a connection has come about. Destroy the handshake soon; from inside is fine. */
typedef void handshake_cb(void *arg, struct tls_conn *conn, int err);

/* Takes fd, also on failure. done never comes from inside. 0 or -errno. */
int handshake_create(struct handshake **out, struct event_base *base, const struct tls *tls, int fd, bool dialled,
                     handshake_cb *done, void *arg);
void handshake_destroy(struct handshake *h); /* accepts NULL; closes the connection unless done has taken it */
const char *handshake_reason(int err);       /* the rest of a sentence that begins with the peer */
void handshake_tune(int fd);                 /* socket options of all connections */
#endif
