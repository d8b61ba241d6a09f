/* The calls of a stream in memory, and answers of JSON that wait for older ones. See stream_calls.c, stream_wait.c. */
#ifndef PPFS_STREAM_CALLS_H
#define PPFS_STREAM_CALLS_H
#include "sched/calls/call.h"

struct before { /* calls that were answered before it was read anew: from row.call on, as committed */
    struct buffer runs;
    size_t at; /* of the next run: */
    uint64_t from, to;
};

/* stream_calls.c */
/* A new pending call behind the others; *out is NULL where it was answered before the stream was read anew. 0 or
 * -ENOMEM */
int stream_add(struct stream *st, uint64_t id, int64_t end, struct call **out);
struct call *stream_call(const struct stream *st, uint64_t number); /* NULL: answered, or not read yet */
/* its answer is in out, or (JSON) waits; c stays until the turn */
int stream_answered(struct stream *st, struct call *c);
/* Its answer, or the rest of one; what is too large, or finds no memory, fails. 0 or -errno */
int stream_answer(struct stream *st, struct call *c, enum answer_kind kind, const void *bytes, size_t size);
extern const char stream_no_room[];                                /* the reason of such a failure */
void stream_hold(struct stream *st, struct call *c, size_t bytes); /* counts so many bytes of it as held in memory */
int stream_lend(struct call *c); /* a large call can be sent without a copy from now on; 0 or -ENOMEM */
void stream_job_has(struct stream *st, struct call *c); /* CALL_JOB: drops its bytes, which the job has */
void stream_drop_answer(struct call *c);                /* the pieces of it that have come */
void stream_remove(struct stream *st, struct call *c);  /* frees it */
void stream_sweep(struct stream *st);                   /* frames: answered calls leave memory */
void stream_calls_free(struct stream *st);
int stream_done_load(struct stream *st, struct buffer *answered); /* takes what store_stream_get gave. 0 or -ENOMEM */
/* for store_stream_put, row.call being set. 0 or -ENOMEM */
int stream_done(const struct stream *st, struct buffer *out);
void stream_place(struct stream *st); /* sets row to the current position */

/* stream_wait.c. Answers go out up to the oldest open call; of the later ones some are written down. 0 or -errno */
int stream_advance_json(struct stream *st);
void stream_wait_load(struct stream *st, int64_t end); /* end: size of the log of waiting answers */
int stream_wait_added(struct stream *st, uint64_t number);

/* stream_json.c: a JSON text, as a line; takes it */
int stream_json_text(struct stream *st, struct call *c, struct buffer *text);
#endif
