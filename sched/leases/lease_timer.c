/* A look at the calls of leases every few milliseconds: long calls are reported as started, and nothing waits behind
 * them; calls that wait while a slot is free are taken back; leases that stood aside are asked again. */
#include "net/clock.h"
#include "sched/leases/lease_int.h"
#include "sched/leases/state.h"

#define LOOKS 32u        /* leases of each line that are looked at each time */
#define SHARE_US 10000.0 /* calls that wait longer than that go to an idle lease */

/* Estimates its calls anew: more is known than when they were sent. The first one runs since l->last. */
static void weigh(struct lease *l, int64_t now) {
    l->ahead_us = 0;
    for (unsigned i = 0; i < l->count; i++) {
        struct sent *sent = sent_at(l, i);
        sent->us = lease_guess_us(l, sent->function);
        if (i == 0 && sent->us < (double)(now - l->last))
            sent->us = (double)(now - l->last);
        l->ahead_us += sent->us;
    }
}

/* The time that its last call waits for the others. */
static double waits_us(const struct lease *l) {
    return l->count ? l->ahead_us - sent_at(l, l->count - 1)->us : 0;
}

/* Whether the last call of that lease would end sooner in a free slot of h. */
static bool sooner_on(const struct host *h, const struct lease *l) {
    unsigned function = sent_at(l, l->count - 1)->function;
    return host_way_us(h) + estimate_us(h, function) < host_way_us(l->host) + l->ahead_us;
}

/* Idle leases stand first. */
static bool constraint_free(struct stream *st, const struct lease *most) {
    const struct lease *l;
    unsigned looks = 0;
    TAILQ_FOREACH(l, &st->leases->lines[LEASE_OPEN], place) {
        st->s->steps++;
        if (!l->idle || looks++ == LOOKS)
            break;
        if (lease_open(l) && sooner_on(l->host, most))
            return true;
    }
    struct demand d = {.place = st->place,
                       .cpus = 1,
                       .function = sent_at(most, most->count - 1)->function,
                       .uid = st->user->uid,
                       .avoid = ""};
    struct host *h = users_backlog(st->s) ? NULL : host_choose(st->s, &d);
    return h && sooner_on(h, most);
}

/* Calls that wait long while another slot is free are taken back: half of those of the lease that has most. */
static void share(struct stream *st) {
    struct lease *most = st->leases->most;
    if (st->pending || !most || waits_us(most) < SHARE_US + 2 * host_way_us(most->host))
        return;
    if (constraint_free(st, most))
        lease_take_back(most, (most->count + 1) / 2);
}

/* Some of the leases that stood aside longest are asked again. */
static void reopen(struct stream *st) {
    for (enum lease_line line = LEASE_TIGHT; line < LEASE_LINES; line++) {
        struct lease *l;
        for (unsigned n = 0; n < LOOKS && (l = TAILQ_FIRST(&st->leases->lines[line])); n++) {
            st->s->steps++;
            lease_stand(l, LEASE_OPEN);
        }
    }
}

void lease_timer(evutil_socket_t fd, short what, void *arg) {
    struct sched *s = arg;
    struct lease *l;
    int64_t now = clock_us();
    bool fresh = false;
    for (struct stream *st = stream_first(s); st; st = LIST_NEXT(st, all)) {
        st->leases->epoch++;
        fresh |= st->fresh_jobs > 0;
        st->leases->most = NULL;
        st->leases->credit += st->leases->credit < st->leases->count ? LOOKS + st->leases->count / 16 : 0;
        if (st->pending)
            reopen(st);
    }
    if (fresh) {
        stream_parts_tick(s);
        streams_timer_on(s);
    }
    LIST_FOREACH(l, &s->leases->busy, busy) {
        s->steps++;
        if (!l->stream)
            continue;
        streams_timer_on(s);
        weigh(l, now);
        struct stream *st = l->stream;
        if (!st->leases->most || waits_us(l) > waits_us(st->leases->most))
            st->leases->most = l;
        struct call *c = lease_sent_call(st, sent_at(l, 0)->call);
        if (c && now - l->last > STREAMS_TIMER_US)
            stream_suspect(st, c);
        if (now - l->last < LONG_US || !c)
            continue;
        if (!c->told) {
            c->told = true;
            sched_check(s, st->codec->started(st, c));
        }
        if (now - l->last < lease_long_us(l))
            continue;
        lease_take_back(l, 1);
    }
    for (struct stream *st = stream_first(s); st; st = LIST_NEXT(st, all))
        share(st);
}
