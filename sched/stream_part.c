/* Calls that need a job of their own: what has options, and programs. Such a job is listed nowhere, and goes when the
 * stream has its answer. Bytes over INLINE_MAX, both ways, are the disk thread's: meanwhile the call is CALL_JOB, and
 * the job is not there yet, or is there still. */
#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sched/stream_int.h"

/* The call that the job answers; NULL when nobody waits for that any more. */
static struct call *call_of(struct sched *s, uint64_t stream, uint64_t number, uint64_t job, struct stream **out) {
    struct stream *st = *out = stream_find(s, stream);
    if (!st || number < st->row.call || number >= st->next_call)
        return NULL;
    struct call *c = stream_call(st, number);
    return c->state == CALL_JOB && c->job == job ? c : NULL;
}

/* --- into the queue ---------------------------------------------------------------------------------------------- */

static int add_function(void *arg, const void *bytes, size_t size) {
    struct buffer *b = arg;
    uint32_t size_le = htole32((uint32_t)size);
    int rc = buffer_reserve(b, sizeof size_le + size);
    if (rc == 0)
        rc = buffer_add(b, &size_le, sizeof size_le);
    return rc < 0 ? rc : buffer_add(b, bytes, size);
}

/* What that job's file is: a line, or what WORK_CALL says. */
static int make_body(struct sched *s, const struct call *c, struct buffer *b) {
    static const uint32_t none = 0;
    int rc = 0;
    if (c->format == CALL_HASH)
        rc = store_function_get(s->store, (const uint8_t *)c->bytes, add_function, b);
    else if (c->format == CALL_PICKLE)
        rc = buffer_add(b, &none, sizeof none);
    size_t hash = c->format == CALL_HASH ? 32 : 0;
    return rc < 0 ? rc : buffer_add(b, c->bytes + hash, c->size - hash);
}

static int let_go(struct sched *s, struct call *c) {
    c->kept = false;
    return sched_set_hold(s, c->job, false);
}

static int hold_over(struct sched *s, struct call *c) {
    struct job_row r;
    int rc = store_job_get(s->store, c->job, &r);
    c->kept = false;
    return rc < 0 ? rc : sched_fail(s, &r, EIO, "it was held, and its stream ended without a RELEASE of it", 0);
}

/* id: of the job whose file has the body already, 0 = it has not been written. */
static int submit(struct stream *st, struct call *c, const struct buffer *body, uint64_t id) {
    struct sched *s = st->s;
    struct job_row owner, r = {.job.id = id};
    int rc = store_job_get(s->store, st->id, &owner);
    if (rc == 0)
        rc = submit_part(s, &owner, c, stream_number(st, c), st->codec->kind, body, &r);
    if (rc < 0)
        return rc;
    c->job = r.job.id;
    c->kept = r.job.state == JOB_HELD;
    if (c->kept && (c->released || st->parsed_all))
        return c->released ? let_go(s, c) : hold_over(s, c);
    return job_ended(r.job.state) ? stream_job_ended(s, &r) : 0;
}

struct sending {
    struct sched *s;
    uint64_t stream, number, job;
    struct buffer body;
};

static struct spool_name spec_of(uint64_t job) {
    return (struct spool_name){job, BODY_SPEC, SPEC_FILE};
}

static void body_written(void *arg, int rc) {
    struct sending *p = arg;
    struct sched *s = p->s;
    struct stream *st;
    struct call *c = call_of(s, p->stream, p->number, p->job, &st);
    if (c && rc < 0) {
        sched_log(s, "a call of a stream could not be written to the disk: %s", strerror(-rc));
        if (!s->error)
            s->error = rc;
    } else if (c && !s->stopping) {
        rc = sched_check(s, submit(st, c, &p->body, p->job));
    }
    if (!c || rc < 0)
        spool_unlink(s->spool, spec_of(p->job));
    buffer_free(&p->body);
    free(p);
}

