/* Calls that need a job of their own: what has options, and programs. Such a job is listed nowhere, and goes when the
 * stream has its answer. Bytes over INLINE_MAX, both ways, are the disk thread's (stream_body.c, stream_ended.c):
 * meanwhile the call is CALL_JOB, and the job is not there yet, or is there still. */
#include <errno.h>

#include "sched/stream_int.h"

struct call *stream_part_call(struct sched *s, uint64_t stream, uint64_t number, uint64_t job, struct stream **out) {
    struct stream *st = *out = stream_find(s, stream);
    struct call *c = st ? stream_call(st, number) : NULL;
    return c && c->state == CALL_JOB && c->job == job ? c : NULL;
}

/* --- into the queue ---------------------------------------------------------------------------------------------- */

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

int stream_part_submit(struct stream *st, struct call *c, const struct buffer *body, uint64_t job) {
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

int stream_job(struct stream *st, struct call *c) {
    c->state = CALL_JOB;
    c->ticks = 0;
    c->job = 0;
    st->pending--;
    st->fresh_jobs += !c->told;
    st->parts_waiting = true;
    return sched_check(st->s, stream_body(st, c));
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
