/* The network process of a ppfs or ppfs-node (net/proxy/proxy.h). */
#ifndef PPFS_NETWORK_H
#define PPFS_NETWORK_H
#include "net/proxy/proxy.h"

/* proxy_create with the ppfs-net of this installation, which no sweep of strangers kills (reap.h). */
int network_create(struct proxy **out, struct event_base *base, struct tls *tls,
                   void (*log)(void *arg, const char *sentence), void *arg, char *why, size_t why_size);
#endif