/* Takes the body over when it returns 0. */
static int write_first(struct stream *st, struct call *c, struct buffer *body) {
    struct sched *s = st->s;
    struct sending *p = malloc(sizeof *p);
    c->job = store_next_id(s->store);
    if (!p || !c->job) {
        free(p);
        return -ENOMEM;
    }
    *p = (struct sending){s, st->id, stream_number(st, c), c->job, *body};
    int rc = spool_pwrite_kept(s->spool, spec_of(c->job), body->bytes, body->size, 0, false, body_written, p);
    if (rc != -EINPROGRESS) {
        free(p);
        return rc;
    }
    *body = (struct buffer){0};
    return 0;
}

int stream_job(struct stream *st, struct call *c) {
    struct buffer body = {0};
    int rc = make_body(st->s, c, &body);
    if (rc == -ENOENT)
        return st->codec->fail(st, c, ERROR_REFUSED, "its function was never sent");
    if (rc == 0) {
        c->state = CALL_JOB;
        c->ticks = 0;
        st->pending--;
        st->parts_waiting = true;
        rc = body.size > INLINE_MAX ? write_first(st, c, &body) : submit(st, c, &body, 0);
    }
    buffer_free(&body);
    return sched_check(st->s, rc);
}

/* Its job may not be there yet: then submit() sees that it was released. */
int stream_release(struct stream *st, uint64_t id) {
    struct call *c = stream_call_of(st, id);
    if (!c)
        return 0;
    c->released = true;
    return c->kept ? let_go(st->s, c) : 0;
}

int stream_hold_over(struct stream *st) {
    int rc = 0;
    for (uint64_t n = st->row.call; n < st->next_call && rc == 0; n++)
        if (stream_call(st, n)->kept)
            rc = hold_over(st->s, stream_call(st, n));
    return rc;
}

/* STARTED, for those that have been running for two ticks of the timer. Returns whether there are more to look after. */
bool stream_parts_tick(struct stream *st) {
    bool more = false;
    for (uint64_t n = st->row.call; n < st->next_call && st->parts_waiting; n++) {
        struct call *c = stream_call(st, n);
        if (c->state != CALL_JOB || c->told)
            continue;
        struct run *r = run_find(st->s, c->job);
        if (r && r->state == RUN_RUNNING && c->ticks++ > 0) {
            c->told = true;
            sched_check(st->s, st->codec->started(st, c));
        }
        more |= !c->told;
    }
    st->parts_waiting = more;
    return more;
}

struct stream *stream_part_printed(struct sched *s, uint64_t stream, uint64_t number, uint64_t job, enum pool_stream which, const void *bytes, size_t size) {
    struct stream *st;
    struct call *c = call_of(s, stream, number, job, &st);
    if (!c)
        return NULL;
    sched_check(s, st->codec->output(st, c, which, bytes, size));
    return st;
}

/* --- its answer -------------------------------------------------------------------------------------------------- */

enum { STDOUT /* of a program that failed */, VALUE, TEXTS };

struct ending { /* gathers what the job said */
    struct sched *s;
    struct job_row row;
    int at;
    bool unreadable;
    struct buffer text[TEXTS];
};

static void free_ending(struct ending *e) {
    for (int i = 0; i < TEXTS; i++)
        buffer_free(&e->text[i]);
    free(e);
}

static enum stream_error error_of(const struct job *j) {
    if (j->error == ETIMEDOUT || j->error == EINVAL)
        return j->error == EINVAL ? ERROR_OPTIONS : ERROR_TIMEOUT;
    return j->exit_signal || j->exit_status ? ERROR_DIED : j->attempt ? ERROR_RAISED : ERROR_REFUSED;
}

/* Of a call that raised the worker has made the whole ERROR. */
static int fail_with(struct stream *st, struct call *c, const struct ending *e) {
    const struct job *j = &e->row.job;
    enum stream_error error = error_of(j);
    const struct buffer *body = &e->text[VALUE];
    if (j->state == JOB_CANCELLED)
        error = 0;
    if (j->kind == WORK_CALL && error == ERROR_RAISED && body->size >= 8)
        return st->codec->answer(st, c, ANSWER_ERROR, body->bytes, body->size);
    return st->codec->fail(st, c, error, j->why);
}

