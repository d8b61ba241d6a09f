/* Shared by registry.c, registry_keys.c and registry_names.c. */
#ifndef PPFS_REGISTRY_INTERNAL_H
#define PPFS_REGISTRY_INTERNAL_H
#include "net/complaints.h"
#include "net/peer/discover.h"
#include "net/printable.h"
#include "worker/remote/remote_internal.h"
#include "worker/remote/registry.h"
#include "worker/runner/redial.h"

enum { STRANGERS = 64 };

struct target {
    LIST_ENTRY(target) next;
    struct registry *registry;
    struct redial *redial;
    const char *address;
    bool found, greeting;
    struct member *there; /* NULL: nobody */
};

struct member {
    char name[NODE_NAME]; /* that it was given, "": none yet; the first, as by_name compares it */
    LIST_ENTRY(member) next;
    TAILQ_ENTRY(member) queued; /* in waiting */
    struct registry *registry;
    struct remote *remote;
    void *node;
    bool up, leaving, waits;
    struct event *probe;    /* another one with its key has its name, and was asked whether it still lives ... */
    uint64_t asked, heard;  /* ... by that heartbeat, and so many bytes have come from it ... */
    unsigned probes, quiet; /* ... and this often it was looked at since, and without one more; all PROBES: it does */
};

struct registry {
    struct event_base *base;
    struct registry_events ev;
    const struct runner_events *runner;
    void *arg;
    struct mount_key *key;
    struct keyed {
        char name[KEY_NAME];
        uint8_t id[TLS_KEY_ID];
    } * keys; /* that let a node in */
    size_t key_count;
    struct tls *tls;
    struct proxy *proxy;
    struct hub *hub;
    struct disk *disk; /* reads payloads */
    struct peer_listener *listener;
    struct discover *discover;
    char where[DISCOVER_WHERE_MAX]; /* it looks, when there is one */
    struct dials dials;
    LIST_HEAD(, target) targets;
    LIST_HEAD(, member) members;
    void *by_name;                            /* those with one as a tree, tsearch(3) */
    TAILQ_HEAD(, member) waiting;             /* their ABOUT has come, and they have no name yet */
    uint8_t strangers[STRANGERS][SESSION_ID]; /* let go last: discovery does not bring them back */
    unsigned stranger;
    char id[PPFS_ID_MAX]; /* who we are */
    size_t id_size;       /* 0: nobody in particular */
    struct complaints complaints;
};

#define registry_log(f, ...) sentence_tell((f)->ev.log, (f)->arg, __VA_ARGS__)

void registry_member_up(struct member *m); /* it has said what it is, or a name has become free */

/* registry_names.c. It has that name from now on; it has none any more. 0 or -ENOMEM. */
int registry_name(struct member *m, const char *name);
void registry_unname(struct member *m);
/* The name it says, with a number where another has it. False: it was refused, or whoever has the
 * name is dead or may be; then registry_member_up is called again. */
bool registry_choose_name(struct member *m, char name[NODE_NAME]);

/* registry_keys.c */
const struct keyed *registry_key_of(const struct registry *f, const uint8_t id[TLS_KEY_ID]); /* NULL: it was revoked */
const struct keyed *registry_key_named(const struct registry *f, const char *name);          /* NULL: there is none */
/* Who this ppfs is, in a file that is made at the first start. 0, or -errno and one sentence. */
int registry_read_id(struct registry *f, const char *path, char *why, size_t why_size);
#endif
