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
#include "sched/streams/call.h"
#include "net/states.h"
#include "sched/leases/lease.h"
#include "sched/runs/run.h"
#include "sched/streams/stream_look.h"
#include "sched/streams/stream_memory.h"

#define STREAMS_ACTIVE 1024u /* streams in memory that have something to do */
#define STREAMS_IDLE 64u     /* others that stay there; those that had nothing to do for longest leave it */
#define STREAMS_ROOMY 64u    /* when more than that are in memory, each has less of it */
#define STREAM_PENDING 8192u /* calls that wait for a worker, or whose jobs have just been queued */
#define STREAM_READ (256u * 1024u)
#define PARSED_TURN (4 << 20)     /* bytes of its input that are taken in a turn */
#define STREAM_HELD (64u << 20)   /* bytes of calls, and of answers that wait for older ones, that are kept in memory */
#define STREAM_BEHIND (16u << 20) /* bytes of answers on the way to the disk at which no more calls are sent */

#define KEPT_MAX (64u << 20) /* ... and bytes of answers that are said and not committed, likewise */

enum kept_kind {
    KEPT_NOTHING,
    KEPT_STDOUT,
    KEPT_STDERR,
    KEPT_PRINTED, /* both, as they go out */
    KEPT_VALUE,   /* from here on: the end of a call */
    KEPT_ERROR,
    KEPT_WHOLE, /* its answer as it goes out */
    KEPT_FAILED /* the sentence why it died, with its zero */
};
TAILQ_HEAD(kept_list, kept);

/* stream_list.c says what may follow what. */
enum stream_state {
    STREAM_STORED, /* not in memory */
    STREAM_OPEN,
    STREAM_IDLE,   /* open; all that was written is answered */
    STREAM_CLOSED, /* no writer any more */
    STREAM_PARSED, /* closed and parsed to the end, or not understood from here on */
    STREAM_STATES
};

struct unmet { /* jobs of calls that the parser has not met again, by the numbers of these */
    struct unmet_part {
        uint64_t number, job;
    } * parts;
    size_t count, at; /* those before at were met */
};

struct stream {
    struct stream *next;
    struct sched *s;
    struct user *user;
    LIST_ENTRY(stream) mates; /* of user.streams */
    enum stream_state state;
    uint64_t id; /* 0: let go, and freed when its reads have come back */
    int priority;
    const struct codec *codec;
    void (*cancel_sent)(struct stream *st, struct call *c); /* a worker has it, which is to stop */
    char place[PLACE_MAX];                                  /* where its calls may run (host.h) */
    struct body input;                                      /* where its input is; a log while it is being written */
    int64_t in_size;                                        /* bytes accepted, those of this turn (tail) among them */
    int64_t parsed;                                         /* bytes that the parser has taken */
    struct buffer tail;                                     /* input of this turn, not yet in the log */
    struct buffer carry;     /* JSON: a line that is not complete yet; frames: a header */
    struct chunks large;     /* answers, not yet in the log, with large ones among them; ... */
    struct buffer out;       /* ... small ones that come after those */
    struct piece *flight;    /* answers that are on the way to the disk: stream_log.c */
    struct storing *storing; /* a function or value that is on the way there: values.c. What follows it waits */
    struct buffer prints[2]; /* JSON: stdout and stderr of this turn */
    int64_t out_size, print_size[2];
    struct stream_row row;   /* as it will be committed */
    unsigned function;       /* estimate.h: any of its calls */
    uint64_t next_call;      /* number that the next call gets; those before it that are not in memory are answered */
    struct call_queue calls; /* in memory, by their numbers */
    struct call_queue done;  /* of them, frames: answered in this turn */
    struct call_list *by_number, *by_id; /* the same, buckets of each; frames: by_id those that are not answered */
    size_t buckets, count;
    struct call *next_send; /* no call before it is pending; NULL: none is */
    struct before {         /* calls that were answered before it was read anew: from row.call on, as committed */
        struct buffer runs;
        size_t at; /* of the run after this one: */
        uint64_t from, to;
    } before;
    struct buffer answered; /* for stream_put */
    int64_t end;            /* offset after the newest call ... */
    uint64_t end_line;      /* ... and its line */
    uint64_t pending, lines;
    uint64_t fresh_jobs;  /* calls with a job of their own that STARTED was not yet said of */
    uint64_t said;        /* JSON: the answers of all calls before it are in the out-log, or on the way there */
    size_t waiting_calls; /* answered, and in memory */
    size_t written_turn, moved_turn; /* stream_wait.c: in this turn */
    bool more;                       /* ... and there is more of that for the next turn */
    struct call *partial;            /* it is written down over several turns: only one is, at any time */
    uint64_t stale;                  /* 1 + the number of one that was when it was read anew; 0: none */
    uint64_t rows_below;             /* of calls with a number below it there may have been rows then */
    bool wrote_down, writes_down;    /* there may be rows of answers that wait; more are to be made */
    struct lease_set leases;         /* lease.c */
    size_t held, waiting;            /* bytes of its calls; those among them of answers that wait for older ones */
    int failed;                      /* errno: its input can no longer be read */
    unsigned writing;                /* writes that the disk thread has */
    bool holds;         /* calls with a job of their own were stopped, as they print faster than the disk takes it */
    bool parts_waiting; /* calls with a job of their own may have to be told STARTED */
    TAILQ_ENTRY(stream) rest; /* of sched.idle, while STREAM_IDLE */
    /* stream_kept.c: on the way to the log; JSON: printed in this turn; to be said again */
    struct kept_list kept, printed, replay;
    size_t kept_bytes;      /* of kept */
    struct unmet unmet;     /* stream_part.c */
    uint64_t loaded;        /* which of all times that one came into memory this was */
    uint64_t stage, logged; /* of what is kept from now on; those below are in the log with this turn */
    bool reading, dirty, skipping;
    char *read_buffer; /* its input from read_at to read_end */
    int64_t read_at, read_end;
    int64_t begun, newline; /* where what is being gathered begins; JSON: behind the last newline, as far as is known */
    int64_t large_at;       /* user.large is it: begun of what it may gather */
    size_t gathered, sent, counted; /* its part of user.gathered, of user.sent, of user.unwritten */
    size_t small;                   /* its part of user.answers that is in out and prints */
    struct buffer parts;            /* frames: the body that is being put together ... */
    struct frame part;              /* ... the frame that it stands in ... */
    uint32_t left;                  /* ... and how many of that frame's bytes are still to come */
    bool in_frame;
    struct look look;
};

