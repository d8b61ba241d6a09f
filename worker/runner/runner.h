/* A runner: what can run work. The pool of this machine is one (pool.h), a node somewhere else is another (remote.h);
 * the scheduler knows no difference but their slots and how far away they are. Distance makes these things different:
 * - call, function: -ENOMEM also when too much is on its way already. The event room() says when to try again.
 * - recall: the first number that will surely not run where that is known at once. Else RUNNER_LATER, and the event
 *   recalled() says that number later, in order with the answers, about the calls that were sent before the recall. No
 *   recalled() comes for a lease that ends first.
 * - a runner that is lost tells done(WORK_LOST) for each work it had, and then takes no more (start: -EPIPE). */
#ifndef PPFS_RUNNER_H
#define PPFS_RUNNER_H
#include "net/session/shared_buffer.h"
#include "worker/runner/work.h"

#define RUNNER_LATER UINT32_MAX

/* A call's value, a traceback, the pack of a work with files_out. */
enum output_kind { OUTPUT_STDOUT, OUTPUT_STDERR, OUTPUT_RESULT, OUTPUT_TRACE, OUTPUT_FILES };

/* Called from the loop, never from inside a call of the runner; they may make any of those. */
struct runner_events {
    void (*output)(void *arg, uint64_t job, enum output_kind, const void *bytes, size_t size);
    void (*done)(void *arg, uint64_t job, const struct work_outcome *); /* after all output of that job */
    /* size bytes, valid during the call only; a lease's answers come in the order of its calls. */
    void (*answer)(void *arg, uint64_t lease, uint32_t number, enum answer_kind, const void *bytes, size_t size);
    /* All that follow may be NULL. */
    void (*trouble)(void *arg, const char *sentence); /* for the log: the fork server died, would not start, ... */
    void (*recalled)(void *arg, uint64_t lease, uint32_t number); /* of a node, as the next */
    void (*room)(void *arg);
    void (*python)(void *arg); /* of a pool, as the next: pool_python has changed */
    void (*unable)(void *arg); /* the fork server ended without having come up: perhaps it never will */
};

struct runner_ops { /* see the functions below */
    int (*start)(void *self, const struct work *w);
    int (*call)(void *self, uint64_t lease, uint32_t number, enum call_format format, const void *bytes, size_t size,
                struct shared_buffer *shared);
    int (*function)(void *self, uint64_t lease, const uint8_t hash[32], const void *bytes, size_t size,
                    struct shared_buffer *shared);
    int (*finish)(void *self, uint64_t lease);
    uint32_t (*recall)(void *self, uint64_t lease, uint32_t number);
    void (*flush)(void *self);
    void (*kill)(void *self, uint64_t job);
    void (*hold)(void *self, uint64_t job, bool hold);
    void (*resize)(void *self, unsigned slots);
    int (*piece)(void *self, uint64_t lease, uint32_t number, const void *bytes, size_t size,
                 struct shared_buffer *shared); /* a pool's */
};

struct runner {
    const struct runner_ops *ops;
    void *self;
};

/* Gives the work to a slot. Copies what it needs. 0, or -EAGAIN when all are busy or there are no descriptors for one
 * more, -EMSGSIZE, -ENOMEM. Exactly one done() follows a 0, be it that nobody can do the work: WORK_REFUSED. A job id
 * must not be given again before its done(). */
static inline int runner_start(struct runner r, const struct work *w) {
    return r.ops->start(r.self, w);
}

/* A lease: start with a WORK_STREAM_* kind takes a slot, which then runs calls, one after another in the order sent,
 * until finish. Its done() follows that, or the worker's death. work.job names the lease. What is sent leaves with
 * flush, at the latest when the loop comes round. Each of these: 0, -ENOENT: there is no such lease, or it waits for a
 * worker to be made, -ENOMEM: no memory, or more calls ahead than a worker takes (2048); in both cases nothing was
 * sent. number: higher with each call, from 1. bytes: up to 1 GiB; -EINVAL where that is not so. They are copied, or,
 * where they lie in the memory of a shared, that is held until they are out. */
static inline int runner_call(struct runner r, uint64_t lease, uint32_t number, enum call_format format,
                              const void *bytes, size_t size, struct shared_buffer *shared) {
    return r.ops->call(r.self, lease, number, format, bytes, size, shared);
}

/* The answer to ANSWER_NEED. size 0: there is none, that call fails. */
static inline int runner_function(struct runner r, uint64_t lease, const uint8_t hash[32], const void *bytes,
                                  size_t size, struct shared_buffer *shared) {
    return r.ops->function(r.self, lease, hash, bytes, size, shared);
}

/* The next bytes of a call, or, where number is 0, of the answer to ANSWER_NEED from its hash on; what is left of them
 * follows by runner_call, or by runner_function with hash NULL, and nothing else is sent to that lease meanwhile. Only
 * a pool has it. As runner_call; -ENOMEM also where the worker has not read what it was sent before. */
static inline int runner_piece(struct runner r, uint64_t lease, uint32_t number, const void *bytes, size_t size,
                               struct shared_buffer *shared) {
    return r.ops->piece(r.self, lease, number, bytes, size, shared);
}

/* No more calls: when all are answered, done(WORK_DONE) follows. */
static inline int runner_finish(struct runner r, uint64_t lease) {
    return r.ops->finish(r.self, lease);
}

/* Takes back the calls from number on that have not begun. Returns the first number that will surely not run: no answer
 * comes for it and those above that were sent up to now. Or RUNNER_LATER. */
static inline uint32_t runner_recall(struct runner r, uint64_t lease, uint32_t number) {
    return r.ops->recall(r.self, lease, number);
}

/* Sends what was gathered, one write a worker. */
static inline void runner_flush(struct runner r) {
    r.ops->flush(r.self);
}

/* Kills the job's whole process tree at once; its done() follows (WORK_SIGNALED, SIGKILL). Unknown job: nothing. */
static inline void runner_kill(struct runner r, uint64_t job) {
    r.ops->kill(r.self, job);
}

/* Stops (true) or goes on (false) reading the job's output, for when the disk cannot follow; the job then waits. What
 * is in the pipes when it dies comes all the same. Its done() ends the hold. */
static inline void runner_hold(struct runner r, uint64_t job, bool hold) {
    r.ops->hold(r.self, job, hold);
}

/* How many works may run at once. More: forked when needed. Fewer: idle ones leave, busy ones when they have done. */
static inline void runner_resize(struct runner r, unsigned slots) {
    r.ops->resize(r.self, slots);
}
#endif
