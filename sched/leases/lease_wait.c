/* Whether pending calls had better wait for leases on faster hosts than go to a slow one. The capacity of the faster
 * leases is a sum over all leases of the stream. It is made once for hosts of about one speed, for all times, and again
 * when a quarter of the leases have changed, within a budget of two leases for each call and each answer: so a call
 * costs the same with any number of nodes. */
#include "sched/leases/lease_int.h"

#define FEW 16u /* leases asked each time; more only if these say nothing */

/* A number of quarter octaves: about equal for numbers that differ by less than a quarter. */
static uint32_t about(double us) {
    union {
        float f;
        uint32_t bits;
    } u = {.f = (float)us};
    return u.bits >> 21;
}

/* The middle of the range of that number. */
static double middle(uint32_t about_us) {
    union {
        uint32_t bits;
        float f;
    } u = {.bits = about_us << 21 | 1u << 20};
    return u.f;
}

bool lease_open(const struct lease *l) {
    return l->stream && l->state == LEASE_LIVE && !l->recalling && !l->unwanted && !l->held && !(l->lent && l->count) &&
           host_live(l->host);
}

/* Calls that leases on hosts faster than h will have ended in `by` microseconds, up to enough, of at most so many
 * leases. */
static int64_t count_faster(const struct stream *st, const struct host *h, unsigned function, double by, int64_t enough,
                            unsigned leases) {
    const struct lease *l;
    int64_t calls = 0;
    TAILQ_FOREACH(l, &st->leases->all, mates) {
        double there = estimate_us(l->host, function), left = by - l->ahead_us - host_way_us(l->host);
        st->s->steps++;
        if (left >= there && estimate_faster(l->host, h, function) && lease_open(l))
            calls += (int64_t)(left / there);
        if (calls >= enough || --leases == 0)
            break;
    }
    return calls;
}

/* The same for all leases and all times at once, from the time of one call on. */
static void count_all(const struct stream *st, const struct host *h, struct faster *f) {
    const struct lease *l;
    double by[FASTER_TIMES];
    for (unsigned i = 0; i < FASTER_TIMES; i++)
        by[i] = middle(f->us + i);
    TAILQ_FOREACH(l, &st->leases->all, mates) {
        double there = estimate_us(l->host, f->function), behind = l->ahead_us + host_way_us(l->host);
        st->s->steps++;
        if (!estimate_faster(l->host, h, f->function) || !lease_open(l))
            continue;
        for (unsigned i = FASTER_TIMES; i-- > 0 && by[i] - behind >= there;)
            f->calls[i] += (int64_t)((by[i] - behind) / there);
    }
}

static int64_t calls_left(const struct faster *f, uint32_t at, uint64_t sent) {
    return f->calls[at < FASTER_TIMES ? at : FASTER_TIMES - 1] - (int64_t)(sent - f->sent);
}

bool lease_waits(struct stream *st, const struct host *h, double ahead_us, unsigned function) {
    struct lease_set *set = st->leases;
    int64_t pending = (int64_t)st->pending;
    if (estimate_excess(h, function) == 0)
        return false;
    double us = estimate_us(h, function), by = ahead_us + us + host_way_us(h);
    if (set->count <= FEW)
        return count_faster(st, h, function, by, pending, FEW) >= pending;
    uint32_t about_us = about(us), at = about(by) - about_us;
    struct faster *f = &set->faster[(function + about_us * 3) % LEASE_FASTER];
    bool counted = f->function == function && f->us == about_us;
    if (!counted || f->epoch != set->epoch) {
        if (pending <= FEW && count_faster(st, h, function, by, pending, FEW) >= pending)
            return true;
        if (set->credit < set->count) /* an old sum is better than none */
            return counted && calls_left(f, at, set->sent) >= pending;
        set->credit -= set->count;
        *f = (struct faster){.epoch = set->epoch, .function = function, .us = about_us, .sent = set->sent};
        count_all(st, h, f);
    }
    return calls_left(f, at, set->sent) >= pending;
}
