/* Calls that need a job of their own: what has options, and programs. Such a job is listed nowhere, and goes when the
 * stream has its answer. Bytes over INLINE_MAX, both ways, are the disk thread's (stream_body.c, stream_ended.c):
 * meanwhile the call is CALL_JOB, and the job is not there yet, or is there still.
 *
 * After a commit that failed such jobs go on. What one prints is kept (stream_kept.c), and one that ends stays, until
 * the parser has met its call again (stream_resume.c). */
#include <errno.h>
#include <stdlib.h>

#include "sched/calls/stream_int.h"

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

int stream_part_has(struct stream *st, struct call *c, const struct job_row *r) {
    c->job = r->job.id;
    c->kept = r->job.state == JOB_HELD;
    if (!c->kept || !(c->released || stream_is_parsed(st)))
        return 0;
    return c->released ? let_go(st->s, c) : hold_over(st->s, c);
}

void stream_part_is(struct stream *st, struct call *c) {
    c->state = CALL_JOB;
    c->ticks = 0;
    c->job = 0;
    st->pending--;
    st->fresh_jobs += !c->told;
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
    struct call *c = TAILQ_FIRST(&st->calls);
    for (; c && rc == 0 && !stream_did_enough(st); c = TAILQ_NEXT(c, order))
        if (c->kept) {
            stream_did(st);
            rc = hold_over(st->s, c);
        }
    st->held_over = !c;
    st->more |= !st->held_over;
    return rc;
}

/* Of what runs, and not of all calls: those that wait may be hundreds of thousands. */
static void tick(const void *node, VISIT visit, void *arg) {
    const struct run *r = *(struct run *const *)node;
    struct sched *s = arg;
    struct stream *st;
    if ((visit != postorder && visit != leaf) || !r->stream || r->state != RUN_RUNNING)
        return;
    s->steps++;
    struct call *c = stream_part_call(s, r->stream, r->call, r->id, &st);
    if (!c || c->told || c->ticks++ == 0)
        return;
    stream_job_known(st, c);
    c->told = true;
    sched_check(s, st->codec->started(st, c));
}

void stream_parts_tick(struct sched *s) {
    run_each(s, tick, s);
}

struct stream *stream_part_printed(struct sched *s, uint64_t stream, uint64_t number, uint64_t job,
                                   enum output_kind which, const void *bytes, size_t size) {
    struct stream *st;
    struct call *c = stream_part_call(s, stream, number, job, &st);
    if (!c)
        return NULL;
    sched_check(s, st->codec->output(st, c, which, bytes, size));
    return st;
}

/* --- jobs whose calls the parser has not met again ---------------------------------------------------------------- */

int stream_part_compare(const void *a, const void *b) {
    uint64_t x = ((const struct unmet_part *)a)->number, y = ((const struct unmet_part *)b)->number;
    return x < y ? -1 : x > y;
}

static const struct unmet_part *find(const struct stream *st, uint64_t number) {
    const struct unmet *u = &st->unmet;
    struct unmet_part key = {.number = number};
    return u->at < u->count ? bsearch(&key, u->parts + u->at, u->count - u->at, sizeof key, stream_part_compare) : NULL;
}

bool stream_part_waits(const struct stream *st, uint64_t number) {
    return find(st, number);
}

bool stream_part_away(struct sched *s, uint64_t stream, uint64_t number, uint64_t job) {
    const struct stream *st = stream_find(s, stream);
    const struct unmet_part *p = st ? find(st, number) : NULL;
    return st ? p && p->job == job : job >= s->first_id;
}
