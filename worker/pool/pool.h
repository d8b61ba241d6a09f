/* The pool: this machine's workers. It starts the fork server (ppfs-worker), asks it for workers as needed, gives each
 * one piece of work at a time, carries output and outcome back, kills process trees, and starts again what died.
 *
 *   pool --(control socketpair)--> fork server --fork--> guard --fork--> worker
 *   pool <--(one socketpair and two output pipes)--> each worker
 *
 * Each user's work has workers, pipes and a fork server of its own; where we are not root only our own user's work is
 * done.
 *
 * stdout and stderr of a worker are pipes whose read ends the pool holds, so output is live and nothing in the worker
 * pumps. When done arrives the pipes are drained first: output() calls for a job all come before its done().
 *
 * The process that creates a pool becomes a child subreaper, so that what a dead fork server leaves comes to it and is
 * killed: children that it starts after pool_create, other than by the pool, are killed when the fork server dies. */
#ifndef PPFS_POOL_H
#define PPFS_POOL_H
#include <event2/event.h>

#include "worker/runner/runner.h"

struct pool;

struct pool_config {
    const char *worker_path; /* the ppfs-worker binary */
    const char *python;      /* interpreter or virtual environment, NULL = the one built with */
    unsigned workers;        /* as runner_resize has it */
    unsigned keep_ms;        /* how long a fork server of another user's stays without work; 0: some minutes */
    bool suid_jobs;          /* set-user-ID bits count in jobs of other users, too */
    bool check_groups;       /* work comes from another machine: its users have the groups that they have here */
    bool give_back;          /* work without a fork server is LOST, not REFUSED: there are other runners */
};

/* Starts the fork server too, and does not wait for it. 0 or -errno: no worker_path there, a python that pyenv_resolve
 * refuses (ask it for the sentence), ... */
int pool_create(struct pool **out, struct event_base *base, const struct pool_config *, const struct runner_events *,
                void *arg);
void pool_destroy(struct pool *p); /* kills everything below it, waits for it; accepts NULL */

/* The pool as a runner, valid as long as the pool. Work without a fork server is REFUSED (it waits between two tries);
 * a recall is answered at once, without asking the worker. */
void pool_runner(struct pool *p, struct runner *out);

/* The job in whose process tree pid runs, 0 if in none. Reads /proc, a few us a generation. */
uint64_t pool_job_of(struct pool *p, pid_t pid);

const char *pool_python(const struct pool *p); /* "3.11.2", "" until the fork server has said so */
pid_t pool_forkserver(const struct pool *p);   /* of our own user; 0: none runs */
#endif
