/* The columns of jobs, once: X(name, how it is written, its field in struct job_row, which SAVE_ writes it). Before
 * them stands id, behind them the checksum of all but not_before, which is changed in many at once. */
#ifndef PPFS_STORE_COLUMNS_H
#define PPFS_STORE_COLUMNS_H
#include "sched/db/store_jobs.h"

#define ALWAYS 0 /* each store_job_save */
#define NEVER 8

/* clang-format off */
#define JOB_COLUMNS(X)                              \
    X(grp, INTEGER, job.group, SAVE_NAME)           \
    X(name, STRING, job.name, SAVE_NAME)            \
    X(side, SIDE, job.draft, SAVE_NAME)             \
    X(state, INTEGER, job.state, SAVE_QUEUE)        \
    X(shelf, INTEGER, job.shelf, SAVE_SHELF)        \
    X(flags, FLAGS, job.flushed, SAVE_QUEUE)        \
    X(kind, INTEGER, job.kind, ALWAYS)              \
    X(uid, INTEGER, job.uid, SAVE_NAME)             \
    X(gid, INTEGER, job.gid, ALWAYS)                \
    X(mode, INTEGER, job.mode, ALWAYS)              \
    X(priority, INTEGER, job.priority, SAVE_QUEUE)  \
    X(cpus, INTEGER, job.cpus, ALWAYS)              \
    X(turn, INTEGER, turn, SAVE_QUEUE)              \
    X(attempt, INTEGER, job.attempt, ALWAYS)        \
    X(failures, INTEGER, job.failures, ALWAYS)      \
    X(deaths, INTEGER, job.deaths, ALWAYS)          \
    X(exit_status, INTEGER, job.exit_status, ALWAYS) \
    X(exit_signal, INTEGER, job.exit_signal, ALWAYS) \
    X(error, INTEGER, job.error, ALWAYS)            \
    X(created, INTEGER, job.created, NEVER)         \
    X(queued, INTEGER, job.queued, ALWAYS)          \
    X(started, INTEGER, job.started, ALWAYS)        \
    X(ended, INTEGER, job.ended, ALWAYS)            \
    X(user_us, INTEGER, job.user_us, ALWAYS)        \
    X(system_us, INTEGER, job.system_us, ALWAYS)    \
    X(maxrss, INTEGER, job.maxrss_kib, ALWAYS)      \
    X(not_before, INTEGER, job.not_before, SAVE_QUEUE) \
    X(request, INTEGER, job.request, NEVER)         \
    X(why, STRING, job.why, ALWAYS)                 \
    X(stream, INTEGER, stream, NEVER)               \
    X(call, INTEGER, call, NEVER)                   \
    X(array, INTEGER, array, SAVE_NAME)             \
    X(place, STRING, place, SAVE_QUEUE)             \
    X(node, STRING, job.node, ALWAYS)
/* clang-format on */

#define COLUMN_NAME(name, written, field, saved) ", " #name
#define COLUMN_MARK(name, written, field, saved) ",?"
#define JOB_COLUMN_NAMES "id" JOB_COLUMNS(COLUMN_NAME) ", sum"
#define JOB_COLUMN_MARKS "?" JOB_COLUMNS(COLUMN_MARK) ",?"
#endif
