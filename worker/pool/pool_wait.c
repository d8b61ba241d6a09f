/* Accepted work that no worker has. It waits for a fork server to start or to make workers, or its end is decided and
 * told from the loop, so that done() never comes from inside a call of the runner. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/pool/pool_parts.h"

struct refusal { /* accepted work that no worker can do: its done() comes from the loop */
    STAILQ_ENTRY(refusal) next;
    uint64_t job;
    struct work_outcome outcome;
};

void wait_tell_refused(struct pool *p) {
    struct refusals now = STAILQ_HEAD_INITIALIZER(now);
    struct refusal *r;

    STAILQ_CONCAT(&now, &p->refusals);
    while ((r = STAILQ_FIRST(&now))) {
        STAILQ_REMOVE_HEAD(&now, next);
        p->ev.done(p->arg, r->job, &r->outcome);
        free(r);
    }
}

void wait_soon(struct pool *p) {
    event_active(p->soon, EV_TIMEOUT, 0);
}

int wait_refuse(struct pool *p, uint64_t job, const struct work_outcome *o) {
    struct refusal *r = calloc(1, sizeof(*r));

    if (!r)
        return -ENOMEM;
    r->job = job;
    r->outcome = *o;
    STAILQ_INSERT_TAIL(&p->refusals, r, next);
    wait_soon(p);
    return 0;
}

int wait_refuse_start(struct pool *p, uint64_t job, uint32_t attempt, int err) {
    struct work_outcome o = {.attempt = attempt, .end = WORK_REFUSED};

    snprintf(o.why, sizeof(o.why), "no worker could be made for the job: %s", strerror(-err));
    return wait_refuse(p, job, &o);
}

int wait_add(struct forkserver *t, const struct order *o) {
    struct waiting *w = malloc(sizeof(*w));

    if (!w)
        return -ENOMEM;
    *w = (struct waiting){.forkserver = t, .order = *o};
    TAILQ_INSERT_TAIL(&t->waiting, w, next);
    LIST_INSERT_HEAD(&t->pool->waits[o->job % JOB_PLACES], w, same_place);
    t->pool->waiting_count++;
    return 0;
}

void wait_remove(struct waiting *w) {
    struct forkserver *t = w->forkserver;

    TAILQ_REMOVE(&t->waiting, w, next);
    LIST_REMOVE(w, same_place);
    t->pool->waiting_count--;
    free(w->order.bytes);
    free(w);
}

static struct waiting *wait_find(struct pool *p, uint64_t job) {
    struct waiting *w;

    LIST_FOREACH(w, &p->waits[job % JOB_PLACES], same_place)
        if (w->order.job == job)
            return w;
    return NULL;
}

void wait_hold(struct pool *p, uint64_t job, bool hold) {
    struct waiting *w = wait_find(p, job);

    if (w)
        w->hold = hold;
}

bool wait_end(struct pool *p, uint64_t job, struct work_outcome *o) {
    struct waiting *w = wait_find(p, job);

    if (!w)
        return false;
    o->attempt = w->order.attempt;
    if (wait_refuse(p, job, o) == 0) /* without memory it waits on */
        wait_remove(w);
    return true;
}

struct waiting *wait_take_all(struct forkserver *t) {
    struct waiting *list = TAILQ_FIRST(&t->waiting), *w;

    TAILQ_FOREACH(w, &t->waiting, next) {
        LIST_REMOVE(w, same_place);
        t->pool->waiting_count--;
    }
    TAILQ_INIT(&t->waiting);
    return list;
}

void wait_drop(struct forkserver *t) {
    while (!TAILQ_EMPTY(&t->waiting))
        wait_remove(TAILQ_FIRST(&t->waiting));
}

void wait_end_all(struct pool *p, struct waiting *list, const struct work_outcome *o) {
    for (struct waiting *w = list; (w = list);) {
        struct work_outcome mine = *o;
        mine.attempt = w->order.attempt;
        list = TAILQ_NEXT(w, next);
        p->ev.done(p->arg, w->order.job, &mine);
        free(w->order.bytes);
        free(w);
    }
}

void wait_close(struct pool *p) {
    struct refusal *r;

    while ((r = STAILQ_FIRST(&p->refusals))) {
        STAILQ_REMOVE_HEAD(&p->refusals, next);
        free(r);
    }
}
