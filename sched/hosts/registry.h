/* The hosts that are nodes, and their keys. Only sched/ includes this. */
#ifndef PPFS_SCHED_REGISTRY_H
#define PPFS_SCHED_REGISTRY_H
#include "sched/hosts/host.h"

/* registry.c: the nodes */
/* makes the key and the registry, and loads the nodes. 0 or -errno */
int registry_make(struct sched *s, char *why, size_t why_size);
/* keys.c. fresh: no node can have got a key of this mount yet, unless of another state directory. 0 or -errno. */
int keys_make(struct sched *s, bool fresh);
void keys_free(struct sched *s);
void keys_committed(struct sched *s);
void keys_rolled_back(struct sched *s);
void host_committed(struct sched *s);   /* carries out orders of nodes/ */
void host_rolled_back(struct sched *s); /* nodes/ is again as committed */
void host_vacant(struct host *h);       /* a run or lease has left it: it goes if it is to, and has no other */
#endif
