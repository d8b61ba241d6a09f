/* The two logs of a stream: its input and its answers.
 *
 * Small pieces are rows of the database. A piece of more than INLINE_MAX bytes is written by the disk thread into the
 * log's file, at the offset that it has in the log, and then a row says that it is there. So what is committed is in
 * the file, and what a daemon that was killed left behind the last row is written over by the next.
 *
 * Answers that are on the way there (st->flight) go together with how far the stream was when they were sent off: both
 * are committed in the turn in which they arrive. What is answered meanwhile waits in st->large and st->out. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sched/calls/stream_int.h"

int64_t stream_log_read(struct sched *s, uint64_t job, enum job_body b, void *buf, size_t size, uint64_t offset,
                        sched_done *done, void *arg) {
    size_t in_file;
    struct part part;
    int64_t n = store_log_read(s->store, job, b, buf, size, offset, &in_file, &part);
    return n != 0 || in_file == 0
               ? n
               : spool_read(s->spool, stream_log_file(job, b), buf, in_file, offset, &part, done, arg);
}

int64_t stream_input(struct stream *st, void *buf, size_t size, uint64_t offset, sched_done *done) {
    struct sched *s = st->s;
    if (st->input.file == BODY_LOG)
        return stream_log_read(s, st->id, BODY_SPEC, buf, size, offset, done, st);
    if (st->input.file == 0)
        return store_body_read(s->store, st->id, BODY_SPEC, buf, size, offset);
    return spool_read(s->spool, (struct spool_name){st->id, BODY_SPEC, st->input.file}, buf, size, offset, NULL, done,
                      st);
}

/* --- in ---------------------------------------------------------------------------------------------------------- */

int stream_log_tail(struct stream *st) {
    int64_t start = st->in_size - (int64_t)st->tail.size;
    int rc =
        st->tail.size ? store_log_append(st->s->store, st->id, BODY_SPEC, start, st->tail.bytes, st->tail.size) : 0;
    buffer_empty(&st->tail);
    return rc;
}

/* --- out --------------------------------------------------------------------------------------------------------- */

struct piece {
    struct sched *s;
    struct user *user; /* user.flying counts it */
    uint64_t job;
    struct chunks bytes;
    struct iovec *parts;
    int64_t start;
    struct sums sums;       /* of the bytes */
    uint64_t stage;         /* of their kept copies: stream_kept.c */
    struct stream_row row;  /* position of the stream with these answers ... */
    struct buffer answered; /* ... and which calls are answered */
};

static void piece_written(void *arg, int rc) {
    struct piece *p = arg;
    struct sched *s = p->s;
    struct stream *st = stream_find(s, p->job);
    if (st && st->flight == p) { /* else it was cancelled, or is read anew */
        st->flight = NULL;
        if (sched_check(s, rc) < 0)
            sched_log(s, "answers of a stream could not be written: %s", strerror(-rc));
        if (rc == 0)
            rc = sums_end(&p->sums);
        if (rc == 0)
            rc = store_log_append_file(s->store, p->job, BODY_RESULT, p->start, p->bytes.size, &p->sums);
        if (rc == 0)
            rc = store_stream_put(s->store, p->job, &p->row, &p->answered);
        st->out_size += (int64_t)p->bytes.size;
        stream_kept_logged(st, p->stage);
        sched_note(s, p->job);
        stream_mark(st);
    }
    p->user->flying -= p->bytes.size;
    sums_free(&p->sums);
    chunks_free(&p->bytes);
    buffer_free(&p->answered);
    free(p->parts);
    free(p);
}

static int send_off(struct stream *st) {
    int rc = chunks_take(&st->large, &st->out, &st->user->answers);
    struct piece *p = rc == 0 ? malloc(sizeof *p) : NULL;
    if (!p)
        return -ENOMEM;
    *p = (struct piece){.s = st->s,
                        .user = st->user,
                        .job = st->id,
                        .bytes = st->large,
                        .parts = chunks_parts(&st->large),
                        .start = st->out_size,
                        .sums.start = (uint64_t)st->out_size,
                        .stage = st->stage,
                        .row = st->row};
    rc = p->parts ? stream_done(st, &p->answered) : -ENOMEM;
    if (rc == 0)
        rc = spool_write_parts(st->s->spool, stream_log_file(st->id, BODY_RESULT), p->parts, p->bytes.count,
                               (uint64_t)p->start, st->s->c.sync_full, &p->sums, piece_written, p);
    if (rc != -EINPROGRESS) {
        buffer_free(&p->answered);
        free(p->parts);
        free(p);
        return rc;
    }
    p->user->flying += p->bytes.size;
    st->large = (struct chunks){0};
    st->flight = p;
    st->stage++;
    return 0;
}

static int flush(struct stream *st, enum job_body b, struct buffer *what, int64_t *size) {
    if (!what->size)
        return 0;
    int rc = store_log_append(st->s->store, st->id, b, *size, what->bytes, what->size);
    *size += (int64_t)what->size;
    buffer_empty(what);
    return rc;
}

/* Appends out, which is at most a row; nothing is on the way to the disk. */
static int flush_out(struct stream *st) {
    int rc = flush(st, BODY_RESULT, &st->out, &st->out_size);
    if (rc == 0)
        stream_kept_logged(st, st->stage++);
    return rc;
}

int stream_log_flush(struct stream *st) {
    int rc = stream_log_tail(st);
    for (int i = 0; i < 2 && rc == 0; i++)
        rc = flush(st, i ? BODY_STDERR : BODY_STDOUT, &st->prints[i], &st->print_size[i]);
    if (rc < 0 || st->flight)
        return rc;
    return st->large.first || st->out.size > INLINE_MAX ? send_off(st) : flush_out(st);
}

int stream_log_settle(struct stream *st) {
    if (st->flight || st->large.first || st->out.size > INLINE_MAX)
        return 0;
    int rc = flush_out(st);
    return rc < 0 ? rc : 1;
}

int stream_put(struct stream *st) {
    int rc = stream_done(st, &st->answered);
    return rc < 0 ? rc : store_stream_put(st->s->store, st->id, &st->row, &st->answered);
}
