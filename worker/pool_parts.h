/* What the files of the pool call of each other. Nobody else includes it. */
#ifndef PPFS_POOL_PARTS_H
#define PPFS_POOL_PARTS_H
#include "worker/pool_internal.h"

void pool_trouble(struct pool *p, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* --- pool_template.c: the template process --- */
int template_open(struct pool *p);    /* starts it; 0 or -errno, nothing to close then but by template_close */
void template_close(struct pool *p);  /* ends it and everything below, waits up to a few seconds */
bool template_usable(struct pool *p); /* starts one where it may; false while it is paused after failures */
void template_watch(struct pool *p);  /* it has something to do: looks now and then whether it does it */

/* --- pool_orders.c: what it is told --- */
/* Sends SPAWN; fds stay the caller's. 0, -EBUSY: enough is asked for already, wait_over comes, or -errno. */
int template_spawn(struct pool *p, uint64_t serial, const int fds[SPAWN_FDS]);
bool template_busy(const struct pool *p); /* enough is asked for already */
void template_kill(struct pool *p, uint64_t serial);
void template_writable(evutil_socket_t fd, short what, void *arg); /* the event of its socket, for a pool */

/* --- pool_pipes.c: output --- */
int pipe_open(struct pool *p); /* what all share. 0 or -ENOMEM */
void pool_drain(struct slot *s); /* tells all output that is in the pipes */
int pipe_listen(struct slot *s, enum pool_stream stream, int fd); /* fd is the slot's from now on. 0 or -errno */

/* --- pool_wait.c: accepted work that no worker has --- */
int wait_open(struct pool *p); /* 0 or -ENOMEM */
void wait_close(struct pool *p);
/* done() follows from the loop, with this end and why. 0 or -ENOMEM. */
int wait_refuse(struct pool *p, uint64_t job, const struct work_outcome *o);
int wait_refuse_start(struct pool *p, const struct work *w, int err); /* the same: no worker, for err */
/* Keeps bytes of work_encode (then its own) until pool_give takes it. 0 or -ENOMEM. */
int wait_add(struct pool *p, uint64_t job, void *bytes, uint32_t size);
void wait_over(struct pool *p); /* gives what waits, as far as it can be given */
void wait_soon(struct pool *p); /* the same, from the loop */
/* Whatever waits ends so: taken out of the list by wait_take_all, told by wait_end_all. */
struct waiting *wait_take_all(struct pool *p);
void wait_end_all(struct pool *p, struct waiting *list, const struct work_outcome *o);
void wait_hold(struct pool *p, uint64_t job, bool hold);     /* from its beginning on */
bool wait_end(struct pool *p, uint64_t job, struct work_outcome *o); /* ends it so; false when it does not wait */

/* --- pool_wait.c: leases, and the calls that wait in their workers --- */
int ahead_open(struct slot *s, int *fd); /* the worker's page; the caller closes *fd. 0 or -errno */
void ahead_close(struct slot *s);
void ahead_begin(struct slot *s);                       /* the slot's job, just given to it, is a lease */
bool ahead_told(struct slot *s, const struct frame *f); /* takes an ANSWER; false: it makes no sense */
void ahead_output(struct slot *s);                      /* tells what is fresh */

/* --- pool.c, called by pool_template.c and pool_wait.c --- */
/* Gives the work to a worker. bytes: of work_encode, the caller's. 0; -EBUSY: it has to wait for a worker; -EAGAIN: there are not
 * enough descriptors for one; or -errno. */
int pool_give(struct pool *p, const struct work *w, const void *bytes, uint32_t size);
struct slot *pool_slot(struct pool *p, uint64_t job); /* the busy one that has it, or NULL */
void pool_on_spawned(struct pool *p, uint64_t serial, int value);
void pool_on_exited(struct pool *p, const struct control *c);
void pool_on_template_gone(struct pool *p, bool refused); /* every slot ends; work that waits too: LOST, or REFUSED */
#endif
