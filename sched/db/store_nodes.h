/* The store's nodes that ppfs dials, and keys of nodes. */
#ifndef PPFS_STORE_NODES_H
#define PPFS_STORE_NODES_H
#include "sched/job/job.h"

struct store;

int store_node_put(struct store *st, const char *address, int state, int cpus);
/* The secrets of keys for nodes, of 32 bytes. next: the key behind name; sets name. -ENOENT. */
int store_key_put(struct store *st, const char *name, const uint8_t secret[32]);
int store_key_delete(struct store *st, const char *name);
int store_key_next(struct store *st, char name[NODE_NAME_MAX + 1], uint8_t secret[32]);
int store_node_delete(struct store *st, const char *address);
int store_node_get(struct store *st, const char *address, int *state, int *cpus); /* -ENOENT */
/* The next node behind address ("": the first); sets address. -ENOENT */
int store_node_next(struct store *st, char address[NODE_NAME_MAX + 1], int *state, int *cpus);
#endif
