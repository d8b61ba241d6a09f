/* Calls that need a job of their own: what has options, and programs. Such a job is listed nowhere, and goes when the
 * stream has its answer. Bytes over INLINE_MAX, both ways, are the disk thread's (stream_body.c, stream_ended.c):
 * meanwhile the call is CALL_JOB, and the job is not there yet, or is there still.
 *
 * After a commit that failed the rows of such jobs are as they were committed, and what they say goes on: a run is
 * given to a worker only when its row is. What a job prints meanwhile is kept (stream_kept.c), and one that ends stays,
 * until the parser has met its call again. */
#include <errno.h>
#include <stdlib.h>

#include "sched/streams/stream_int.h"

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

static int has_job(struct stream *st, struct call *c, const struct job_row *r) {
    c->job = r->job.id;
    c->kept = r->job.state == JOB_HELD;
    if (!c->kept || !(c->released || st->parsed_all))
        return 0;
    return c->released ? let_go(st->s, c) : hold_over(st->s, c);
}

int stream_part_submit(struct stream *st, struct call *c, const struct buffer *body, uint64_t job) {
    struct sched *s = st->s;
    struct job_row owner, r = {.job.id = job};
    struct call_text text = {.number = c->number, .line = c->bytes, .size = c->size};
    if (st->codec->kind != WORK_STREAM_JSON)
        text = (struct call_text){.number = c->number, .options = c->options};
    int rc = store_job_get(s->store, st->id, &owner);
    if (rc == 0)
        rc = submit_call(s, &owner, &text, body, &r);
    if (rc < 0)
        return rc;
    rc = has_job(st, c, &r);
    return rc == 0 && job_ended(r.job.state) ? stream_job_ended(s, &r) : rc;
}

static void is_job(struct stream *st, struct call *c) {
    c->state = CALL_JOB;
    c->ticks = 0;
    c->job = 0;
    st->pending--;
    st->fresh_jobs += !c->told;
    st->parts_waiting = true;
}

int stream_job(struct stream *st, struct call *c) {
    is_job(st, c);
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
                                   enum output_kind which, const void *bytes, size_t size) {
    struct stream *st;
    struct call *c = stream_part_call(s, stream, number, job, &st);
    if (!c)
        return NULL;
    sched_check(s, st->codec->output(st, c, which, bytes, size));
    return st;
}

/* --- after a commit that failed ---------------------------------------------------------------------------------- */

/* Jobs of an earlier daemon do not: a death is a death. */
static bool goes_on(struct sched *s, const struct job_row *r) {
    bool lives = r->job.state != JOB_DRAFT && (r->job.state != JOB_RUNNING || run_find(s, r->job.id));
    return lives && r->job.id >= s->first_id;
}

static int compare(const void *a, const void *b) {
    uint64_t x = ((const struct unmet_part *)a)->number, y = ((const struct unmet_part *)b)->number;
    return x < y ? -1 : x > y;
}

static const struct unmet_part *find(const struct stream *st, uint64_t number) {
    const struct unmet *u = &st->unmet;
    struct unmet_part key = {.number = number};
    return u->at < u->count ? bsearch(&key, u->parts + u->at, u->count - u->at, sizeof key, compare) : NULL;
}

static int load_ids(struct stream *st, const uint64_t *ids, int n) {
    struct sched *s = st->s;
    struct unmet_part *grown = reallocarray(st->unmet.parts, st->unmet.count + (size_t)n, sizeof *grown);
    int rc = grown ? 0 : -ENOMEM;
    if (grown)
        st->unmet.parts = grown;
    for (int i = 0; i < n && rc == 0; i++) {
        struct job_row r;
        rc = store_job_get(s->store, ids[i], &r);
        if (rc == 0 && goes_on(s, &r))
            grown[st->unmet.count++] = (struct unmet_part){r.call, ids[i]};
        else if (rc == 0)
            rc = sched_remove(s, &r);
    }
    return rc;
}

int stream_parts_load(struct stream *st) {
    uint64_t ids[64], after = 0;
    int rc = 0, n;
    while (rc == 0 && (n = store_ids(st->s->store, SET_PARTS, (int64_t)st->id, after, ids, 64)) != 0) {
        rc = n < 0 ? n : load_ids(st, ids, n);
        after = n < 0 ? 0 : ids[n - 1];
    }
    if (st->unmet.count)
        qsort(st->unmet.parts, st->unmet.count, sizeof *st->unmet.parts, compare);
    return rc;
}

bool stream_part_waits(const struct stream *st, uint64_t number) {
    return find(st, number);
}

bool stream_part_away(struct sched *s, uint64_t stream, uint64_t number, uint64_t job) {
    const struct stream *st = stream_find(s, stream);
    const struct unmet_part *p = st ? find(st, number) : NULL;
    return st ? p && p->job == job : job >= s->first_id;
}

/* One whose call was answered, is going to be, or was cancelled goes. */
static int claim(struct stream *st, const struct unmet_part *p) {
    struct job_row r;
    struct call *c = stream_call(st, p->number);
    bool wanted = c && c->state == CALL_PENDING && !stream_kept_ended(st, p->number);
    if (c && c->state == CALL_JOB && c->job == p->job)
        return 0;
    int rc = store_job_get(st->s->store, p->job, &r);
    if (rc == 0 && wanted && goes_on(st->s, &r)) {
        is_job(st, c);
        c->goes_on = true;
        stream_job_has(st, c);
        return has_job(st, c, &r);
    }
    if (rc == 0)
        rc = sched_remove(st->s, &r);
    if (rc == -ENOENT)
        rc = 0;
    return rc == 0 && wanted && c->options ? stream_job(st, c) : rc;
}

int stream_parts_claim(struct stream *st) {
    const struct unmet *u = &st->unmet;
    int rc = 0;
    for (size_t i = u->at; i < u->count && u->parts[i].number < st->next_call && rc == 0; i++)
        rc = claim(st, u->parts + i);
    return rc;
}

int stream_parts_answer(struct stream *st) {
    struct unmet *u = &st->unmet;
    struct stream *same;
    int rc = 0;
    while (rc == 0 && u->at < u->count && u->parts[u->at].number < st->next_call) {
        struct unmet_part p = u->parts[u->at++];
        struct job_row r;
        if (!stream_part_call(st->s, st->id, p.number, p.job, &same))
            continue;
        rc = store_job_get(st->s->store, p.job, &r);
        if (rc < 0 || !job_ended(r.job.state))
            continue;
        rc = stream_job_ended(st->s, &r);
        rc = rc > 0 ? 0 : rc < 0 ? rc : sched_remove(st->s, &r);
    }
    return rc;
}
