/* What is written to a stream: into its first log, and to the parser where that has come so far. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sched/streams/streams.h"

#define SENT_AHEAD (64u << 20) /* how far behind the end a write may begin while others are under way */

/* 0: the bytes come next in a log that has so many; 1: they are in it, and were sent again by the kernel after a daemon
 * died. */
static int check_place(int64_t have, size_t size, uint64_t offset, bool again) {
    if (again && offset + size <= (uint64_t)have)
        return 1;
    return offset == (uint64_t)have ? 0 : -ESPIPE; /* a stream can only be appended to */
}

static int check_stream(const struct stream *st, size_t size, uint64_t offset, bool again) {
    int rc = check_place(st->in_size, size, offset, again);
    if (rc != 1 && stream_is_parsed(st))
        return -ESTALE;
    return rc == 0 && st->input.file != BODY_LOG ? -ESPIPE : rc;
}

/* in_file: they stand in the file already, and have these sums. */
static int append(struct stream *st, const char *bytes, size_t size, uint64_t offset, bool again,
                  const struct sums *in_file) {
    struct sched *s = st->s;
    int rc = check_stream(st, size, offset, again);
    if (rc != 0)
        return rc < 0 ? rc : 0;
    if (in_file && (rc = stream_log_tail(st)) == 0)
        rc = store_log_append_file(s->store, st->id, BODY_SPEC, st->in_size, size, in_file);
    else if (!in_file && (rc = buffer_add(&st->tail, bytes, size)) == 0)
        rc = store_touch(s->store);
    if (rc < 0)
        return sched_check(s, rc);
    bool caught_up = st->parsed == st->in_size;
    st->in_size += (int64_t)size;
    stream_mark(st);
    if (caught_up && !stream_full(st))
        rc = stream_feed(st, bytes, size);
    const char *newline = stream_is_json(st) ? memrchr(bytes, '\n', size) : NULL;
    if (newline)
        st->newline = st->in_size - (int64_t)size + (newline - bytes) + 1;
    if (rc == 0)
        rc = stream_lookahead(st, bytes, size);
    return sched_check(s, rc);
}

/* Held, or queued behind others: it is not in memory. */
static int append_queued(struct sched *s, const struct job_row *r, const void *bytes, size_t size, uint64_t offset,
                         bool again, const struct sums *in_file) {
    int64_t have = store_log_size(s->store, r->job.id, BODY_SPEC);
    if (have < 0 || job_ended(r->job.state))
        return have < 0 ? (int)have : -ESTALE;
    int rc = check_place(have, size, offset, again);
    if (rc != 0)
        return rc < 0 ? rc : 0;
    return in_file ? store_log_append_file(s->store, r->job.id, BODY_SPEC, have, size, in_file)
                   : store_log_append(s->store, r->job.id, BODY_SPEC, have, bytes, size);
}

struct writing { /* a write that the disk thread has */
    struct sched *s;
    uint64_t job, offset;
    const void *bytes;
    size_t size;
    bool again;
    struct sums sums;
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
        rc = sums_end(&w->sums);
    if (rc == 0)
        rc = s->stopping ? -ESHUTDOWN : store_job_get(s->store, w->job, &r);
    if (rc == 0 && !st)
        rc = stream_wake(s, &r, &st);
    if (rc == 0)
        rc = st ? append(st, w->bytes, w->size, w->offset, w->again, &w->sums)
                : append_queued(s, &r, w->bytes, w->size, w->offset, w->again, &w->sums);
    if (rc == -ESTALE && r.job.state == JOB_CANCELLED) /* the file was there again for this */
        spool_unlink(s->spool, stream_log_file(w->job, BODY_SPEC));
    if (w->done)
        w->done(w->arg, rc);
    sums_free(&w->sums);
    free(w);
}

static int write_file(struct sched *s, struct stream *st, uint64_t job, const void *bytes, size_t size, uint64_t offset,
                      bool again, sched_done *done, void *arg) {
    struct writing *w = malloc(sizeof *w);
    if (!w)
        return -ENOMEM;
    *w = (struct writing){s, job, offset, bytes, size, again, {.start = offset}, done, arg};
    /* sched_flush syncs */
    int rc = spool_write(s->spool, stream_log_file(job, BODY_SPEC), bytes, size, offset, &w->sums, written, w);
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
        return st ? append(st, bytes, size, offset, again, NULL)
                  : append_queued(s, r, bytes, size, offset, again, NULL);
    int64_t have = st ? check_stream(st, size, offset, again) : store_log_size(s->store, r->job.id, BODY_SPEC);
    if (st && have != 0)
        return have < 0 ? (int)have : 0;
    if (!st && (have < 0 || offset != (uint64_t)have || job_ended(r->job.state)))
        return append_queued(s, r, bytes, size, offset, again, NULL);
    return write_file(s, st, r->job.id, bytes, size, offset, again, done, arg);
}
