/* Jobs of calls after a commit that failed: their rows are as they were committed, and what these say goes on, for a
 * run is given to a worker only when its row is. A job that ends stays until the parser has met its call again. */
#include <errno.h>
#include <stdlib.h>

#include "sched/calls/stream_int.h"

/* Jobs of an earlier daemon do not: a death is a death. */
static bool goes_on(struct sched *s, const struct job_row *r) {
    bool lives = r->job.state != JOB_DRAFT && (r->job.state != JOB_RUNNING || run_find(s, r->job.id));
    return lives && r->job.id >= s->first_id;
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
        qsort(st->unmet.parts, st->unmet.count, sizeof *st->unmet.parts, stream_part_compare);
    return rc;
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
        stream_part_is(st, c);
        c->goes_on = true;
        stream_job_has(st, c);
        return stream_part_has(st, c, &r);
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
        if (rc >= 0)
            rc = rc > 0 ? 0 : sched_remove(st->s, &r);
    }
    return rc;
}
