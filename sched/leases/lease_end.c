/* The end of leases: taken back for others, finished or killed by their stream, lost with their worker. */
#include <stdlib.h>
#include <string.h>

#include "net/clock.h"
#include "sched/hosts/registry.h"
#include "sched/leases/lease_int.h"
#include "sched/leases/state.h"

#define QUANTUM_US 20000 /* a lease that others wait for is given back after so long */
#define PLACES_MAX 16    /* constraints told apart; streams with others wait for leases to end by themselves */

struct wanting { /* streams that could use a slot, by constraint */
    struct stream *of[PLACES_MAX];
    bool several[PLACES_MAX];
    unsigned count;
};

static void find_wanting(struct sched *s, struct wanting *w) {
    *w = (struct wanting){.count = 0};
    for (struct stream *st = stream_first(s); st; st = LIST_NEXT(st, all), s->steps++) {
        unsigned i = 0;
        if (!lease_wants(st))
            continue;
        while (i < w->count && (w->of[i]->user != st->user || strcmp(w->of[i]->place, st->place) != 0))
            i++;
        if (i == PLACES_MAX)
            continue;
        w->several[i] |= i < w->count;
        w->count += i == w->count;
        w->of[i] = st;
    }
}

/* Whether a job or a stream could use that host; once in each reclaim. */
static void weigh_host(struct host *h, const struct wanting *w) {
    if (h->weighed == h->s->leases->reclaims)
        return;
    h->weighed = h->s->leases->reclaims;
    h->wanting = NULL;
    h->wanted = backlog_wants(h);
    for (unsigned i = 0; i < w->count && !h->wanted; i++)
        if (host_fits(h, w->of[i]->place, w->of[i]->user->uid)) {
            h->wanted = w->several[i] || h->wanting;
            h->wanting = w->of[i];
        }
}

/* Whether other work of its user could have the slot of that busy lease. */
static bool other_waits(const struct lease *l) {
    struct stream *st;
    if (l->user->backlog || l->user->placed)
        return true;
    LIST_FOREACH(st, &l->user->streams, mates) {
        l->user->s->steps++;
        if (st != l->stream && lease_wants(st))
            return true;
    }
    return false;
}

/* Whether a job has come that goes before the calls of that busy lease. One such lease ends at a time. */
static bool gives_way(const struct lease *l, unsigned given) {
    return !given && l->stream && l->user->urgent > l->stream->priority;
}

/* A walk over all leases: the more there are, the less often. A user at his quota waits for his own slots on any
 * host. */
void lease_reclaim(struct sched *s) {
    int64_t now = clock_us();
    if (LIST_EMPTY(&s->leases->all))
        return;
    if (now < s->leases->reclaim_at) {
        host_wake_in(s, s->leases->reclaim_at - now);
        return;
    }
    s->leases->reclaim_at = now + s->leases->count;
    struct wanting waiting;
    s->leases->reclaims++;
    backlog_look(s);
    find_wanting(s, &waiting);
    const struct user *next = user_next(s);
    unsigned given = 0;
    struct lease *l;
    LIST_FOREACH(l, &s->leases->all, all) {
        struct host *h = l->host;
        s->steps++;
        given += l->state != LEASE_LIVE;
        /* A lease of this turn is not idle: its first calls are sent after the commit. */
        bool busy = l->count || (l->stream && l->stream->pending), urgent = busy && gives_way(l, given);
        if (l->state != LEASE_LIVE || (busy && !urgent && now - l->began < QUANTUM_US))
            continue;
        if (user_crowded(l->user) && (!busy || other_waits(l))) {
            lease_finish(l);
            given++;
            continue;
        }
        bool in_limit = limit_wanted(l->limit, l->stream);
        if (host_free(h) && !h->reserved && !in_limit)
            continue;
        if (busy && next && !user_yields(l->user, next, given))
            continue;
        if (!in_limit)
            weigh_host(h, &waiting);
        if (in_limit || h->wanted || (h->wanting && h->wanting != l->stream)) {
            if (urgent) {
                l->user->urgent = NOT_URGENT;
                lease_take_back(l, 1);
            }
            lease_finish(l);
            limit_unwant(l->limit);
            given++;
        }
    }
}

void lease_end(struct stream *st) {
    for (struct lease *l; (l = TAILQ_FIRST(&st->leases->all));) {
        lease_finish(l);
        lease_part(l);
    }
}

/* A call waits for another job's result: its slot is lent, and the calls behind it are taken back. */
bool lease_lend(struct sched *s, uint64_t id, bool lend) {
    struct lease *l = lease_find(s, id);
    if (!l || l->lent == lend)
        return l;
    l->lent = lend;
    l->host->lent += lend ? 1 : -1;
    lend_count(l->user, lend);
    l->user->leased += lend ? -1u : 1u;
    user_holds(l->user, lend ? -1 : 1);
    limit_lends(l->limit, lend, true);
    host_resize(l->host);
    if (lend && l->stream)
        lease_take_back(l, 1);
    else
        lease_reopen(l);
    return true;
}

void lease_drop(struct stream *st) {
    for (struct lease *l; (l = TAILQ_FIRST(&st->leases->all));) {
        lease_part(l);
        lease_kill(l);
    }
}

/* The worker has ended. Calls that it had not begun go elsewhere. */
void lease_done(struct host *h, uint64_t id, const struct work_outcome *o) {
    struct sched *s = h->s;
    struct lease *l = lease_find(s, id);
    if (!l || l->host != h)
        return;
    lease_lend(s, id, false);
    h->used--;
    l->user->leased--;
    user_holds(l->user, -1);
    limit_holds(l->limit, -1, true);
    h->leases--;
    host_room(h);
    if (l->stream) {
        lease_calls_lost(l, o);
        lease_part(l);
    }
    lease_away_ended(l, o);
    h->idle -= l->count == 0;
    s->leases->calls_sent -= l->count;
    s->leases->count--;
    host_gave_back(h, l->user->uid, o);
    lease_free(l);
    host_vacant(h);
    sched_tick(s);
}
