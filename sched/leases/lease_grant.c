/* The next lease of a user: for which stream, on which host. */
#include <errno.h>
#include <stdlib.h>

#include "sched/leases/lease_int.h"
#include "sched/leases/state.h"

/* The limit of its group; the group may have moved, or changed its limit. */
static struct limit *stream_limit(struct stream *st) {
    struct sched *s = st->s;
    struct job_row r;
    if (st->limited != limits_generation(s) && store_job_get(s->store, st->id, &r) == 0) {
        limit_place(s, r.job.group, st->place);
        st->limited = limits_generation(s);
    }
    return limit_of(s, st->place);
}

/* Whether more calls wait than the stream has idle leases. */
bool lease_wants(struct stream *st) {
    if (st->pending <= st->leases->idle || !lease_next(st))
        return false;
    struct limit *limit = stream_limit(st);
    bool room = limit_has_room(limit);
    if (!room)
        limit_want(limit, st);
    return room;
}

static bool user_wants(struct user *u) {
    struct stream *st;
    LIST_FOREACH(st, &u->streams, mates) {
        if (lease_wants(st))
            return true;
        u->s->steps++;
    }
    return false;
}

bool lease_wanted(struct sched *s) {
    struct user *u;
    bool wanted = false;
    LIST_FOREACH(u, &s->streaming, streaming) {
        bool hungry = user_wants(u);
        user_hungry(u, hungry);
        wanted |= hungry;
    }
    return wanted;
}

/* The free host for its next call; NULL: none, or waiting for a lease that the stream has is better. */
static struct host *host_for(struct sched *s, struct stream *st) {
    const struct call *c = lease_next(st);
    struct demand d = {
        .place = st->place, .cpus = 1, .function = c ? c->function : 0, .uid = st->user->uid, .avoid = ""};
    struct host *h = host_pick(s, &d);
    return h && lease_waits(st, h, 0, d.function) ? NULL : h;
}

/* His stream that wants a slot, of the highest priority, and among equals with the fewest leases. */
static struct stream *neediest(struct user *u) {
    struct sched *s = u->s;
    struct stream *best = NULL, *st;
    LIST_FOREACH(st, &u->streams, mates) {
        s->steps++;
        bool first = !best || st->priority > best->priority ||
                     (st->priority == best->priority && st->leases->count < best->leases->count);
        if (first && st->leases->passed != s->dispatches && lease_wants(st))
            best = st;
    }
    return best;
}

/* Free slots only become fewer in a dispatch: a stream that found none finds none later in it. */
bool lease_ready(struct user *u, struct lease_offer *o) {
    struct sched *s = u->s;
    while ((o->stream = neediest(u))) {
        o->host = host_for(s, o->stream);
        o->priority = o->stream->priority;
        if (o->host)
            return true;
        o->stream->leases->passed = s->dispatches;
    }
    return false;
}

static int begin(struct sched *s, struct stream *st, struct host *h, struct work *w) {
    struct lease *l;
    int rc = lease_new(st, h, &l);
    if (rc < 0)
        return rc;
    w->job = l->id;
    rc = runner_start(h->runner, w);
    if (rc < 0) {
        if (rc == -EAGAIN)
            host_short(h);
        lease_free(l);
        return rc;
    }
    const struct call *c = lease_next(st);
    if (c && estimate_excess(h, c->function) > 0)
        TAILQ_INSERT_TAIL(&st->leases->all, l, mates);
    else
        TAILQ_INSERT_HEAD(&st->leases->all, l, mates);
    st->leases->count++;
    lease_moved(st);
    lease_stand(l, LEASE_OPEN);
    s->leases->count++;
    h->used++;
    st->user->leased++;
    user_holds(st->user, 1);
    l->limit = limit_of(s, st->place);
    limit_holds(l->limit, 1, true);
    h->leases++;
    h->idle++;
    return 0;
}

int lease_grant(struct sched *s, const struct lease_offer *offer) {
    struct job_work all;
    int rc = run_work(s, offer->stream->id, &all);
    if (rc == 0) {
        all.work.node = offer->host->name;
        rc = begin(s, offer->stream, offer->host, &all.work);
    }
    run_work_free(&all);
    return rc;
}
