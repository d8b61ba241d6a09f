/* A far, for the fleet that makes it. Nobody else includes this. */
#ifndef PPFS_FAR_INTERNAL_H
#define PPFS_FAR_INTERNAL_H
#include "net/session/session.h"
#include "worker/runner/disk.h"
#include "worker/remote/far.h"
#include "worker/runner/far_proto.h"

/* Called from the loop, never from inside a far_* call or one of its runner's. */
struct far_owner {
    void (*about)(void *arg,
                  struct far *f); /* what it is has changed, its link too; the first time it is ready to work */
    void (*lost)(void *arg, struct far *f, const char *why); /* all its work was told LOST; far_destroy it now */
};

/* Takes s, also on failure. disk outlives it. Nothing is known of the node until the first about(). 0 or -errno. */
int far_create(struct far **out, struct event_base *base, struct disk *disk, struct session *s,
               const struct far_owner *owner, void *arg);
void far_destroy(struct far *f); /* tells no events; accepts NULL; not from inside an event of its runner */

/* Before its runner is used: its name, the address it was dialled at (may be NULL); then who hears the runner. */
int far_set_name(struct far *f, const char *name, const char *dialled); /* 0 or -ENOMEM */
void far_begin(struct far *f, const struct pool_events *ev, void *arg);
const struct far_about *far_about(const struct far *f);     /* as the node says */
const struct session *far_session(const struct far *f);     /* NULL when it is lost */
uint64_t far_probe(struct far *f);                          /* session_probe of its session, which it has */
void far_hello(struct far *f, const void *id, size_t size); /* tells the node who we are */
void far_leave(struct far *f);                              /* the node is told not to come back; lost() follows */
void far_fail(struct far *f, const char *why); /* ends it; lost() follows from the loop, but the session ends at once */
void far_refuse(struct far *f, const char *why); /* the same, and the node is told why */
#endif
