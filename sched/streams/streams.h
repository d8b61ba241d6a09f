/* The life of a stream, and its turns. Only sched/ includes this. */
#ifndef PPFS_STREAMS_H
#define PPFS_STREAMS_H
#include "sched/calls/stream_int.h"

/* stream.c */
int streams_make(struct sched *s); /* 0 or -ENOMEM */
void streams_free(struct sched *s);
int stream_begin(struct sched *s, struct job_row *r, enum work_kind kind);                /* at its first write */
int stream_start(struct sched *s, struct job_row *r, struct host *h, unsigned also_save); /* to running, into memory */
int stream_opened(struct sched *s, const struct job_row *r); /* one more writer; -ETXTBSY: too late */
int stream_closed(struct sched *s, const struct job_row *r);
/* The process has closed it, or is killed. */
int stream_let_go(struct sched *s, struct job_row *r, pid_t pid, int64_t size);
/* In memory, where it is running and left it with nothing to do; NULL in *out: it is not running, or is read anew
 * later. */
int stream_wake(struct sched *s, const struct job_row *r, struct stream **out);
void stream_evict(struct sched *s); /* of many that have not, some leave memory */
/* job_ops and stream_ops of streams */
void stream_drop(struct sched *s, uint64_t job);
int stream_ended(struct sched *s, const struct job_row *r);
void stream_set_priority(struct sched *s, uint64_t job, int priority);
void stream_parts_slice(struct sched *s); /* some more of the jobs of calls whose stream has ended are removed */
bool stream_is_leaving(struct sched *s, uint64_t stream); /* it is such a stream: none of these jobs may start */
void stream_free(struct stream *st); /* it leaves memory; what it is made of goes when its reads have come back */
void stream_destroy_left(struct sched *s);
void stream_rolled_back(struct sched *s);
int stream_recover(struct sched *s, bool death); /* death: a daemon died over them, not only a commit */

/* stream_turn.c */
void stream_turn(struct sched *s);
int stream_feed(struct stream *st, const char *bytes, size_t size); /* to the parser */
/* There is a place in memory for one more of his; where there is none, the queue is looked at when one comes free. */
bool stream_may_start(struct sched *s, const struct user *u);

/* stream_write.c: -EINPROGRESS as sched_read */
int stream_write(struct sched *s, const struct job_row *r, const void *bytes, size_t size, uint64_t offset, bool again,
                 sched_done *done, void *arg);
#endif