static inline bool stream_is_json(const struct stream *st) { /* its answers have the order of its calls */
    return st->codec->kind == WORK_STREAM_JSON;
}
static inline bool stream_is_parsed(const struct stream *st) {
    return st->state == STREAM_PARSED;
}
static inline bool stream_is_closed(const struct stream *st) {
    return st->state == STREAM_CLOSED || stream_is_parsed(st);
}
static inline uint64_t stream_key(const struct stream *st) { /* of its own function */
    return speed_key(st->id, 0);
}
static inline size_t stream_unwritten(const struct stream *st) { /* bytes of answers that wait for the disk thread */
    return st->large.size + st->out.size;
}
static inline size_t stream_share(const struct stream *st) { /* bytes that it may hold */
    unsigned n = st->s->stream_count;
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
    return s->stream_count - s->idle_count;
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

/* stream_list.c */
#define STREAMS_TIMER_US 25000
void streams_timer_on(struct sched *s); /* lease_timer is due so soon, if it was not */
struct stream *stream_find(struct sched *s, uint64_t job);
void stream_becomes(struct stream *st, enum stream_state to);
void stream_mark(struct stream *st);            /* this turn has something to do for it */
void stream_rest(struct stream *st, bool idle); /* whether it has nothing to do */
/* it runs long: should ppfs die now, that is written down */
void stream_suspect(struct stream *st, const struct call *c);

/* stream_turn.c */
void stream_turn(struct sched *s);
int stream_feed(struct stream *st, const char *bytes, size_t size); /* to the parser */

/* stream_calls.c */
/* A new pending call behind the others; *out is NULL where it was answered before the stream was read anew. 0 or
 * -ENOMEM */
int stream_add(struct stream *st, uint64_t id, int64_t end, struct call **out);
struct call *stream_call(const struct stream *st, uint64_t number); /* NULL: answered, or not read yet */
/* its answer is in out, or (JSON) waits; c stays until the turn */
int stream_answered(struct stream *st, struct call *c);
/* Its answer, or the rest of one; what is too large, or finds no memory, fails. 0 or -errno */
int stream_answer(struct stream *st, struct call *c, enum answer_kind kind, const void *bytes, size_t size);
extern const char stream_no_room[];                                /* why it failed */
void stream_hold(struct stream *st, struct call *c, size_t bytes); /* so many bytes of it are in memory now */
int stream_lend(struct call *c); /* many bytes of it can be sent without being copied from now on; 0 or -ENOMEM */
void stream_job_has(struct stream *st, struct call *c); /* CALL_JOB: its bytes are not needed any more */
void stream_drop_answer(struct call *c);                /* the pieces of it that have come */
void stream_remove(struct stream *st, struct call *c);  /* frees it */
void stream_sweep(struct stream *st);                   /* frames: what is answered leaves memory */
void stream_calls_free(struct stream *st);
int stream_done_load(struct stream *st, struct buffer *answered); /* takes what store_stream_get gave. 0 or -ENOMEM */
bool stream_done_before(struct stream *st, uint64_t number);      /* asked for one number after the other */
/* for store_stream_put, row.call being set. 0 or -ENOMEM */
int stream_done(const struct stream *st, struct buffer *out);
void stream_place(struct stream *st); /* sets how far row says that it is */

/* stream_wait.c. What is answered goes out as far as nothing before it is not; of the rest some is written down. 0 or
 * -errno */
int stream_advance_json(struct stream *st);
void stream_wait_load(struct stream *st, int64_t end); /* end: size of the log of what waits */
int stream_wait_added(struct stream *st, uint64_t number);

/* stream_kept.c: answers that are not committed yet are not lost with a commit that fails. p: pieces that come before
 * bytes, or NULL; they are taken. */
void stream_keep(struct stream *st, uint64_t number, enum kept_kind kind, const void *bytes, size_t size,
                 struct pieces *p);
/* Of one that has not met that call yet, or is not in memory. False: there is no memory, and nothing was kept. */
bool stream_keep_away(struct user *u, uint64_t stream, uint64_t number, enum kept_kind kind, const void *bytes,
                      size_t size, struct pieces *p);
void stream_kept_logged(struct stream *st, uint64_t stage);       /* up to that stage it is in the log with this turn */
bool stream_kept_ended(const struct stream *st, uint64_t number); /* that call is going to be answered from here */
void stream_kept_gather(struct stream *st);                       /* before it leaves memory, as a commit has failed */
/* it leaves memory; what it has stays until the commit, or until it is read anew ... */
void stream_kept_leave(struct stream *st);
void stream_kept_load(struct stream *st);  /* ... which this is */
int stream_kept_replay(struct stream *st); /* answers calls that the parser has read again. 0 or -errno */
void stream_kept_committed(struct stream *st);
void stream_kept_turned(struct sched *s, bool committed); /* of those that are not in memory */
void stream_kept_end(struct sched *s, uint64_t stream);   /* it ends with this turn's commit */
void stream_kept_free(struct sched *s);

/* stream_write.c, stream_log.c; these answer -EINPROGRESS as sched_read does */
int stream_write(struct sched *s, const struct job_row *r, const void *bytes, size_t size, uint64_t offset, bool again,
                 sched_done *done, void *arg);
int64_t stream_log_read(struct sched *s, uint64_t job, enum job_body b, void *buf, size_t size, uint64_t offset,
                        sched_done *done, void *arg);
int64_t stream_input(struct stream *st, void *buf, size_t size, uint64_t offset, sched_done *done); /* arg: st */
int stream_log_tail(struct stream *st); /* the input of this turn. 0 or -errno */
static inline struct spool_name stream_log_file(uint64_t job, enum job_body b) {
    return (struct spool_name){job, b, BODY_LOG};
}
int stream_log_flush(struct stream *st); /* what this turn has gathered, as far as it has not to be written first */
/* 1: all that was answered is in the log; 0: some is on the way there; -errno */
int stream_log_settle(struct stream *st);
int stream_put(struct stream *st); /* how far it is, with what is in the log. 0 or -errno */

/* stream_part.c: calls whose jobs run them, those that have options or are programs */
int stream_release(struct stream *st, uint64_t id); /* a call that is held, or will be, is not to be */
int stream_hold_over(struct stream *st);            /* nobody can let go any more of what is held: those calls fail */
/* The call that the job answers, and its stream; NULL when nobody waits for that any more. */
struct call *stream_part_call(struct sched *s, uint64_t stream, uint64_t number, uint64_t job, struct stream **out);
void stream_part_is(struct stream *st, struct call *c); /* it goes into the queue, or is there */
int stream_part_has(struct stream *st, struct call *c, const struct job_row *r); /* its job is that one. 0 or -errno */
int stream_part_compare(const void *a, const void *b);                           /* two struct unmet_part */
bool stream_part_waits(const struct stream *st, uint64_t number); /* that call has one, and is to stay pending */
/* ... and no call has it yet: its stream is not in memory, or has not met that call. */
bool stream_part_away(struct sched *s, uint64_t stream, uint64_t number, uint64_t job);
/* What a call has printed. NULL: nobody wants it any more. */
struct stream *stream_part_printed(struct sched *s, uint64_t stream, uint64_t number, uint64_t job,
                                   enum output_kind which, const void *bytes, size_t size);
bool stream_parts_tick(struct stream *st); /* called every 25 ms or so; false: no need to */

/* stream_body.c: a job of its own for that call, at once or when the file of it has been made. 0 or -errno */
int stream_job(struct stream *st, struct call *c);

/* stream_resume.c. After a commit that failed jobs that are in the database go on. As the stream is read anew they wait
 * for their calls: 0 or -errno */
int stream_parts_load(struct stream *st);
int stream_parts_claim(struct stream *st);  /* calls that the parser has met have their jobs. 0 or -errno */
int stream_parts_answer(struct stream *st); /* ... and those that have ended meanwhile answer them. 0 or -errno */

/* stream_ended.c: what such a job answered goes to the stream. 0, -errno, or 1: the stream removes it, later, also
 * where it has yet to meet the call. */
int stream_job_ended(struct sched *s, const struct job_row *r);
void stream_endings(struct user *u, bool all); /* of those that wait for memory one goes on, or all do */
void stream_endings_free(struct sched *s);
/* stream_prints.c */
void stream_printed(struct run *r, enum output_kind which, const void *bytes, size_t size);
void stream_prints_resume(struct stream *st); /* after a flush, what holds goes on */
/* stream_json.c: a JSON text, as a line; takes it */
int stream_json_text(struct stream *st, struct call *c, struct buffer *text);
#endif
