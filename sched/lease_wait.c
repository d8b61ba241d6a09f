/* Whether what a stream has pending had better wait for leases on faster hosts than go to a slow one. What the faster
 * ones can take is a sum over all leases of the stream. It is made once for hosts that are about as slow, and again
 * when a quarter of the leases have come, gone or had a call: so a call costs the same however many nodes there are. */
#include "net/clock.h"
#include "sched/lease_int.h"

#define FEW 16u   /* leases whose sum is made each time */
#define LOOKS 16u /* sums over more of them that one turn makes; estimates are worth no more */

/* Alike for numbers of which one is at most an eighth more than the other, or nearly. */
static uint32_t about(double us) {
    union {
        float f;
        uint32_t bits;
    } u = {.f = (float)us};
    return u.bits >> 20;
}

bool lease_open(const struct lease *l) {
    return l->stream && !l->finishing && !l->killed && !l->recalling && !l->unwanted && !(l->lent && l->count) &&
           host_live(l->host);
}

/* Calls that leases on hosts faster than h will have ended by then, microseconds from now; enough: more need not be
 * found. */
static int64_t count_faster(const struct stream *st, const struct host *h, unsigned function, double by,
                            int64_t enough) {
    const struct lease *l;
    int64_t calls = 0;
    LIST_FOREACH(l, &st->leases.all, mates) {
        double there = speed_us(l->host, function), left = by - l->ahead_us - host_way_us(l->host);
        st->s->steps++;
        if (left >= there && speed_faster(l->host, h, function) && lease_open(l))
            calls += (int64_t)(left / there);
        if (calls >= enough)
            break;
    }
    return calls;
}

bool lease_waits(struct stream *st, const struct host *h, double ahead_us, unsigned function) {
    struct lease_set *set = &st->leases;
    int64_t pending = (int64_t)st->pending;
    if (speed_excess(h, function) == 0)
        return false;
    double us = speed_us(h, function), by = ahead_us + us + host_way_us(h);
    if (set->count <= FEW)
        return count_faster(st, h, function, by, pending) >= pending;
    uint32_t about_by = about(by), about_us = about(us);
    struct faster *f = &set->faster[(function + about_by * 7 + about_us * 3) % LEASE_FASTER];
    if (f->epoch != set->epoch || f->function != function || f->by != about_by || f->us != about_us) {
        if (set->looks++ >= LOOKS)
            return false;
        *f = (struct faster){set->epoch, function, about_by, about_us, count_faster(st, h, function, by, INT64_MAX),
                             set->sent};
    }
    return f->calls - (int64_t)(set->sent - f->sent) >= pending;
}
