/* A stream in memory; stream_list.c has all of them. */
#ifndef PPFS_STREAM_H
#define PPFS_STREAM_H
#include "net/states.h"
#include "sched/runs/run.h"
#include "sched/calls/call.h"
#include "sched/calls/stream_calls.h"
#include "sched/calls/stream_kept.h"
#include "sched/calls/stream_log.h"
#include "sched/calls/stream_lookahead.h"
#include "sched/calls/stream_memory.h"
#include "sched/calls/stream_part.h"

/* stream_list.c has the table of transitions. */
enum stream_state {
    STREAM_STORED, /* not in memory */
    STREAM_OPEN,
    STREAM_IDLE,   /* open; all its calls are answered */
    STREAM_CLOSED, /* its last writer has closed it */
    STREAM_PARSED, /* closed and parsed to its end, or to a frame that is none */
    STREAM_STATES
};

struct stream {
    LIST_ENTRY(stream) all;   /* of those in memory, or of those that left it */
    LIST_ENTRY(stream) alike; /* of calls.by_id, while it is in memory */
    struct sched *s;
    struct user *user;
    LIST_ENTRY(stream) mates; /* of user.streams */
    enum stream_state state;
    uint64_t id; /* 0: it has ended, and is freed when its reads have come back */
    int priority;
    const struct codec *codec;
    void (*cancel_sent)(struct stream *st, struct call *c); /* stops a call that a worker has */
    char place[CONSTRAINT_MAX];                             /* where its calls may run (host.h) */
    uint64_t limited;        /* limits_generation as of which that names its limited group */
    struct body input;       /* where its input is; a log while it is being written */
    int64_t in_size;         /* bytes accepted, with those of this turn (tail) */
    int64_t parsed;          /* bytes that the parser has taken */
    struct buffer tail;      /* input of this turn, not yet in the log */
    struct buffer carry;     /* JSON: a line that is not complete yet; frames: a header */
    struct chunks large;     /* answers, not yet in the log, with large ones among them; ... */
    struct buffer out;       /* ... small ones that come after those */
    struct piece *flight;    /* answers that are on the way to the disk: stream_log.c */
    struct storing *storing; /* a function or value that is on the way there: objects.c. What follows it waits */
    struct buffer prints[2]; /* JSON: stdout and stderr of this turn */
    int64_t out_size, print_size[2];
    struct stream_row row;               /* as it will be committed */
    unsigned function;                   /* estimate.h: any of its calls */
    uint64_t next_call;                  /* number of the next call; lower ones that are not in memory are answered */
    struct call_queue calls;             /* in memory, by their numbers */
    struct call_queue done;              /* of them, frames: answered in this turn */
    struct call_list *by_number, *by_id; /* the same, buckets of each; frames: by_id those that are not answered */
    size_t buckets, count;
    struct call *next_send; /* no call before it is pending; NULL: none is */
    struct before before;
    struct buffer answered; /* for stream_put */
    int64_t end;            /* offset after the newest call ... */
    uint64_t end_line;      /* ... and its line */
    uint64_t pending, lines;
    uint64_t fresh_jobs;  /* call jobs without a STARTED yet */
    uint64_t said;        /* JSON: the answers of all calls before it are in the out-log, or on the way there */
    size_t waiting_calls; /* answered, and in memory */
    size_t written_turn, moved_turn; /* stream_wait.c: in this turn */
    bool more;                       /* ... and the next turn has more of it, or of what stream_hold_over does */
    bool held_over;                  /* stream_part.c: it has done all of that */
    struct call *partial;            /* the one call that is written down over several turns */
    uint64_t stale;                  /* 1 + the number of one that was when it was read anew; 0: none */
    uint64_t rows_below;             /* calls with lower numbers may have had rows then */
    bool wrote_down, writes_down;    /* there may be rows of waiting answers; more are to be written */
    struct lease_set *leases;        /* lease_int.h */
    size_t held, waiting;            /* bytes of its calls; those among them of answers that wait for older ones */
    int failed;                      /* errno: its input can no longer be read */
    unsigned writing;                /* writes under way in the disk thread */
    bool holds;                      /* its call jobs wait: they print faster than the disk takes it */
    TAILQ_ENTRY(stream) rest;        /* of sched.idle, while STREAM_IDLE */
    /* stream_kept.c: on the way to the log; JSON: printed in this turn; to be said again */
    struct kept_list kept, printed, replay;
    size_t kept_bytes;      /* of kept */
    struct unmet unmet;     /* stream_part.c */
    uint64_t loaded;        /* counts up each time that a stream comes into memory */
    uint64_t stage, logged; /* of new kept answers; lower stages are in the log with this turn */
    bool reading, dirty, skipping;
    char *read_buffer; /* its input from read_at to read_end */
    int64_t read_at, read_end;
    int64_t begun, newline;         /* start of the call that is being gathered; JSON: behind the last known newline */
    int64_t large_at;               /* as user.large: begun of the call that it may gather */
    size_t gathered, sent, counted; /* its part of user.gathered, of user.sent, of user.unwritten */
    size_t small;                   /* its part of user.answers: the bytes of out and prints */
    struct buffer parts;            /* frames: the body that is being put together ... */
    int parts_file;                 /* ... a memfd that has its bytes, and parts their number; 0: none ... */
    struct shared_buffer *whole;    /* ... that one while the body in it is taken ... */
    struct frame part;              /* ... the frame that it stands in ... */
    uint32_t left;                  /* ... and how many of that frame's bytes are still to come */
    bool in_frame;
    struct lookahead lookahead;
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
    return estimate_key(st->id, 0);
}
#endif
