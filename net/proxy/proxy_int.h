/* Tasks for the network process (proxy.h). Its answers are checked; none comes from inside a call. */
#ifndef PPFS_PROXY_INT_H
#define PPFS_PROXY_INT_H
#include "net/untrusted/discover_core.h"
#include "net/untrusted/handshake.h"
#include "net/proxy/proxy.h"
#include "net/untrusted/acceptor.h"
#include "net/tls/tls_int.h"

struct proxy_listener;
struct proxy_shake;
struct proxy_discovery;

/* These take the descriptors, also on failure, and keep them: the next process is given them again. 0 or -errno. */
int proxy_listen(struct proxy_listener **out, struct proxy *p, int fd, const struct acceptor_events *ev, void *arg);
int proxy_discover(struct proxy_discovery **out, struct proxy *p, const struct discover_where *where,
                   const int sockets[DISCOVER_SOCKETS], const uint8_t id[SESSION_ID], uint16_t port,
                   const struct discover_core_events *ev, void *arg);
/* A handshake over a connected or connecting socket, which is taken. done comes once; destroy it after that, too. 0 or
 * -errno: -EOWNERDEAD when that process died just now. */
int proxy_shake(struct proxy_shake **out, struct proxy *p, int fd, bool dialled, handshake_cb *done, void *arg);
void proxy_listener_destroy(struct proxy_listener *l); /* these accept NULL */
void proxy_discovery_destroy(struct proxy_discovery *d);
void proxy_shake_destroy(struct proxy_shake *s);
#endif
