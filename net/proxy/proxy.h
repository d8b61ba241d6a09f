/* The network process, ppfs-net: a proxy that ends TLS. Nothing of peers without a key reaches this process:
 * accepting, handshakes, records and packets of discovery are ppfs-net's, which has no privileges (jail.h), and this
 * one is given a bare socket for each connection of somebody with a key, and who it is.
 *
 * It has the keys of nodes (never the mount's secret: it cannot sign a greeting, but this process signs for each
 * connection that it says there is), the plain bytes of connections while they pass, and the sockets. Who takes it over
 * can listen to and change what goes between this ppfs and its nodes, be this ppfs to them as long as he has it,
 * pretend to be a node, end connections, send UDP by the sockets of discovery, and name addresses to which a ppfs that
 * discovers connects him. On a node he can order work as a ppfs that greets it while he is there. He has no file and no
 * process of this machine, and greetings of before are of no use to him.
 *
 * It is started when it is first needed. When it dies, or does not answer, it is started again: the connections over it
 * have ended as if the network had, and listeners and discovery go on. It dies with this process. */
#ifndef PPFS_PROXY_H
#define PPFS_PROXY_H
#include <event2/event.h>

#include "net/tls/tls.h"

struct proxy;

struct proxy_events {
    void (*log)(void *arg, const char *sentence);
    /* It runs, as a child of this process, from now on (true) or no more. May be NULL. */
    void (*child)(void *arg, pid_t pid, bool runs);
};

/* What is made of tls from now on (peer.h, discover.h, handshake.h) is that process's; keys follow. tls and program
 * (the path of ppfs-net, copied) must outlive it and it all that is made of tls, connections too. 0, or -errno and one
 * sentence. */
int proxy_create(struct proxy **out, struct event_base *base, struct tls *tls, const char *program,
                 const struct proxy_events *ev, void *arg, char *why, size_t why_size);
/* Accepts NULL. What was written into connections before they were destroyed has been sent, as far as half a second
 * allows. Not from inside a callback of what it made. */
void proxy_destroy(struct proxy *p);
#endif
