/* The store's nodes that ppfs dials, and keys of nodes. */
#ifndef PPFS_STORE_NODES_H
#define PPFS_STORE_NODES_H
#include "sched/job/job.h"

struct store;

int store_node_put(struct store *st, const char *address, int state, int cpus);
/* The secrets of keys for nodes, of 32 bytes. next: that behind name, which becomes its; -ENOENT. */
int store_key_put(struct store *st, const char *name, const uint8_t secret[32]);
int store_key_delete(struct store *st, const char *name);
int store_key_next(struct store *st, char name[NODE_NAME_MAX + 1], uint8_t secret[32]);
int store_node_delete(struct store *st, const char *address);
int store_node_get(struct store *st, const char *address, int *state, int *cpus); /* -ENOENT */
/* The one behind address, "" = the first. -ENOENT */
int store_node_next(struct store *st, char address[NODE_NAME_MAX + 1], int *state, int *cpus);
#endif
