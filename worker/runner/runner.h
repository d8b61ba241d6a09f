/* A runner: something that can run work. The pool of this machine is one (pool_runner), a node somewhere else is
 * another (remote_runner); the scheduler knows no difference but their slots and how far away they are.
 *
 * Each call means what the pool_* of the same name says (pool.h), and its events are struct pool_events, with the arg
 * that was given when the runner was made. Distance makes these things different:
 * - call, function: -ENOMEM also when too much is on its way already. The event room() says when to try again.
 * - recall: the first number that will surely not run where that is known at once. Else RUNNER_LATER, and the event
 *   recalled() says that number later, in order with the answers, about the calls that were sent before the recall. No
 *   recalled() comes for a lease that ends first.
 * - a runner that is lost tells done(WORK_LOST) for each work it had, and then takes no more (start: -EPIPE). */
#ifndef PPFS_RUNNER_H
#define PPFS_RUNNER_H
#include "net/session/loan.h"
#include "worker/runner/work.h"

#define RUNNER_LATER UINT32_MAX

struct runner_ops {
    int (*start)(void *self, const struct work *w);
    int (*call)(void *self, uint64_t lease, uint32_t number, enum call_format format, const void *bytes, size_t size,
                struct loan *loan);
    int (*function)(void *self, uint64_t lease, const uint8_t hash[32], const void *bytes, size_t size,
                    struct loan *loan);
    int (*finish)(void *self, uint64_t lease);
    uint32_t (*recall)(void *self, uint64_t lease, uint32_t number);
    void (*flush)(void *self);
    void (*kill)(void *self, uint64_t job);
    void (*hold)(void *self, uint64_t job, bool hold);
    void (*resize)(void *self, unsigned slots);
};

struct runner {
    const struct runner_ops *ops;
    void *self;
};

static inline int runner_start(struct runner r, const struct work *w) {
    return r.ops->start(r.self, w);
}

static inline int runner_call(struct runner r, uint64_t lease, uint32_t number, enum call_format format,
                              const void *bytes, size_t size) {
    return r.ops->call(r.self, lease, number, format, bytes, size, NULL);
}

/* The bytes lie in that memory, and the runner may hold it instead of copying them; NULL: they are copied. */
static inline int runner_call_loan(struct runner r, uint64_t lease, uint32_t number, enum call_format format,
                                   const void *bytes, size_t size, struct loan *loan) {
    return r.ops->call(r.self, lease, number, format, bytes, size, loan);
}

static inline int runner_function(struct runner r, uint64_t lease, const uint8_t hash[32], const void *bytes,
                                  size_t size) {
    return r.ops->function(r.self, lease, hash, bytes, size, NULL);
}

static inline int runner_function_loan(struct runner r, uint64_t lease, const uint8_t hash[32], const void *bytes,
                                       size_t size, struct loan *loan) {
    return r.ops->function(r.self, lease, hash, bytes, size, loan);
}

static inline int runner_finish(struct runner r, uint64_t lease) {
    return r.ops->finish(r.self, lease);
}

static inline uint32_t runner_recall(struct runner r, uint64_t lease, uint32_t number) {
    return r.ops->recall(r.self, lease, number);
}

static inline void runner_flush(struct runner r) {
    r.ops->flush(r.self);
}

static inline void runner_kill(struct runner r, uint64_t job) {
    r.ops->kill(r.self, job);
}

static inline void runner_hold(struct runner r, uint64_t job, bool hold) {
    r.ops->hold(r.self, job, hold);
}

static inline void runner_resize(struct runner r, unsigned slots) {
    r.ops->resize(r.self, slots);
}
#endif
