/* The registry: all nodes of a ppfs. It dials those it is told of, again and again with growing pauses, lets in those
 * that dial, looks for them in the local network, and tells who is there. Peers without a key are not heard. */
#ifndef PPFS_REGISTRY_H
#define PPFS_REGISTRY_H
#include "worker/remote/remote.h"

struct registry;

struct registry_config {
    const char *key_file; /* the secret of the mount; registry_create reads it */
    /* keeps who this ppfs is; made at the first start. With it nodes know at once that a ppfs was started again, and
     * end what they run for its predecessor. May be NULL */
    const char *id_file;
    const char *listen;                 /* "ADDR:PORT" for nodes that dial in, NULL: none may */
    unsigned silence_ms;                /* a node of which nothing is heard so long is lost; 0: 5000 */
    const struct runner_events *runner; /* events of all nodes' runners; their arg is what up() returned */
};

/* Called from the loop, never from inside a registry_* call (dialling apart). arg is registry_create's. */
struct registry_events {
    /* A node is here; remote stays valid until gone() returns. Returns the arg for its events; NULL: it is not
     * wanted, and is let go. */
    void *(*up)(void *arg, struct remote *remote);
    /* remote_cpus, remote_python, remote_draining, or remote_linked */
    void (*changed)(void *node, struct remote *remote);
    /* after done() of all its work. why: one sentence */
    void (*gone)(void *node, struct remote *remote, const char *why);
    /* A dial failed, and another follows; or the node there is here under another name. */
    void (*dialling)(void *arg, const char *address, const char *why);
    void (*log)(void *arg, const char *sentence);
};

/* 0 or -errno, and why is then one sentence that says what is wrong and what to do. */
int registry_create(struct registry **out, struct event_base *base, const struct registry_config *,
                    const struct registry_events *, void *arg, char *why, size_t why_size);
/* Tells the nodes that this ppfs ends (they kill what they run for it) and tells no more events; accepts NULL. */
void registry_destroy(struct registry *f);

/* the name of the key for any number of nodes; each other key is that of the node of its name */
#define REGISTRY_JOIN "join"
struct registry_key {
    char name[64];
    uint8_t secret[32];
};
/* Sets the keys that let nodes in; nodes with other keys are lost. 0, or -errno: the old keys stay. */
int registry_set_keys(struct registry *f, const struct registry_key *keys, size_t count);
#define REGISTRY_KEY_TEXT 320u
/* its file; the length */
size_t registry_key_text(const struct registry *f, const struct registry_key *key, char buf[REGISTRY_KEY_TEXT]);
/* Makes the file of that key, mode 0600, in place of what is there; NULL: removes it. 0 or -errno. */
int registry_key_write(const struct registry *f, const struct registry_key *key, const char *path);
/* The first key named REGISTRY_JOIN: the one in that file, where this mount made it; else the one that all mounts with
 * this secret begin with. found: it was in the file. 0 or -errno. */
int registry_first_key(const struct registry *f, const char *path, struct registry_key *out, bool *found);

/* Dials HOST:PORT until registry_undial. 0, -EEXIST, -EINVAL: no HOST:PORT, -ENOMEM. */
int registry_dial(struct registry *f, const char *address);
/* ends dialling; a node that is here stays. 0 or -ENOENT */
int registry_undial(struct registry *f, const char *address);
/* Lets a node go (work that it has is LOST): it is told not to come back, its address is undialled, and gone()
 * follows. */
void registry_let_go(struct registry *f, struct remote *remote);

/* "ADDR:PORT" that nodes may join, "" when it does not listen */
const char *registry_address(const struct registry *f);
/* Looks for nodes in the local networks: where is as in discover.h ("" everywhere), NULL: no more. 0, or -errno
 * (-EINVAL: that is no place) and nothing has changed. */
int registry_discover(struct registry *f, const char *where);
const char *registry_discovers(const struct registry *f); /* where; NULL: nowhere */
#endif
