/* Peers: connections from and to holders of a key. Until a key was shown only the TLS library reads the bytes, and a
 * peer without one costs a descriptor for five seconds at most.
 *
 * Addresses are "HOST:PORT" or "[V6]:PORT". All of it happens in the loop; a name is looked up in a thread of its
 * own. */
#ifndef PPFS_PEER_H
#define PPFS_PEER_H
#include <event2/event.h>

#include "net/tls/tls.h"

struct peer_listener;
struct peer_dial;

struct peer_listener_events {
    /* A peer with a key has come from that address. Takes conn. */
    void (*accepted)(void *arg, struct tls_conn *conn, const char *address);
    /* A sentence for the log about a refused peer; at most one a source and minute. May not destroy the listener. */
    void (*refused)(void *arg, const char *sentence);
};

/* Checks the form of an address. 0, or -EINVAL and one sentence. Port 0 is an address to listen on, not to dial. */
int peer_check_address(const char *address, bool dial, char *why, size_t why_size);

/* Listens; port 0 picks one. tls must outlive it. 0, or -errno and one sentence. */
int peer_listen(struct peer_listener **out, struct event_base *base, const struct tls *tls, const char *address,
                const struct peer_listener_events *ev, void *arg, char *why, size_t why_size);
const char *peer_listener_address(const struct peer_listener *l); /* with the port that it has; valid until destroyed */
void peer_listener_destroy(struct peer_listener *l);              /* accepts NULL */

/* Dials. done comes once, never from inside peer_dial, unless the dial is destroyed before: conn (the callee takes it)
 * or NULL and a sentence. It must be destroyed after done as well; from inside done is fine. tls must outlive it. 0 or
 * -errno. */
typedef void peer_dial_cb(void *arg, struct tls_conn *conn, const char *why);
int peer_dial(struct peer_dial **out, struct event_base *base, const struct tls *tls, const char *address,
              peer_dial_cb *done, void *arg);
void peer_dial_destroy(struct peer_dial *d); /* accepts NULL; cancels */
#endif
