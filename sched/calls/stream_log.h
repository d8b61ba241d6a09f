/* The two logs of a stream. See stream_log.c. */
#ifndef PPFS_STREAM_LOG_H
#define PPFS_STREAM_LOG_H
#include "sched/db/spool.h"
#include "sched/turn/config.h"

struct job_row;
struct stream;

/* -EINPROGRESS as sched_read, of both */
int64_t stream_log_read(struct sched *s, uint64_t job, enum job_body b, void *buf, size_t size, uint64_t offset,
                        sched_done *done, void *arg);
int64_t stream_input(struct stream *st, void *buf, size_t size, uint64_t offset, sched_done *done); /* arg: st */
int stream_log_tail(struct stream *st); /* the input of this turn. 0 or -errno */
static inline struct spool_name stream_log_file(uint64_t job, enum job_body b) {
    return (struct spool_name){job, b, BODY_LOG};
}
/* appends what this turn has gathered, but for pieces that the disk thread writes first */
int stream_log_flush(struct stream *st);
/* 1: all that was answered is in the log; 0: some is on the way there; -errno */
int stream_log_settle(struct stream *st);
int stream_put(struct stream *st); /* saves its position and answered calls. 0 or -errno */
#endif
