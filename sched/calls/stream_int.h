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
#include "sched/calls/stream.h"

#define STREAMS_ACTIVE 1024u /* streams in memory with work */
#define STREAMS_IDLE 64u     /* idle streams in memory; the longest idle ones leave it */
#define STREAMS_ROOMY 64u    /* with more streams than that in memory each may hold less */
#define STREAM_PENDING 8192u /* calls that wait for a worker, or for their jobs to start */
#define STREAM_READ (256u * 1024u)
#define JOBS_TURN 64              /* jobs of calls of one user that are made, let go or cancelled in a turn */
#define PARSED_TURN (4 << 20)     /* bytes of its input parsed in a turn */
#define STREAM_HELD (64u << 20)   /* bytes of calls, and of answers that wait for older ones, that are kept in memory */
#define STREAM_BEHIND (16u << 20) /* bytes of answers on the way to the disk at which no more calls are sent */

#define KEPT_MAX (64u << 20) /* ... and bytes of answers that are said and not committed, likewise */

/* stream_list.c */
#define STREAMS_TIMER_US 25000
void streams_timer_on(struct sched *s); /* makes lease_timer due within STREAMS_TIMER_US */
int calls_make(struct sched *s);        /* 0 or -ENOMEM */
void calls_free(struct sched *s);
struct stream *stream_find(struct sched *s, uint64_t job);
struct stream *stream_first(const struct sched *s); /* of those in memory; the next: LIST_NEXT(st, all) */
unsigned streams_active(const struct sched *s);     /* the number of streams with work */
/* Whether one more stream may enter memory: a user gets all free places but a sixteenth. */
bool streams_room(const struct sched *s, const struct user *u);
size_t stream_share(const struct stream *st); /* bytes that it may hold */
void stream_enters(struct stream *st);        /* memory */
void stream_leaves(struct stream *st);
/* the next idle stream to leave memory; NULL: there are not too many */
struct stream *stream_to_evict(const struct sched *s);
void stream_becomes(struct stream *st, enum stream_state to);
void stream_mark(struct stream *st);            /* it has work in this turn */
void stream_parts_free(struct stream *st);      /* forgets the body that is being put together */
void stream_rest(struct stream *st, bool idle); /* it has nothing to do, or has again */
/* a call runs long: notes it for the count of deaths, should ppfs die now */
void stream_suspect(struct stream *st, const struct call *c);

static inline size_t stream_unwritten(const struct stream *st) { /* bytes of its answers that wait for the disk */
    return st->large.size + st->out.size;
}
static inline bool stream_did_enough(const struct stream *st) {
    return st->user->call_turn == st->s->stream_turns && st->user->call_jobs >= JOBS_TURN;
}
/* One more of JOBS_TURN; the parser goes on in the next turn. */
static inline void stream_did(struct stream *st) {
    struct user *u = st->user;
    u->call_jobs = u->call_turn == st->s->stream_turns ? u->call_jobs + 1 : 1;
    u->call_turn = st->s->stream_turns;
    if (u->call_jobs >= JOBS_TURN)
        sched_tick(st->s);
}
/* The parser stops; but not within a call that other streams of its user wait for, nor before a call whose job goes
 * on. */
static inline bool stream_full(const struct stream *st) {
    bool many = st->pending + st->fresh_jobs >= STREAM_PENDING;
    bool much = st->held >= STREAM_HELD || st->held - st->sent >= stream_share(st);
    return st->storing || stream_did_enough(st) ||
           ((many || much) && !stream_has_large(st) && st->unmet.at == st->unmet.count);
}
/* A call job is answered, or its STARTED is sent. */
static inline void stream_job_known(struct stream *st, const struct call *c) {
    st->fresh_jobs -= c->state == CALL_JOB && !c->told;
}
/* All parsed calls are answered, and the answers are in the log or on the way there. */
static inline bool stream_all_said(const struct stream *st) {
    return !st->count && (st->said == st->next_call || !st->wrote_down);
}
#endif
