/* A call of a stream, and the two forms in which streams are written and answered. */
#ifndef PPFS_CALL_H
#define PPFS_CALL_H
#include <sys/queue.h>

#include "net/session/frame.h"
#include "sched/bytes/buffer.h"
#include "sched/bytes/chunk.h"
#include "worker/pool/pool.h"

enum call_state { CALL_PENDING, CALL_SENT, CALL_JOB /* a job of its own runs it */, CALL_ANSWERED };

struct pieces {           /* of a large answer */
    struct buffer answer; /* JSON; also an answer that waits for older ones */
    struct chunks frames; /* frames */
    size_t *account;      /* counts answer: */
    size_t counted;
};
static inline bool pieces_any(const struct pieces *p) {
    return p->answer.size || p->frames.first;
}
static inline void pieces_count(struct pieces *p, size_t *account) {
    p->account = account;
    *account += p->answer.cap - p->counted;
    p->counted = p->answer.cap;
}
static inline void pieces_free(struct pieces *p) {
    buffer_free(&p->answer);
    chunks_free(&p->frames);
    if (p->account)
        *p->account -= p->counted;
    p->counted = 0;
}

struct call {
    TAILQ_ENTRY(call) order;          /* of its stream's */
    TAILQ_ENTRY(call) done;           /* frames: answered in this turn */
    LIST_ENTRY(call) numbered, named; /* by its number, by its id */
    TAILQ_ENTRY(call) waits;          /* of user.bodies, while ... */
    struct stream *body_of;           /* ... its file waits to be made: its stream; else NULL */
    enum call_state state;
    uint64_t number;    /* in the input, from 0 on */
    uint64_t id;        /* frames: the client's; JSON: its line */
    int64_t begin, end; /* offsets in the input: behind the call before, behind this one */
    uint64_t before;    /* JSON: the line of the call before it */
    enum call_format format;
    char *bytes; /* what the worker is sent: points into memory */
    char *memory;
    struct shared_buffer *shared; /* owns many bytes, memory is NULL then; senders hold it, too */
    size_t size, held;            /* held: bytes of memory, and of an answer that waits; counted in stream.held */
    char *options;                /* JSON object; NULL: none, so a lease can run it */
    unsigned ticks;               /* of CALL_JOB: timer ticks since it began to run */
    uint64_t job;                 /* of CALL_JOB */
    uint64_t lease;               /* of CALL_SENT, and its number there */
    uint32_t sent;
    bool indexed, told;  /* told: STARTED was said */
    bool kept, released; /* its job is held; its RELEASE was seen */
    bool ends;           /* stream_kept.c: its end is kept */
    bool goes_on;        /* its job is older than this reading of the stream */
    uint8_t deaths;      /* of nodes, while it ran there */
    uint16_t lacked;     /* hosts that have no module for it */
    uint16_t function;   /* estimate.h */
    struct pieces pieces;
    size_t down; /* JSON: bytes of its answer that are in rows */
};

/* The values and the function that a call of frames names; its bytes: enum call_format, for CALL_VALUES the CALL
 * frame. */
static inline unsigned call_values(const struct call *c) { /* the number of listed values */
    return c->format == CALL_VALUES ? (uint8_t)c->bytes[1] : 0;
}
/* the offset of the i-th hash; of the rest behind the last one */
static inline size_t call_value_at(const struct call *c, unsigned i) {
    return c->format == CALL_VALUES ? 4 + ((uint8_t)c->bytes[2] | (size_t)(uint8_t)c->bytes[3] << 8) + i * (size_t)32
                                    : 0;
}
static inline const uint8_t *call_value(const struct call *c, unsigned i) {
    return (const uint8_t *)c->bytes + call_value_at(c, i);
}
/* the hash of its function; NULL: the pickle has the function */
static inline const uint8_t *call_function(const struct call *c) {
    bool hash = c->format == CALL_HASH || (c->format == CALL_VALUES && c->bytes[0]);
    return hash ? call_value(c, call_values(c)) : NULL;
}
static inline size_t call_pickle_at(const struct call *c) {
    return call_value_at(c, call_values(c)) + (call_function(c) ? 32 : 0);
}

LIST_HEAD(call_list, call);
TAILQ_HEAD(call_queue, call);

struct stream;
struct codec {
    enum work_kind kind;
    /* Takes bytes that begin at st->parsed; returns how many it consumed (all, unless there is no room) or -errno. */
    int64_t (*parse)(struct stream *st, const char *bytes, size_t size);
    int (*close)(struct stream *st); /* the end of the input: takes what is left over */
    /* A piece of an answer, gathered until the rest comes. 0, -EFBIG or -ENOMEM. */
    int (*part)(struct pieces *to, const void *bytes, size_t size, size_t *account);
    /* the rest */
    int (*answer)(struct stream *st, struct call *c, enum answer_kind kind, const void *bytes, size_t size);
    int (*fail)(struct stream *st, struct call *c, enum stream_error error, const char *why); /* error 0: cancelled */
    int (*started)(struct stream *st, struct call *c);
    int (*output)(struct stream *st, struct call *c, enum output_kind which, const void *bytes, size_t size);
    int (*advance)(struct stream *st, struct call *c); /* JSON: sends the answer of c, the oldest call */
    /* KEPT_WHOLE of stream_kept.c: its answer, as it goes out, is in p or in bytes. 0; -ENOMEM: p stays as it was. */
    int (*again)(struct stream *st, struct call *c, struct pieces *p, const void *bytes, size_t size);
    /* Takes input from st->lookahead.at on and acts on urgent frames ahead of the parser; NULL: has none. */
    int (*lookahead)(struct stream *st, const char *bytes, size_t size);
    int (*urgent)(struct stream *st, const struct frame *f); /* carries out a CANCEL or RELEASE. 0 or -errno */
};
extern const struct codec codec_json, codec_frames;
#endif
