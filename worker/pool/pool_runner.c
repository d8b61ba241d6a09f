/* The pool as a runner. */
#include "worker/pool/pool.h"

static int start(void *self, const struct work *w) {
    return pool_start(self, w);
}

static int call(void *self, uint64_t lease, uint32_t number, enum call_format format, const void *bytes, size_t size,
                struct loan *loan) {
    return pool_call_loan(self, lease, number, format, bytes, size, loan);
}

static int function(void *self, uint64_t lease, const uint8_t hash[32], const void *bytes, size_t size,
                    struct loan *loan) {
    return pool_function_loan(self, lease, hash, bytes, size, loan);
}

static int finish(void *self, uint64_t lease) {
    return pool_finish(self, lease);
}

static uint32_t recall(void *self, uint64_t lease, uint32_t number) {
    return pool_recall(self, lease, number);
}

static void flush(void *self) {
    pool_flush(self);
}

static void kill_job(void *self, uint64_t job) {
    pool_kill(self, job);
}

static void hold_job(void *self, uint64_t job, bool hold) {
    pool_hold(self, job, hold);
}

static void resize(void *self, unsigned slots) {
    pool_resize(self, slots);
}

void pool_runner(struct pool *p, struct runner *out) {
    static const struct runner_ops ops = {.start = start,
                                          .call = call,
                                          .function = function,
                                          .finish = finish,
                                          .recall = recall,
                                          .flush = flush,
                                          .kill = kill_job,
                                          .hold = hold_job,
                                          .resize = resize};

    *out = (struct runner){.ops = &ops, .self = p};
}
