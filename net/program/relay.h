/* A relay: a connection with TLS, whose handshake is done, and a bare socket, each end of which gets what comes at the
 * other. It keeps little: when one side takes no more it does not read from the other. */
#ifndef PPFS_RELAY_H
#define PPFS_RELAY_H
#include <event2/event.h>

#include "net/tls/tls.h"

struct relay;

/* Nothing goes through it any more: err is 0 when one of the two sides has ended it, else errno of why it ends, EBADMSG
 * where what came was changed on its way. Destroy it, from inside. */
typedef void relay_ended(void *arg, struct relay *r, int err);

/* Takes conn and bare, also on failure. 0 or -errno. */
int relay_create(struct relay **out, struct event_base *base, struct tls_conn *conn, int bare, relay_ended *ended,
                 void *arg);
void relay_destroy(struct relay *r); /* accepts NULL */
#endif
