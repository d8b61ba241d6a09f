/* What is counted as it changes, so that a look at it costs the same however many jobs there are. */
#include "sched/watch/watch.h"

#include <string.h>

#include "net/clock.h"
#include "sched/db/store_groups.h"
#include "sched/turn/context.h"

const double histogram_bounds[HISTOGRAM_BOUNDS] = {0.001, 0.005, 0.01, 0.05, 0.1, 0.5,  1,    5,    10,
                                                   30,    60,    120,  300,  600, 1800, 3600, 14400};

static void observe(struct histogram *h, int64_t us) {
    double seconds = us > 0 ? (double)us / 1e6 : 0; /* the wall clock may have been set back */
    unsigned i = 0;
    while (i < HISTOGRAM_BOUNDS && seconds > histogram_bounds[i])
        i++;
    h->below[i]++;
    h->sum += seconds;
}

void watch_transition(struct sched *s, const struct job *j, enum job_state from, bool part) {
    struct watch *w = s->watch;
    enum job_state to = j->state;
    if (!w)
        return;
    struct counts *c = &w->fresh;
    bool ran = from == JOB_RUNNING && !job_is_stream(j) && to != JOB_QUEUED && to != JOB_CANCELLED;
    w->is_fresh = true;
    w->ended += ran;
    c->calls += part && ran && to != JOB_WAITING;
    if (part)
        return;
    events_job(w, j, from);
    c->submitted += from == JOB_DRAFT || (from == JOB_FAILED && to != JOB_DRAFT);
    c->started += to == JOB_RUNNING;
    c->done += to == JOB_DONE;
    c->failed += to == JOB_FAILED;
    c->cancelled += to == JOB_CANCELLED;
    c->retried += from == JOB_RUNNING && to == JOB_WAITING;
    c->requeued += from == JOB_RUNNING && to == JOB_QUEUED;
    if (to == JOB_RUNNING && !job_is_stream(j))
        observe(&c->wait, j->started - j->queued);
    if (ran)
        observe(&c->run, (j->ended > j->started ? j->ended : clock_wall_us()) - j->started);
}

void watch_call(struct sched *s) {
    if (!s->watch)
        return;
    s->watch->all.calls++;
    s->watch->ended++;
}

void watch_gone(struct sched *s) {
    if (s->watch)
        s->watch->news = true;
}

static void add(struct histogram *to, const struct histogram *d) {
    for (unsigned i = 0; i <= HISTOGRAM_BOUNDS; i++)
        to->below[i] += d->below[i];
    to->sum += d->sum;
}

static struct second *second_of(struct watch *w, int64_t at) {
    struct second *x = &w->seconds[at % PACE_SECONDS];
    if (x->at != at)
        *x = (struct second){.at = at};
    return x;
}

bool watch_committed(struct sched *s, bool committed) {
    struct watch *w = s->watch;
    if (committed && w->is_fresh) {
        struct counts *a = &w->all, *f = &w->fresh;
        a->submitted += f->submitted;
        a->started += f->started;
        a->done += f->done;
        a->failed += f->failed;
        a->cancelled += f->cancelled;
        a->retried += f->retried;
        a->requeued += f->requeued;
        a->calls += f->calls;
        add(&a->wait, &f->wait);
        add(&a->run, &f->run);
    }
    int64_t grown = store_grown(s->store);
    if (committed && grown)
        second_of(w, clock_us() / 1000000)->grown += grown;
    if (committed && w->ended)
        second_of(w, clock_us() / 1000000)->ended += w->ended;
    w->ended = 0;
    if (w->is_fresh)
        w->fresh = (struct counts){0};
    w->is_fresh = false;
    return events_committed(w, committed);
}

void sched_woke(struct sched *s) {
    if (!s->watch || s->watch->woke)
        return;
    s->watch->woke = clock_us();
    s->watch->marked = clock_read_ns(CLOCK_MONOTONIC_COARSE);
}

/* A clock that costs next to nothing, as this is called for each request. */
void sched_took(struct sched *s, const char *handler) {
    struct watch *w = s->watch;
    int64_t now = w ? clock_read_ns(CLOCK_MONOTONIC_COARSE) : 0;
    struct handler *h = w ? w->handlers : NULL;
    if (!w || now == w->marked)
        return;
    while (h < w->handlers + w->handler_count && strcmp(h->name, handler) != 0)
        h++;
    if (h == w->handlers + HANDLERS)
        return;
    w->handler_count += h == w->handlers + w->handler_count;
    h->name = handler;
    h->took += now - w->marked;
    w->marked = now;
    w->is_parted = true;
}

static void count_long(struct watch *w, int64_t took) {
    struct handler *end = w->handlers + w->handler_count, *most = w->handlers;
    for (struct handler *h = w->handlers; h < end; h++)
        most = h->took > most->took ? h : most;
    if (took > TURN_LONG_US) {
        most->turns++;
        most->slowest = took > most->slowest ? took : most->slowest;
    }
    for (struct handler *h = w->handlers; h < end; h++)
        h->took = 0;
    w->is_parted = false;
}

const struct handler *sched_handlers(const struct sched *s, size_t *count) {
    *count = s->watch->handler_count;
    return s->watch->handlers;
}

void sched_turned(struct sched *s) {
    struct watch *w = s->watch;
    int64_t now = w->woke ? clock_us() : 0, took = now - w->woke;
    if (!w->woke)
        return;
    w->woke = 0;
    if (w->is_parted)
        count_long(w, took);
    w->slowest = took > w->slowest ? took : w->slowest;
    struct second *x = second_of(w, now / 1000000);
    if (took > x->turn_us)
        x->turn_us = took < UINT32_MAX ? (uint32_t)took : UINT32_MAX;
}

const struct counts *sched_counts(const struct sched *s) {
    return &s->watch->all;
}

struct pace sched_pace(const struct sched *s, unsigned seconds) {
    int64_t now = clock_us() / 1000000;
    struct pace p = {0};
    for (unsigned i = 0; i < PACE_SECONDS; i++) {
        const struct second *x = &s->watch->seconds[i];
        if (x->at <= now - (int64_t)seconds || x->at > now)
            continue;
        p.ended += x->ended;
        p.grown += x->grown;
        p.turn = (double)x->turn_us / 1e6 > p.turn ? (double)x->turn_us / 1e6 : p.turn;
    }
    return p;
}

double sched_slowest_turn(const struct sched *s) {
    return (double)s->watch->slowest / 1e6;
}
