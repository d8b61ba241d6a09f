/* A job and its states. The row in the database is the truth; a struct job is a copy of it. */
#ifndef PPFS_JOB_H
#define PPFS_JOB_H
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "net/states.h"
#include "worker/runner/work.h"

#define JOB_NAME_MAX 255u /* bytes, as every filesystem */
#define JOB_WHY_MAX 512u
#define JOB_REMOVED "cancelled: it was removed from jobs/"
#define NODE_NAME_MAX 127u

enum job_state {
    JOB_DRAFT,
    JOB_HELD,
    JOB_WAITING,
    JOB_QUEUED,
    JOB_RUNNING,
    JOB_DONE,
    JOB_FAILED,
    JOB_CANCELLED,
    JOB_STATES
};

/* The directory that lists a job. Stored beside the state, derived from it by the table in job.c. */
enum job_shelf {
    SHELF_JOBS,
    SHELF_RESULTS,
    SHELF_FAILURES,
    SHELF_GONE,
    SHELF_ORPHAN,
    SHELF_PART /* a call job: listed nowhere */,
    SHELVES
};

/* The byte strings of a job. The numbers are on disk: never change them. */
enum job_body {
    BODY_SPEC,
    BODY_RESULT,
    BODY_STDOUT,
    BODY_STDERR,
    BODY_TRACE,
    BODY_WAITING /* stream_wait.c */,
    BODIES = 8
};
/* file number of a body that is a stream's log, which is append-only (store_streams.c) */
#define BODY_LOG (-1)

struct job {
    uint64_t id;
    uint64_t group; /* 0 = the top */
    char name[JOB_NAME_MAX + 1];
    enum job_state state;
    enum job_shelf shelf;
    bool draft;          /* it is the draft under its name */
    bool flushed;        /* its writer's close() has returned 0, and nothing was written since */
    bool cut;            /* its writer was killed or a write was refused: it stays a draft */
    bool temporary;      /* made as by mkstemp; then name_is_random decides */
    bool damaged;        /* its row is not what was written: nobody is shown anything of it, and it does not start */
    enum work_kind kind; /* WORK_NONE while a draft */
    uid_t uid;
    gid_t gid;
    mode_t mode; /* permission bits as the writer gave them */
    int priority;
    uint32_t cpus;
    uint32_t attempt;  /* the current or last one, from 1; 0 = never ran */
    uint32_t failures; /* attempts that failed, for retries */
    uint32_t deaths;   /* times ppfs or its node died under it */
    int exit_status, exit_signal;
    int error; /* errno that open("results/NAME") gives: EIO, ETIMEDOUT, ECANCELED; 0 when done */
    int64_t created, queued, started, ended; /* microseconds since the epoch, 0 = not yet */
    int64_t user_us, system_us, maxrss_kib;
    int64_t not_before;           /* a retry's time, or 0 */
    uint64_t request;             /* unique of its CREATE, to recognise a repeated one */
    char why[JOB_WHY_MAX];        /* as stored; sched_why makes the one to show */
    char node[NODE_NAME_MAX + 1]; /* where its last attempt ran; "" = nowhere yet */
};

const char *job_state_name(enum job_state s);
bool job_ended(enum job_state s);
bool name_is_random(const char *name); /* NAME.XXXXXX, sedXXXXXX: what mkstemp makes (draft_name.c) */
extern const struct states job_states;
enum job_shelf job_shelf_of(enum job_state s);
/* A job of many calls, whose result is read while it grows. */
bool job_is_stream(const struct job *j);
bool job_is_options(const struct job *j); /* a .options file */
/* What results/NAME holds: a script's stdout, a call's value. */
enum job_body job_result_body(enum work_kind kind);
#endif
