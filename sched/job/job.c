/* The states of a job as a table: its name, its shelf, and what may follow. Only sched_move changes a state, and it
 * asks here. */
#include "sched/job/job.h"

#include <assert.h>
#include <stddef.h>
#include <string.h>

#define TO(s) (1u << JOB_##s)

static const struct {
    const char *name;
    enum job_shelf shelf;
    unsigned next; /* bit mask of states */
} states[JOB_STATES] = {
    [JOB_DRAFT] = {"draft", SHELF_JOBS, TO(HELD) | TO(WAITING) | TO(QUEUED) | TO(RUNNING) | TO(FAILED)},
    [JOB_HELD] = {"held", SHELF_JOBS, TO(DRAFT) | TO(WAITING) | TO(QUEUED) | TO(RUNNING) | TO(FAILED) | TO(CANCELLED)},
    [JOB_WAITING] = {"waiting", SHELF_JOBS,
                     TO(DRAFT) | TO(HELD) | TO(QUEUED) | TO(RUNNING) | TO(FAILED) | TO(CANCELLED)},
    [JOB_QUEUED] = {"queued", SHELF_JOBS,
                    TO(DRAFT) | TO(HELD) | TO(WAITING) | TO(RUNNING) | TO(FAILED) | TO(CANCELLED)},
    [JOB_RUNNING] = {"running", SHELF_JOBS, TO(WAITING) | TO(QUEUED) | TO(DONE) | TO(FAILED) | TO(CANCELLED)},
    [JOB_DONE] = {"done", SHELF_RESULTS, 0},
    [JOB_FAILED] = {"failed", SHELF_FAILURES, TO(DRAFT) | TO(HELD)}, /* sched_run_again */
    [JOB_CANCELLED] = {"cancelled", SHELF_GONE, 0},
};

const char *job_state_name(enum job_state s) {
    assert(s < JOB_STATES);
    return states[s].name;
}

bool job_ended(enum job_state s) {
    return s >= JOB_DONE;
}

bool job_may_become(enum job_state from, enum job_state to) {
    assert(from < JOB_STATES && to < JOB_STATES);
    return states[from].next & (1u << to);
}

enum job_shelf job_shelf_of(enum job_state s) {
    assert(s < JOB_STATES);
    return states[s].shelf;
}

bool job_is_stream(const struct job *j) {
    return j->kind == WORK_STREAM_JSON || work_told(j->kind) == WORK_STREAM_FRAMES;
}

bool job_is_options(const struct job *j) {
    return j->draft && strcmp(j->name, ".options") == 0;
}

enum job_body job_result_body(enum work_kind kind) {
    return kind == WORK_JSON_RUN || kind == WORK_PYTHON || kind == WORK_PROGRAM ? BODY_STDOUT : BODY_RESULT;
}
