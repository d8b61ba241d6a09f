/* A worker: one process, forked from the template, that does one piece of work after the other. */
#ifndef PPFS_WORKER_H
#define PPFS_WORKER_H
#include "worker/place.h"
#include "worker/python.h"

/* Runs until its link ends. serial names it; link, out, err: its descriptors, CLOEXEC. guard: its parent; it dies
 * with it. */
_Noreturn void worker_main(uint64_t serial, int link, int out, int err, pid_t guard);

/* A job with a process of its own, other than a program. data: what a call of an isolated job has left for the link,
 * see isolate_run. */
struct isolated {
    struct work_outcome outcome;
    int data; /* memfd: the result, then the trace; -1 when there is neither */
    uint64_t result_size, trace_size;
};

/* Forks this interpreter and runs w in the child: WORK_PYTHON as __main__, a call as a call. link is closed there.
 * Returns when that process has ended. The caller closes iso->data. */
/* After a script, when there is nothing to do: makes the process of the next one ahead, so that it waits for nothing. */
void isolate_spare(int link);
void isolate_drop_spare(void); /* before anything but a script: what is below a worker then belongs to its job */
void isolate_run(const struct work *w, const struct place *p, int link, struct isolated *iso);
#endif
