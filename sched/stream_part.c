/* Calls that need a job of their own: what has options, and programs. Such a job is listed nowhere, and goes when the
 * stream has its answer. Bytes over INLINE_MAX, both ways, are the disk thread's: meanwhile the call is CALL_JOB, and
 * the job is not there yet, or is there still. */
#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sched/stream_int.h"
#include "sched/values.h"

#define BODY_MAX ((size_t)INT32_MAX) /* bytes that a worker takes */

struct call *stream_part_call(struct sched *s, uint64_t stream, uint64_t number, uint64_t job, struct stream **out) {
    struct stream *st = *out = stream_find(s, stream);
    struct call *c = st ? stream_call(st, number) : NULL;
    return c && c->state == CALL_JOB && c->job == job ? c : NULL;
}

/* --- into the queue ---------------------------------------------------------------------------------------------- */

struct sending { /* that job's file on its way: a line, or what WORK_CALL says */
    struct sched *s;
    uint64_t stream, number, job; /* job: the id that the call has for it, 0 = none yet */
    unsigned at;                  /* values, then the function: those that are in the body */
    size_t expected;              /* bytes that are being read */
    struct user *user;
    size_t counted; /* of body, in user.held */
    struct buffer body;
};

static void count(struct sending *p) {
    p->user->held += p->body.size - p->counted;
    p->counted = p->body.size;
}

