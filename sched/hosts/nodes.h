/* Nodes as nodes/ has them: a part of sched.h. */
#ifndef PPFS_SCHED_NODES_H
#define PPFS_SCHED_NODES_H
#include "sched/job/job.h"
#include "sched/turn/config.h"
#include "worker/runner/resources.h"

enum node_state { NODE_UP, NODE_DRAIN, NODE_DOWN };
struct node {
    char name[NODE_NAME_MAX + 1];
    enum node_state state;
    unsigned cpus, running; /* slots; those in use */
    uint64_t done, failed;
    double seconds; /* of run time */
    char python[64];
    char address[128];
    int64_t seen; /* microseconds since the epoch */
    /* one sentence: why it is away, gets less work than it could, or no pickles; "": all is well */
    char why[400];
    char resources[RESOURCE_KINDS * 32]; /* a line each: "gpu 2 4", taken and there are */
    bool pickles;                        /* its Python understands what this machine's pickles */
};
/* asker: to whom it is shown. -ENOENT */
int sched_node(struct sched *s, uint64_t id, uid_t asker, struct node *out);
int sched_find_node(struct sched *s, const char *name, uint64_t *id); /* -ENOENT */
struct nodes_sum {
    unsigned slots; /* of nodes that are up */
    uint64_t ended; /* on all that are here */
};
struct nodes_sum sched_sum_nodes(const struct sched *s);
/* brief: only name, state, cpus, running, done, failed and seconds are filled in. */
int sched_list_nodes(struct sched *s, bool brief, bool (*each)(void *arg, const struct node *), void *arg);
/* Their names in order of their ids, beginning after that id; 0: from the first. */
void sched_page_nodes(struct sched *s, uint64_t after, bool (*each)(void *arg, const char *name, uint64_t id),
                      void *arg);
uint64_t sched_node_id(const char *name);                             /* 56 bits, not 0 */
int sched_set_cpus(struct sched *s, const char *node, unsigned cpus); /* -EINVAL over 4096 */
int sched_set_node_state(struct sched *s, const char *node, enum node_state state);
const char *node_state_name(enum node_state s);
/* Dials HOST:PORT, now and at every start, until it is removed. -EEXIST, -EINVAL: no HOST:PORT, -ENAMETOOLONG. */
int sched_add_node(struct sched *s, const char *address);
/* Removes it from the list at once, and disconnects it after its work has ended. -EBUSY: this machine. */
int sched_remove_node(struct sched *s, const char *name);
/* Keys of nodes: "join" for any number of nodes, any other for the node of that name. A new key is random. -EEXIST,
 * -EINVAL: no name of a node, -ENOSPC. Removing a key revokes it: nodes that joined with it are lost. */
int sched_add_key(struct sched *s, const char *name);
int sched_remove_key(struct sched *s, const char *name);
int sched_find_key(struct sched *s, const char *name, uint64_t *id);
#define SCHED_KEY_TEXT 320u
/* its file; NULL: only whether it is there. -ENOENT */
int sched_key(struct sched *s, uint64_t id, char text[SCHED_KEY_TEXT]);
void sched_page_keys(struct sched *s, uint64_t after, bool (*each)(void *arg, const char *name, uint64_t id),
                     void *arg);
/* "HOST:PORT" that nodes may join, with this machine's name if it listens at all addresses; "": none. */
void sched_listens(struct sched *s, char buf[256]);
/* Where discovery looks for nodes: NULL nowhere, "" in the local networks, or GROUP%INTERFACE:PORT. set: 0, -EINVAL,
 * -errno. */
const char *sched_discovers(struct sched *s);
int sched_set_discover(struct sched *s, const char *where);
#endif
