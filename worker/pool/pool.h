/* The pool: this machine's workers. It starts the template (ppfs-worker), asks it for workers as they are needed, gives
 * each one piece of work at a time, carries output and outcome back, kills process trees, and starts again what died.
 *
 *   pool --(control socketpair)--> template --fork--> guard --fork--> worker
 *   pool <--(one socketpair and two output pipes)--> each worker
 *
 * Each user's work has workers, pipes and a template of its own; where we are not root only our own user's work is done.
 *
 * stdout and stderr of a worker are pipes whose read ends the pool holds, so output is live and nothing in the worker
 * pumps. When done arrives the pipes are drained first: output() calls for a job all come before its done().
 *
 * The process that creates a pool becomes a child subreaper, so that what a dead template leaves comes to it and can be
 * killed: children that it starts after pool_create, other than by the pool, are killed when the template dies. */
#ifndef PPFS_POOL_H
#define PPFS_POOL_H
#include <event2/event.h>

#include "worker/runner/runner.h"

struct pool;

enum pool_stream { POOL_STDOUT, POOL_STDERR, POOL_RESULT, POOL_TRACE }; /* RESULT: a call's value. TRACE: a traceback */

struct pool_config {
    const char *worker_path; /* the ppfs-worker binary */
    const char *python;      /* interpreter or virtual environment, NULL = the one built with */
    unsigned workers;        /* see pool_resize */
    unsigned keep_ms;        /* how long a template of another user's stays without work; 0: some minutes */
    bool suid_jobs;          /* set-user-ID bits count in jobs of other users, too */
    bool check_groups;       /* work comes from another machine: its users have the groups that they have here */
    bool give_back;          /* work for which no template starts is LOST, not REFUSED: there are other runners */
};

/* What a runner tells (runner.h). Called from the loop, never from inside a pool_* call. They may call any of these but
 * pool_destroy. */
struct pool_events {
    void (*output)(void *arg, uint64_t job, enum pool_stream, const void *bytes, size_t size);
    void (*done)(void *arg, uint64_t job, const struct work_outcome *);
    /* size bytes, valid during the call only; a lease's answers come in the order of its calls. */
    void (*answer)(void *arg, uint64_t lease, uint32_t number, enum pool_answer, const void *bytes, size_t size);
    void (*trouble)(void *arg, const char *sentence); /* for the log: the template died, would not start, ... */
    /* These, and trouble, may be NULL. */
    void (*python)(void *arg); /* pool_python has changed */
    void (*unable)(void *arg); /* the template ended without having come up: perhaps it never will */
    /* Of runners that are not pools (runner.h); a pool never tells them, so they may be NULL for one. */
    void (*recalled)(void *arg, uint64_t lease, uint32_t number);
    void (*room)(void *arg);
};

/* Starts the template too, and does not wait for it. 0 or -errno: no worker_path there, a python that pyenv_resolve
 * refuses (ask it for the sentence), ... */
int pool_create(struct pool **out, struct event_base *base, const struct pool_config *, const struct pool_events *,
                void *arg);
void pool_destroy(struct pool *p); /* kills everything below it, waits for it; accepts NULL */

/* How many may work at once. More: forked when needed. Fewer: idle ones leave, busy ones when they have done. */
void pool_resize(struct pool *p, unsigned workers);

/* Gives the work to an idle worker, forking one where there is none (up to the size). Copies what it needs. 0, or
 * -EAGAIN when all are busy or there are no descriptors for one more, -EMSGSIZE, -ENOMEM. Exactly one done() follows a
 * 0, be it that nobody can do the work: WORK_REFUSED, when no template will start (between two tries it waits). A job
 * id must not be given again before its done(). */
int pool_start(struct pool *p, const struct work *w);

/* A lease: pool_start with a WORK_STREAM_* kind takes a worker, which then runs calls, one after another in the order
 * sent, until pool_finish. Its done() follows that, or the worker's death. work.job names the lease. Bytes are copied;
 * they leave with pool_flush, at the latest when the loop comes round. Each of these: 0, -ENOENT: there is no such
 * lease, or it waits for a worker to be made, -ENOMEM: no memory, or more calls ahead than a worker takes (2048); in
 * both cases nothing was sent. number: higher with each call, from 1. bytes: up to 1 GiB. -EINVAL where that is not so.
 * */
int pool_call(struct pool *p, uint64_t lease, uint32_t number, enum call_format, const void *bytes, size_t size);
/* The same, of bytes that lie in that memory, which is held instead until the worker has them; NULL: they are copied.
 * */
int pool_call_loan(struct pool *p, uint64_t lease, uint32_t number, enum call_format, const void *bytes, size_t size,
                   struct loan *loan);
/* The answer to ANSWER_NEED. size 0: there is none, that call fails. */
int pool_function(struct pool *p, uint64_t lease, const uint8_t hash[32], const void *bytes, size_t size);
int pool_function_loan(struct pool *p, uint64_t lease, const uint8_t hash[32], const void *bytes, size_t size,
                       struct loan *loan);
int pool_finish(struct pool *p, uint64_t lease); /* no more calls: when all are answered, done(WORK_DONE) follows */
/* Takes back the calls from number on that have not begun. Returns the first number that will surely not run: no answer
 * comes for it and those above that were sent up to now. At once, without asking the worker. */
uint32_t pool_recall(struct pool *p, uint64_t lease, uint32_t number);
void pool_flush(struct pool *p); /* sends what was gathered, one write a worker */

/* Kills the job's whole process tree at once; its done() follows (WORK_SIGNALED, SIGKILL). Unknown job: nothing. */
void pool_kill(struct pool *p, uint64_t job);

/* Stops (true) or goes on (false) reading the job's output, for when the disk cannot follow; the job then waits.
 * What is in the pipes when it dies comes all the same. Its done() ends the hold. */
void pool_hold(struct pool *p, uint64_t job, bool hold);

/* The job in whose process tree pid runs, 0 if in none. Reads /proc, a few us a generation. */
uint64_t pool_job_of(struct pool *p, pid_t pid);

void pool_runner(struct pool *p, struct runner *out); /* valid as long as the pool is */

const char *pool_python(const struct pool *p); /* "3.11.2", "" until the template has said so */
pid_t pool_template(const struct pool *p);     /* of our own user; 0: none runs */
#endif
