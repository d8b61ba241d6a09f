/* A remote, for the registry that makes it. Nobody else includes this. */
#ifndef PPFS_REMOTE_INTERNAL_H
#define PPFS_REMOTE_INTERNAL_H
#include "net/session/session.h"
#include "worker/runner/disk.h"
#include "worker/remote/remote.h"
#include "worker/runner/messages.h"
#include "worker/runner/node_about.h"

/* Called from the loop, never from inside a remote_* call or one of its runner's. */
struct remote_owner {
    /* what it is has changed, its link too; the first time it is ready to work */
    void (*about)(void *arg, struct remote *f);
    void (*lost)(void *arg, struct remote *f, const char *why); /* all its work was told LOST; remote_destroy it now */
};

/* Takes s, also on failure. disk outlives it. Nothing is known of the node until the first about(). 0 or -errno. */
int remote_create(struct remote **out, struct event_base *base, struct disk *disk, struct session *s,
                  const struct remote_owner *owner, void *arg);
void remote_destroy(struct remote *f); /* tells no events; accepts NULL; not from inside an event of its runner */

/* Before its runner is used: its name, the address it was dialled at (may be NULL); then who hears the runner. */
int remote_set_name(struct remote *f, const char *name, const char *dialled); /* 0 or -ENOMEM */
void remote_begin(struct remote *f, const struct runner_events *ev, void *arg);
const struct session *remote_session(const struct remote *f);     /* NULL when it is lost */
uint64_t remote_probe(struct remote *f);                          /* session_probe of its session, which it has */
void remote_hello(struct remote *f, const void *id, size_t size); /* tells the node who we are */
void remote_leave(struct remote *f); /* the node is told not to come back; lost() follows */
/* ends it; lost() follows from the loop, but the session ends at once */
void remote_fail(struct remote *f, const char *why);
void remote_refuse(struct remote *f, const char *why); /* the same, and the node is told why */
#endif
