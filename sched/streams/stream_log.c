/* The two logs of a stream: what was written to it, what it answered.
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

#include "sched/streams/stream_int.h"

#define SENT_AHEAD (64u << 20) /* how far behind the end a write may begin while others are under way */

static struct spool_name file_of(uint64_t job, enum job_body b) {
    return (struct spool_name){job, b, BODY_LOG};
}

int64_t stream_log_read(struct sched *s, uint64_t job, enum job_body b, void *buf, size_t size, uint64_t offset,
                        sched_done *done, void *arg) {
    size_t in_file;
    int64_t n = store_log_read(s->store, job, b, buf, size, offset, &in_file);
    return n != 0 || in_file == 0 ? n : spool_read(s->spool, file_of(job, b), buf, in_file, offset, done, arg);
}

int64_t stream_input(struct stream *st, void *buf, size_t size, uint64_t offset, sched_done *done) {
    struct sched *s = st->s;
    if (st->input.file == BODY_LOG)
        return stream_log_read(s, st->id, BODY_SPEC, buf, size, offset, done, st);
    if (st->input.file == 0)
        return store_body_read(s->store, st->id, BODY_SPEC, buf, size, offset);
    return spool_read(s->spool, (struct spool_name){st->id, BODY_SPEC, st->input.file}, buf, size, offset, done, st);
}

/* --- in ---------------------------------------------------------------------------------------------------------- */

static int flush_tail(struct stream *st) {
    int64_t start = st->in_size - (int64_t)st->tail.size;
    int rc =
        st->tail.size ? store_log_append(st->s->store, st->id, BODY_SPEC, start, st->tail.bytes, st->tail.size) : 0;
    buffer_empty(&st->tail);
    return rc;
}

/* 0: the bytes come next in a log that has so many; 1: they are in it, and were sent again by the kernel after a daemon
 * died. */
static int check_place(int64_t have, size_t size, uint64_t offset, bool again) {
    if (again && offset + size <= (uint64_t)have)
        return 1;
    return offset == (uint64_t)have ? 0 : -ESPIPE; /* a stream can only be appended to */
}

static int check_stream(const struct stream *st, size_t size, uint64_t offset, bool again) {
    int rc = check_place(st->in_size, size, offset, again);
    if (rc != 1 && st->parsed_all)
        return -ESTALE;
    return rc == 0 && st->input.file != BODY_LOG ? -ESPIPE : rc;
}

/* in_file: they stand in the file already. */
static int append(struct stream *st, const char *bytes, size_t size, uint64_t offset, bool again, bool in_file) {
    struct sched *s = st->s;
    int rc = check_stream(st, size, offset, again);
    if (rc != 0)
        return rc < 0 ? rc : 0;
    if (in_file && (rc = flush_tail(st)) == 0)
        rc = store_log_append(s->store, st->id, BODY_SPEC, st->in_size, NULL, size);
    else if (!in_file && (rc = buffer_add(&st->tail, bytes, size)) == 0)
        rc = store_touch(s->store);
    if (rc < 0)
        return sched_check(s, rc);
    bool caught_up = st->parsed == st->in_size;
    st->in_size += (int64_t)size;
    if (caught_up && !stream_full(st))
        rc = stream_feed(st, bytes, size);
    const char *newline = st->codec == &codec_json ? memrchr(bytes, '\n', size) : NULL;
    if (newline)
        st->newline = st->in_size - (int64_t)size + (newline - bytes) + 1;
    if (rc == 0)
        rc = stream_look(st, bytes, size);
    stream_mark(st);
    return sched_check(s, rc);
}

/* Held, or queued behind others: it is not in memory. */
static int append_queued(struct sched *s, const struct job_row *r, const void *bytes, size_t size, uint64_t offset,
                         bool again, bool in_file) {
    int64_t have = store_log_size(s->store, r->job.id, BODY_SPEC);
    if (have < 0 || job_ended(r->job.state))
        return have < 0 ? (int)have : -ESTALE;
    int rc = check_place(have, size, offset, again);
    if (rc != 0)
        return rc < 0 ? rc : 0;
    return store_log_append(s->store, r->job.id, BODY_SPEC, have, in_file ? NULL : bytes, size);
}

struct writing { /* a write that the disk thread has */
    struct sched *s;
    uint64_t job, offset;
    const void *bytes;
    size_t size;
    bool again;
    sched_done *done;
    void *arg;
};

