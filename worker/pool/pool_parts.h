/* What the files of the pool call of each other; pool.c is above them. Nobody else includes it. */
#ifndef PPFS_POOL_PARTS_H
#define PPFS_POOL_PARTS_H
#include "net/printable.h"
#include "worker/pool/pool_internal.h"

/* --- pool_users.c: which fork servers there are --- */
int users_open(struct pool *p);   /* starts the own one; 0 or -errno, nothing to close then but by users_close */
void users_close(struct pool *p); /* ends all of them and everything below, waits up to a few seconds */
/* The one whose workers run that user's work; NULL: no memory, no directory for it (errno). It need not run. */
struct forkserver *users_forkserver(struct pool *p, uid_t uid);
bool users_busy(const struct forkserver *t); /* it has work, or work waits for it */
/* Idle workers go, of all users, and idle fork servers of other users: there are not enough processes, or descriptors.
 * Whether there were any such workers. */
bool users_make_room(struct pool *p);
void users_sweep(struct pool *p); /* what a dead fork server has left is killed, now and in the next few milliseconds */

/* --- pool_forkserver.c: a fork server process --- */
struct forkserver *forkserver_new(struct pool *p, uid_t uid); /* none runs yet. NULL with errno */
void forkserver_free(struct forkserver *t); /* it does not run, and nothing is its any more; accepts NULL */
int forkserver_start(struct forkserver *t); /* 0 or -errno, and none runs then */
/* starts one where it may; false while it is paused after failures, or ends */
bool forkserver_usable(struct forkserver *t);
void forkserver_end(struct forkserver *t);   /* tells one without work to leave; it is freed when it has */
void forkserver_close(struct forkserver *t); /* the same, and is heard no more */
void forkserver_bury(struct forkserver *t);  /* waits for a process that leaves, or kills it */

/* --- pool_slot.c: a slot --- */
struct slot *pool_slot(struct pool *p, uint64_t job); /* the busy one that has it, or NULL */
unsigned slots_count(const struct pool *p, bool busy_only);
struct slot *slot_empty(struct pool *p); /* NULL without memory */
/* Asks t for a worker in an empty slot. 0 or -errno, the slot being empty then. */
int slot_open(struct slot *s, struct forkserver *t);
void slot_close(struct slot *s);
void slot_begin(struct slot *s, const struct order *o); /* an IDLE one is BUSY with it */
void slot_hold(struct slot *s, bool hold);
struct slot *slot_oldest_idle(const struct pool *p); /* idle for the longest; NULL: none is */
/* Now and then: more workers cannot be had, for what. */
void slots_tell_short(struct pool *p, const char *what);
void pool_on_spawned(struct forkserver *t, uint64_t serial, int value);
void pool_on_exited(struct forkserver *t, const struct control *c);
/* Every slot of it ends; work that waits for it too: LOST, or REFUSED. */
void pool_on_forkserver_gone(struct forkserver *t, bool refused);

/* --- pool_lease.c: leases, and the calls that wait in their workers --- */
int ahead_create(struct pool *p);        /* what all share. 0 or -ENOMEM */
int ahead_open(struct slot *s, int *fd); /* the worker's page; the caller closes *fd. 0 or -errno */
void ahead_close(struct slot *s);
void ahead_begin(struct slot *s);                       /* the slot's job, just given to it, is a lease */
bool ahead_told(struct slot *s, const struct frame *f); /* takes an ANSWER; false: it makes no sense */
/* As runner_ops has them. */
int pool_call(void *self, uint64_t lease, uint32_t number, enum call_format format, const void *bytes, size_t size,
              struct shared_buffer *shared);
int pool_function(void *self, uint64_t lease, const uint8_t hash[FUNCTION_HASH], const void *bytes, size_t size,
                  struct shared_buffer *shared);
int pool_piece(void *self, uint64_t lease, uint32_t number, const void *bytes, size_t size,
               struct shared_buffer *shared);
int pool_finish(void *self, uint64_t lease);
uint32_t pool_recall(void *self, uint64_t lease, uint32_t number);
void pool_flush(void *self);

/* --- pool_pipes.c: output --- */
int pipe_open(struct pool *p);                                    /* what all share. 0 or -ENOMEM */
void pool_drain(struct slot *s);                                  /* tells all output that is in the pipes */
int pipe_listen(struct slot *s, enum output_kind stream, int fd); /* fd is the slot's from now on. 0 or -errno */

/* --- pool_orders.c: what it is told --- */
/* Sends SPAWN; fds stay the caller's. 0, -EBUSY: enough is asked for already, `soon` comes, or -errno. */
int forkserver_spawn(struct forkserver *t, uint64_t serial, const int fds[SPAWN_FDS]);
bool forkserver_busy(const struct forkserver *t); /* enough is asked for already */
void forkserver_watch(struct forkserver *t);      /* it has something to do: looks now and then whether it does it */
void forkserver_kill(struct forkserver *t, uint64_t serial);
void forkserver_writable(evutil_socket_t fd, short what, void *arg); /* the event of its socket, for a fork server */

/* --- pool_wait.c: accepted work that no worker has --- */
#define pool_trouble(p, ...) sentence_tell((p)->ev.trouble, (p)->arg, __VA_ARGS__)
void wait_close(struct pool *p);
/* done() follows from the loop, with this end and why. 0 or -ENOMEM. */
int wait_refuse(struct pool *p, uint64_t job, const struct work_outcome *o);
int wait_refuse_start(struct pool *p, uint64_t job, uint32_t attempt, int err); /* the same: no worker, for err */
void wait_tell_refused(struct pool *p);
int wait_add(struct forkserver *t, const struct order *o); /* its bytes are the list's then. 0 or -ENOMEM */
void wait_remove(struct waiting *w);
/* Waiting work is given out where possible, and refusals are told, from the loop. */
void wait_soon(struct pool *p);
void wait_drop(struct forkserver *t); /* forgets what waits for it, untold */
/* Whatever waits for it ends so: taken out of the list by wait_take_all, told by wait_end_all. */
struct waiting *wait_take_all(struct forkserver *t);
void wait_end_all(struct pool *p, struct waiting *list, const struct work_outcome *o);
void wait_hold(struct pool *p, uint64_t job, bool hold);             /* from its beginning on */
bool wait_end(struct pool *p, uint64_t job, struct work_outcome *o); /* ends it so; false when it does not wait */
#endif
