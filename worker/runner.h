/* A runner: something that can run work. The pool of this machine is one, a node somewhere else (far.h) is another; the
 * scheduler knows no difference but their slots and how far away they are.
 *
 * The calls mean what the pool_* of the same name say (pool.h), but for two things that distance makes different:
 * - recall gives at once the first number that will surely not run; where it cannot know yet, it gives UINT32_MAX, and
 *   the event recalled() says it later, in order with the answers.
 * - a runner that is lost tells done(WORK_LOST) for each work it had, then it is gone: its owner destroys it. */
#ifndef PPFS_RUNNER_H
#define PPFS_RUNNER_H
#include "worker/work.h"

enum run_stream { RUN_STDOUT, RUN_STDERR, RUN_RESULT, RUN_TRACE };

struct runner_ops {
    int (*start)(void *self, const struct work *w);
    int (*call)(void *self, uint64_t lease, uint32_t number, enum call_format, const void *bytes, size_t size);
    int (*function)(void *self, uint64_t lease, const uint8_t hash[32], const void *bytes, size_t size);
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
