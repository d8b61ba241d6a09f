/* The states of a job as a table: its name, its shelf, and what may follow. Only sched_transition changes a state, and
 * it asks here. */
#include "sched/job/job.h"

#include <assert.h>
#include <string.h>

#define TO(s) (1u << JOB_##s)

static const struct state table[JOB_STATES] = {
    [JOB_DRAFT] = {"draft", TO(HELD) | TO(WAITING) | TO(QUEUED) | TO(RUNNING) | TO(FAILED)},
    [JOB_HELD] = {"held", TO(DRAFT) | TO(WAITING) | TO(QUEUED) | TO(RUNNING) | TO(FAILED) | TO(CANCELLED)},
    [JOB_WAITING] = {"waiting", TO(DRAFT) | TO(HELD) | TO(QUEUED) | TO(RUNNING) | TO(FAILED) | TO(CANCELLED)},
    [JOB_QUEUED] = {"queued", TO(DRAFT) | TO(HELD) | TO(WAITING) | TO(RUNNING) | TO(FAILED) | TO(CANCELLED)},
    [JOB_RUNNING] = {"running", TO(WAITING) | TO(QUEUED) | TO(DONE) | TO(FAILED) | TO(CANCELLED)},
    [JOB_DONE] = {"done", 0},
    [JOB_FAILED] = {"failed", TO(DRAFT) | TO(HELD)}, /* sched_run_again */
    [JOB_CANCELLED] = {"cancelled", 0},
};
const struct states job_states = {"job", table, JOB_STATES};

static const enum job_shelf shelves[JOB_STATES] = {
    [JOB_DRAFT] = SHELF_JOBS,   [JOB_HELD] = SHELF_JOBS,    [JOB_WAITING] = SHELF_JOBS,    [JOB_QUEUED] = SHELF_JOBS,
    [JOB_RUNNING] = SHELF_JOBS, [JOB_DONE] = SHELF_RESULTS, [JOB_FAILED] = SHELF_FAILURES, [JOB_CANCELLED] = SHELF_GONE,
};

const char *job_state_name(enum job_state s) {
    assert(s < JOB_STATES);
    return table[s].name;
}

bool job_ended(enum job_state s) {
    return s >= JOB_DONE;
}

enum job_shelf job_shelf_of(enum job_state s) {
    assert(s < JOB_STATES);
    return shelves[s];
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
