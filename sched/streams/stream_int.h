/* Inside the streams: a job file of many calls. Only sched/stream*.c, lease.c and their callers in sched/ include this.
 *
 *   write ──► in-log ──► parser (stream_json.c, stream_frames.c) ──► calls in memory ──► leases (lease.c) ──► pool
 *                                                                       │ answers
 *   read  ◄── out-log ◄── codec's answer() ◄────────────────────────────┘
 *
 * How far the stream is, is committed with the answers that say so. In memory are the calls that are under way: up to
 * STREAM_PENDING that no worker has yet, or STREAM_HELD bytes of all; what is behind them waits in the in-log. */
#ifndef PPFS_STREAM_INT_H
#define PPFS_STREAM_INT_H
#include "sched/streams/stream.h"

#define STREAMS_ACTIVE 1024u /* streams in memory that have something to do */
#define STREAMS_IDLE 64u     /* others that stay there; those that had nothing to do for longest leave it */
#define STREAMS_ROOMY 64u    /* when more than that are in memory, each has less of it */
#define STREAM_PENDING 8192u /* calls that wait for a worker, or whose jobs have just been queued */
#define STREAM_READ (256u * 1024u)
#define PARSED_TURN (4 << 20)     /* bytes of its input that are taken in a turn */
#define STREAM_HELD (64u << 20)   /* bytes of calls, and of answers that wait for older ones, that are kept in memory */
#define STREAM_BEHIND (16u << 20) /* bytes of answers on the way to the disk at which no more calls are sent */

#define KEPT_MAX (64u << 20) /* ... and bytes of answers that are said and not committed, likewise */

static inline size_t stream_unwritten(const struct stream *st) { /* bytes of answers that wait for the disk thread */
    return st->large.size + st->out.size;
}
static inline size_t stream_share(const struct stream *st) { /* bytes that it may hold */
    unsigned n = st->s->streams->count;
    return user_holds_much(st->user) || answers_much(st->user) ? STREAM_FLOOR
           : n > STREAMS_ROOMY                                 ? STREAM_HELD / n * STREAMS_ROOMY
                                                               : STREAM_HELD;
}
/* The parser stops here; not in the middle of a call that others of its user wait for, nor before a call whose job goes
 * on, for it was there before. What workers have may wait for what comes. */
static inline bool stream_full(const struct stream *st) {
    bool many = st->pending + st->fresh_jobs >= STREAM_PENDING;
    bool much = st->held >= STREAM_HELD || st->held - st->sent >= stream_share(st);
    return st->storing || ((many || much) && !stream_has_large(st) && st->unmet.at == st->unmet.count);
}
/* A call with a job of its own is answered, or STARTED is said of it. */
static inline void stream_job_known(struct stream *st, const struct call *c) {
    st->fresh_jobs -= c->state == CALL_JOB && !c->told;
}
/* All that was read is answered, and that is in the log or goes there now. */
static inline bool stream_all_said(const struct stream *st) {
    return !st->count && (st->said == st->next_call || !st->wrote_down);
}
static inline unsigned streams_active(const struct sched *s) {
    return s->streams->count - s->streams->idle_count;
}

/* There is a place in memory for one more: of those that others leave, a user gets all but a sixteenth. */
static inline bool streams_room(const struct sched *s, const struct user *u) {
    unsigned left = streams_active(s) < STREAMS_ACTIVE ? STREAMS_ACTIVE - streams_active(s) : 0;
    return left && (user_is_trusted(s, u->uid) || u->active_streams / 15 < left);
}

/* stream.c */
int stream_begin(struct sched *s, struct job_row *r, enum work_kind kind);                /* at its first write */
int stream_start(struct sched *s, struct job_row *r, struct host *h, unsigned also_save); /* to running, into memory */
int stream_opened(struct sched *s, const struct job_row *r); /* one more writer; -ETXTBSY: too late */
int stream_closed(struct sched *s, const struct job_row *r);
int stream_let_go(struct sched *s, struct job_row *r, pid_t pid,
                  int64_t size); /* the process has closed it, or is killed */
/* In memory, where it is running and left it with nothing to do; NULL in *out: it is not running, or is read anew
 * later. */
int stream_wake(struct sched *s, const struct job_row *r, struct stream **out);
void stream_evict(struct sched *s); /* of many that have not, some leave memory */
/* job_ops and stream_ops of streams */
void stream_drop(struct sched *s, uint64_t job);
int stream_ended(struct sched *s, const struct job_row *r);
void stream_set_priority(struct sched *s, uint64_t job, int priority);
void stream_free(struct stream *st); /* it leaves memory; what it is made of goes when its reads have come back */
void stream_destroy_left(struct sched *s);
int stream_drop_parts(struct sched *s, uint64_t job); /* the jobs of its own that its calls had */
void stream_rolled_back(struct sched *s);
int stream_recover(struct sched *s, bool death); /* death: a daemon died over them, not only a commit */
void stream_free_all(struct sched *s);

/* stream_turn.c */
void stream_turn(struct sched *s);
int stream_feed(struct stream *st, const char *bytes, size_t size); /* to the parser */
#endif