static void written(void *arg, int rc) {
    struct writing *w = arg;
    struct sched *s = w->s;
    struct stream *st = stream_find(s, w->job);
    struct job_row r;
    if (st && st->writing)
        st->writing--;
    if (rc == 0)
        rc = s->stopping ? -ESHUTDOWN : store_job_get(s->store, w->job, &r);
    if (rc == 0 && !st)
        rc = stream_wake(s, &r, &st);
    if (rc == 0)
        rc = st ? append(st, w->bytes, w->size, w->offset, w->again, true)
                : append_queued(s, &r, w->bytes, w->size, w->offset, w->again, true);
    if (rc == -ESTALE && r.job.state == JOB_CANCELLED) /* the file was there again for this */
        spool_unlink(s->spool, file_of(w->job, BODY_SPEC));
    if (w->done)
        w->done(w->arg, rc);
    free(w);
}

static int write_file(struct sched *s, struct stream *st, uint64_t job, const void *bytes, size_t size, uint64_t offset,
                      bool again, sched_done *done, void *arg) {
    struct writing *w = malloc(sizeof *w);
    if (!w)
        return -ENOMEM;
    *w = (struct writing){s, job, offset, bytes, size, again, done, arg};
    /* sched_flush syncs */
    int rc = spool_write(s->spool, file_of(job, BODY_SPEC), bytes, size, offset, written, w);
    if (rc != -EINPROGRESS)
        free(w);
    else if (st)
        st->writing++;
    return rc;
}

int stream_write(struct sched *s, const struct job_row *r, const void *bytes, size_t size, uint64_t offset, bool again,
                 sched_done *done, void *arg) {
    struct stream *st;
    int rc = quota_bytes(s, r->job.uid, (int64_t)size);
    if (rc == 0)
        rc = stream_wake(s, r, &st);
    if (rc < 0)
        return rc;
    if (st && st->writing && offset >= (uint64_t)st->in_size) /* those before it come first */
        return offset < (uint64_t)st->in_size + SENT_AHEAD
                   ? write_file(s, st, r->job.id, bytes, size, offset, again, done, arg)
                   : -ESPIPE;
    if (size <= INLINE_MAX)
        return st ? append(st, bytes, size, offset, again, false)
                  : append_queued(s, r, bytes, size, offset, again, false);
    int64_t have = st ? check_stream(st, size, offset, again) : store_log_size(s->store, r->job.id, BODY_SPEC);
    if (st && have != 0)
        return have < 0 ? (int)have : 0;
    if (!st && (have < 0 || offset != (uint64_t)have || job_ended(r->job.state)))
        return append_queued(s, r, bytes, size, offset, again, false);
    return write_file(s, st, r->job.id, bytes, size, offset, again, done, arg);
}

/* --- out --------------------------------------------------------------------------------------------------------- */

struct piece {
    struct sched *s;
    struct user *user; /* user.flying counts it */
    uint64_t job;
    struct chunks bytes;
    struct iovec *parts;
    int64_t start;
    uint64_t stage;         /* of what is kept of them: stream_kept.c */
    struct stream_row row;  /* how far the stream is with them ... */
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
            rc = store_log_append(s->store, p->job, BODY_RESULT, p->start, NULL, p->bytes.size);
        if (rc == 0)
            rc = store_stream_put(s->store, p->job, &p->row, &p->answered);
        st->out_size += (int64_t)p->bytes.size;
        stream_kept_logged(st, p->stage);
        sched_note(s, p->job);
        stream_mark(st);
    }
    p->user->flying -= p->bytes.size;
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
                        .stage = st->stage,
                        .row = st->row};
    rc = p->parts ? stream_done(st, &p->answered) : -ENOMEM;
    if (rc == 0)
        rc = spool_write_parts(st->s->spool, file_of(st->id, BODY_RESULT), p->parts, p->bytes.count, (uint64_t)p->start,
                               st->s->c.sync_full, piece_written, p);
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

/* Nothing of it is on the way, and no more than a row. */
static int flush_out(struct stream *st) {
    int rc = flush(st, BODY_RESULT, &st->out, &st->out_size);
    if (rc == 0)
        stream_kept_logged(st, st->stage++);
    return rc;
}

int stream_log_flush(struct stream *st) {
    int rc = flush_tail(st);
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