static int answer(struct stream *st, struct call *c, struct ending *e) {
    const struct job *j = &e->row.job;
    const struct buffer *value = &e->text[VALUE];
    int rc = 0;
    if (e->text[STDOUT].size)
        rc = st->codec->output(st, c, POOL_STDOUT, e->text[STDOUT].bytes, e->text[STDOUT].size);
    if (rc < 0)
        return rc;
    if (e->unreadable)
        return st->codec->fail(st, c, ERROR_DIED, "its result could not be read");
    if (j->state != JOB_DONE)
        return fail_with(st, c, e);
    if (j->kind == WORK_JSON_RUN)
        return stream_json_text(st, c, value->bytes, value->size);
    return st->codec->answer(st, c, ANSWER_VALUE, value->bytes ? value->bytes : "", value->size);
}

static void was_loaded(void *arg, int rc);

/* Reads on: 0 when all is there, -EINPROGRESS: was_loaded goes on, -errno. */
static int gather(struct ending *e) {
    struct sched *s = e->s;
    const struct job *j = &e->row.job;
    enum job_body result = job_result_body(j->kind), last = j->state == JOB_DONE ? result : BODY_TRACE;
    for (; e->at < TEXTS; e->at++) {
        enum job_body b = e->at == STDOUT ? BODY_STDOUT : last;
        struct buffer *text = &e->text[e->at];
        struct body body;
        if (e->at != VALUE && b == last)
            continue;
        int rc = store_body_get(s->store, j->id, b, &body);
        if (rc == -ENOENT)
            continue;
        if (rc == 0 && body.size > (int64_t)FRAME_WHOLE_MAX)
            rc = -EFBIG;
        if (rc == 0)
            rc = buffer_reserve(text, (size_t)body.size);
        if (rc == 0 && body.file) {
            text->size = (size_t)body.size;
            return spool_load(s->spool, (struct spool_name){j->id, b, body.file}, text->bytes, text->size, 0, was_loaded, e);
        }
        int64_t n = rc == 0 ? store_body_read(s->store, j->id, b, text->bytes, (size_t)body.size, 0) : rc;
        if (n < 0 && n != -EFBIG)
            return (int)n;
        e->unreadable |= n < 0;
        text->size = n > 0 ? (size_t)n : 0;
    }
    return 0;
}

/* What it answers is in the log with this turn: then the job goes. */
static void was_loaded(void *arg, int rc) {
    struct ending *e = arg;
    struct sched *s = e->s;
    struct stream *st;
    struct buffer *text = &e->text[e->at++];
    e->unreadable |= rc < 0 || (size_t)rc != text->size;
    if (e->unreadable)
        text->size = 0;
    rc = s->stopping ? -ESHUTDOWN : gather(e);
    if (rc == -EINPROGRESS)
        return;
    struct call *c = call_of(s, e->row.stream, e->row.call, e->row.job.id, &st);
    if (c && rc == 0)
        rc = answer(st, c, e);
    if (c && rc == 0)
        rc = sched_remove(s, &e->row);
    if (c && !s->stopping)
        sched_check(s, rc);
    free_ending(e);
}

int stream_job_ended(struct sched *s, const struct job_row *r) {
    struct stream *st;
    struct call *c = call_of(s, r->stream, r->call, r->job.id, &st);
    struct ending *e = c ? calloc(1, sizeof *e) : NULL;
    if (!c)
        return 0;
    if (!e)
        return sched_check(s, -ENOMEM);
    e->s = s;
    e->row = *r;
    int rc = gather(e);
    if (rc == -EINPROGRESS)
        return 1;
    if (rc == 0)
        rc = answer(st, c, e);
    free_ending(e);
    return sched_check(s, rc);
}
