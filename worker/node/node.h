/* ppfs-node: lends this machine's processors to ppfs's elsewhere. node_args.c reads the command line, node.c is the
 * life of the node. */
#ifndef PPFS_NODE_H
#define PPFS_NODE_H
#include <stdbool.h>
#include <stddef.h>

#include "net/tls/key.h"
#include "worker/node/agent.h"

enum { NODE_JOINS = 64 };

struct node_args {
    const char *listen;            /* NULL: nobody may dial in, but with discover anybody with the key */
    const char *joins[NODE_JOINS]; /* addresses to dial */
    unsigned join_count;
    bool discover;
    const char *where; /* group, interface and port for it; NULL: the usual ones */
    const char *key_file;
    const char *python, *pid_file;
    char name[NODE_NAME];
    unsigned cpus, idle_exit_s /* 0: never */, silence_ms;
    bool suid_jobs, root_jobs, named; /* the last: name was given */
    struct resources resources;
    struct node_uids uids; /* whose works it takes; none, where we are not root: all */
    bool help, version;
    char key_path[4096]; /* what key_file points to when it was not named */
};

/* Reads the command line; strings point into it. 0, or -EINVAL after a line on stderr. */
int node_args_read(struct node_args *a, int argc, char **argv);
void node_args_help(void);
/* A line on stderr, for the log. */
void node_say(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Writes our number into --pid-file. 0, or -errno and one sentence. */
int node_pid_file(const char *path, char *why, size_t size);

/* TLS with the key of the key file, and the name that it is for, where it is for one. 0, or -errno and one sentence. */
int node_tls(const struct node_args *a, struct node_key *key, char name[NODE_NAME], struct tls **out, char *why,
             size_t size);
/* So many slots as there are descriptors for: what a ppfs sends here is for one of them. */
unsigned node_slots(unsigned wanted);
/* The pool of its workers, which the agent is given. 0, or -errno and one sentence. */
int node_pool(const struct node_args *a, unsigned cpus, struct event_base *base, struct agent *agent, struct pool **out,
              char *why, size_t size);
/* Runs until a signal, idleness or the last ppfs ends it. The exit status; a failed start is a line on stderr. */
int node_run(const struct node_args *a);
#endif
