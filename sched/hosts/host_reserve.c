/* A host is reserved for a job that needs more slots than are free. Work that surely ends before these slots are free
 * may run there meanwhile. */
#include <string.h>

#include "net/clock.h"
#include "sched/hosts/hosts.h"
#include "sched/hosts/state.h"

#define SHARE 4         /* an unknown run is expected to go on for 1/SHARE of its time so far */
#define LOOK_US 50000.0 /* the least time between two looks */

/* The earliest end of work there, in microseconds from now; 0: the job does not wait for slots. Not counted are work
 * that began there since, as it could follow one another for ever, and leases, which are given back. */
static double first_end(const struct host *h, unsigned cpus) {
    const struct slot_use *r;
    double first = 0, most, least;
    unsigned held = 0;
    int64_t now = clock_us();
    LIST_FOREACH(r, &h->under_way, mates) {
        if (r->over || r->filled || r->lent)
            continue;
        double ran = r->began ? (double)(now - r->began) : 0;
        bool known = estimate_span(h, r->function, &least, &most) && least > ran;
        double left = known ? least - ran : ran / SHARE + 1;
        first = held == 0 || left < first ? left : first;
        held += r->cpus;
    }
    return held + cpus > h->cpus ? first : 0;
}

/* Whether a is the better reservation: it has the memory and resources, then more free slots. */
static bool sooner(struct host *a, struct host *b, const struct demand *d) {
    bool has = host_has_left(a, d->place);
    return !b || has > host_has_left(b, d->place) || (has == host_has_left(b, d->place) && host_free(a) > host_free(b));
}

struct host *host_reserve(struct sched *s, const struct demand *d, uint64_t job) {
    struct host *best = NULL;
    for (struct host *h = s->hosts->all; h; h = h->next) {
        s->steps++;
        if (h->reserved && h->kept_for == job)
            return h;
        if (host_live(h) && !h->reserved && !host_refuses(h, d->uid) && h->cpus + h->lent >= d->cpus &&
            host_fits(h, d->place, d->uid) && sooner(h, best, d))
            best = h;
    }
    if (!best)
        return NULL;
    if (host_free(best) >= d->cpus && !host_has_left(best, d->place)) {
        host_keep_left(best, d);
        return NULL;
    }
    best->reserved = true;
    LIST_INSERT_HEAD(&s->hosts->kept, best, kept);
    if (best->is_roomy) { /* searches for a free slot meet the others first */
        TAILQ_REMOVE(&s->hosts->roomy, best, room);
        TAILQ_INSERT_TAIL(&s->hosts->roomy, best, room);
    }
    best->kept_for = job;
    best->spare_us = host_free(best) && !best->crashes && !host_is_short(best) ? first_end(best, d->cpus) : 0;
    if (best->spare_us > 0) {
        best->next_spare = s->hosts->spares;
        s->hosts->spares = best;
    }
    return best;
}

void host_unreserve_all(struct sched *s) {
    for (struct host *h; (h = LIST_FIRST(&s->hosts->kept)); s->steps++) {
        LIST_REMOVE(h, kept);
        h->reserved = false;
    }
    s->hosts->spares = NULL;
}

struct host *host_spare(struct sched *s, const struct demand *d, int64_t timeout_us) {
    for (struct host *h = s->hosts->spares; h; h = h->next_spare) {
        double least, most;
        bool known = host_free(h) >= d->cpus && estimate_span(h, d->function, &least, &most);
        if (!known || (timeout_us && most > (double)timeout_us))
            most = (double)timeout_us;
        s->steps++;
        if (host_free(h) < d->cpus || (!known && !timeout_us) || most > h->spare_us ||
            !host_fits(h, d->place, d->uid) || !host_has_left(h, d->place))
            continue;
        if (strcmp(h->name, d->avoid) != 0 && !host_shuns(h, d))
            return h;
    }
    return NULL;
}

bool host_has_spares(const struct sched *s) {
    return s->hosts->spares;
}

void host_spare_wake(struct sched *s) {
    for (struct host *h = s->hosts->spares; h; h = h->next_spare)
        if (host_free(h))
            host_wake_in(s, (int64_t)(h->spare_us > LOOK_US ? h->spare_us : LOOK_US));
}