static void free_sending(struct sending *p) {
    p->body.size = 0;
    count(p);
    sched_tick(p->s);
    buffer_free(&p->body);
    free(p);
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

/* job: it has the body already in its file, 0 = it has not been written. */
static int submit(struct stream *st, struct call *c, const struct buffer *body, uint64_t job) {
    struct sched *s = st->s;
    struct job_row owner, r = {.job.id = job};
    int rc = store_job_get(s->store, st->id, &owner);
    if (rc == 0)
        rc = submit_part(s, &owner, c, c->number, st->codec->kind, body, &r);
    if (rc < 0)
        return rc;
    c->job = r.job.id;
    c->kept = r.job.state == JOB_HELD;
    if (c->kept && (c->released || st->parsed_all))
        return c->released ? let_go(s, c) : hold_over(s, c);
    return job_ended(r.job.state) ? stream_job_ended(s, &r) : 0;
}

static struct spool_name spec_of(uint64_t job) {
    return (struct spool_name){job, BODY_SPEC, SPEC_FILE};
}

static void body_written(void *arg, int rc) {
    struct sending *p = arg;
    struct sched *s = p->s;
    struct stream *st;
    struct call *c = stream_part_call(s, p->stream, p->number, p->job, &st);
    if (c && rc < 0) {
        sched_log(s, "a call of a stream could not be written to the disk: %s", strerror(-rc));
        if (!s->error)
            s->error = rc;
    } else if (c && !s->stopping) {
        rc = sched_check(s, submit(st, c, &p->body, p->job));
        if (c->state == CALL_JOB)
            stream_job_has(st, c);
    }
    if (!c || rc < 0)
        spool_unlink(s->spool, spec_of(p->job));
    free_sending(p);
}

/* From here on its answers to the disk thread find the call by that id. */
static int name_job(struct sending *p, struct call *c) {
    if (!p->job)
        p->job = c->job = store_next_id(p->s->store);
    return p->job ? 0 : -ENOMEM;
}

static int add_u32(struct buffer *b, size_t n) {
    uint32_t le = htole32((uint32_t)n);
    return buffer_add(b, &le, sizeof le);
}

static void was_appended(void *arg, int rc);

/* The body as far as it is at hand: 0 when it is whole, -EINPROGRESS: was_appended goes on. -EFBIG: no worker takes so
 * much. */
static int make_body(struct sending *p, struct call *c) {
    struct buffer *b = &p->body;
    unsigned values = call_values(c), pieces = values + (call_function(c) != NULL);
    int rc = 0;
    if (c->format == CALL_JSON)
        return buffer_add(b, c->bytes, c->size);
    if (p->at == 0 && b->size == 0)
        rc = add_u32(b, values);
    while (rc == 0 && p->at < pieces && b->size <= BODY_MAX) {
        const uint8_t *hash = p->at < values ? call_value(c, p->at) : call_function(c);
        if (p->at++ < values)
            rc = buffer_add(b, hash, 32);
        if (rc == 0 && (rc = name_job(p, c)) == 0)
            rc = values_append(p->s, p->stream, hash, b, &p->expected, was_appended, p);
    }
    if (rc == 0 && pieces == values)
        rc = add_u32(b, 0);
    if (rc == 0)
        rc = buffer_add(b, c->bytes + call_pickle_at(c), c->size - call_pickle_at(c));
    return rc == 0 && b->size > BODY_MAX ? -EFBIG : rc;
}

/* The body is whole, or cannot be had. Takes p over. */
static int send_body(struct stream *st, struct call *c, struct sending *p, int rc) {
    struct sched *s = st->s;
    if (rc == -ENOENT || rc == -EFBIG) {
        free_sending(p);
        return st->codec->fail(st, c, ERROR_PICKLE,
                               rc == -EFBIG ? "it and its values are larger than 2 GiB"
                                            : "its function, or a value that it lists, is not there");
    }
    if (rc == 0 && p->body.size <= INLINE_MAX)
        rc = submit(st, c, &p->body, 0);
    else if (rc == 0 && (rc = name_job(p, c)) == 0)
        rc = spool_pwrite_kept(s->spool, spec_of(p->job), p->body.bytes, p->body.size, 0, false, body_written, p);
    if (rc == -EINPROGRESS)
        return 0;
    free_sending(p);
    return rc;
}

static void was_appended(void *arg, int rc) {
    struct sending *p = arg;
    struct sched *s = p->s;
    struct stream *st;
    struct call *c = s->stopping ? NULL : stream_part_call(s, p->stream, p->number, p->job, &st);
    if (!c) {
        free_sending(p);
        return;
    }
    if (rc >= 0 && (size_t)rc == p->expected) {
        rc = make_body(p, c);
        count(p);
    } else {
        sched_log(s, "a function or value of a stream could not be read: %s", strerror(rc < 0 ? -rc : EIO));
        rc = -ENOENT;
    }
    if (rc != -EINPROGRESS)
        sched_check(s, send_body(st, c, p, rc));
}

int stream_job(struct stream *st, struct call *c) {
    struct sending *p = calloc(1, sizeof *p);
    if (!p)
        return sched_check(st->s, -ENOMEM);
    *p = (struct sending){.s = st->s, .stream = st->id, .number = c->number, .user = st->user};
    c->state = CALL_JOB;
    c->ticks = 0;
    c->job = 0;
    st->pending--;
    st->fresh_jobs += !c->told;
    st->parts_waiting = true;
    int rc = make_body(p, c);
    count(p);
    return sched_check(st->s, rc == -EINPROGRESS ? 0 : send_body(st, c, p, rc));
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
    struct call *c;
    TAILQ_FOREACH(c, &st->calls, order)
        if (c->kept && (rc = hold_over(st->s, c)) < 0)
            break;
    return rc;
}

/* STARTED, for those that have been running for two ticks of the timer. Returns whether there are more to look after.
 * */
bool stream_parts_tick(struct stream *st) {
    bool more = false;
    struct call *c;
    if (!st->parts_waiting)
        return false;
    TAILQ_FOREACH(c, &st->calls, order) {
        if (c->state != CALL_JOB || c->told)
            continue;
        struct run *r = run_find(st->s, c->job);
        if (r && r->state == RUN_RUNNING && c->ticks++ > 0) {
            stream_job_known(st, c);
            c->told = true;
            sched_check(st->s, st->codec->started(st, c));
        }
        more |= !c->told;
    }
    st->parts_waiting = more;
    return more;
}

struct stream *stream_part_printed(struct sched *s, uint64_t stream, uint64_t number, uint64_t job,
                                   enum pool_stream which, const void *bytes, size_t size) {
    struct stream *st;
    struct call *c = stream_part_call(s, stream, number, job, &st);
    if (!c)
        return NULL;
    sched_check(s, st->codec->output(st, c, which, bytes, size));
    return st;
}
