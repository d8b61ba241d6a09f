/* The calls that a lease has, oldest first: sent, answered, taken back. */
#include <stdlib.h>

#include "sched/leases/lease_int.h"
#include "sched/leases/state.h"

void lease_back(struct stream *st, uint64_t number) {
    struct call *c = lease_sent_call(st, number);
    if (!c)
        return;
    stream_sent(st, c, false);
    stream_drop_answer(c);
    st->pending++;
    if (!st->next_send || number < st->next_send->number)
        st->next_send = c;
}

struct call *lease_call_at(struct stream *st, uint64_t number) {
    return st ? stream_call(st, number) : NULL;
}

bool lease_runs(const struct lease *l, const struct call *c) {
    return c && c->state == CALL_SENT && c->lease == l->id;
}

void lease_lost(struct lease *l, uint64_t number) {
    struct stream *st = lease_stream(l);
    if (st && (l->stream || lease_runs(l, lease_call_at(st, number))))
        lease_back(st, number);
}

/* It has one call more, or fewer. */
void lease_count_by(struct lease *l, int by) {
    struct host *h = l->host;
    bool was_busy = l->count;
    l->count += (unsigned)by;
    if (was_busy && !l->count)
        LIST_REMOVE(l, busy);
    else if (!was_busy)
        LIST_INSERT_HEAD(&h->s->leases->busy, l, busy);
    h->idle += (unsigned)(was_busy - (l->count > 0));
    h->s->leases->calls_sent += (unsigned)by;
    if (!l->count)
        lease_read(l); /* nothing more comes */
    if (l->stream)
        lease_moved(l->stream);
}

static void lighten(struct lease *l, const struct sent *sent) {
    l->ahead_us = l->count ? l->ahead_us - sent->us : 0;
}

static void drop_from(struct lease *l, uint32_t limit) {
    while (l->count && sent_at(l, l->count - 1)->number >= limit) {
        lease_count_by(l, -1);
        lighten(l, sent_at(l, l->count));
        lease_lost(l, sent_at(l, l->count)->call);
    }
    lease_reopen(l);
}

/* Takes back its calls from the i-th on that have not begun. A node says later which, and is sent nothing until
 * then. */
void lease_take_back(struct lease *l, unsigned i) {
    if (i >= l->count || l->recalling)
        return;
    l->asked = sent_at(l, i)->number;
    uint32_t limit = runner_recall(l->host->runner, l->id, l->asked);
    host_touch(l->host);
    l->recalling = limit == RUNNER_LATER;
    if (!l->recalling)
        drop_from(l, limit);
}

/* Recalls cancelled calls that have not begun. The last of the others runs: if it is cancelled its worker is killed,
 * once the calls before it have answered. */
void lease_stop_unwanted(struct lease *l) {
    unsigned i = 0;
    if (!l->unwanted || l->recalling)
        return;
    while (i < l->count && !sent_at(l, i)->unwanted)
        i++;
    if (i < l->count && l->asked > sent_at(l, i)->number) /* the last recall did not reach it */
        lease_take_back(l, i);
    if (l->recalling)
        return;
    l->unwanted = l->count && sent_at(l, l->count - 1)->unwanted;
    if (l->unwanted && l->count == 1)
        lease_kill(l);
}

void lease_recalled(void *arg, uint64_t id, uint32_t limit) {
    const struct host *h = arg;
    struct lease *l = lease_find(h->s, id);
    if (!l || !l->recalling)
        return;
    l->recalling = false;
    drop_from(l, limit);
    lease_stop_unwanted(l);
    sched_tick(h->s);
}

bool lease_has_room(struct lease *l) {
    if (l->count < l->cap)
        return true;
    unsigned cap = l->cap ? l->cap * 2 : 16;
    struct sent *ring = reallocarray(NULL, cap, sizeof *ring);
    if (!ring)
        return false;
    for (unsigned i = 0; i < l->count; i++)
        ring[i] = *sent_at(l, i);
    free(l->ring);
    l->ring = ring;
    l->first = 0;
    l->cap = cap;
    return true;
}

uint64_t lease_pop(struct lease *l) {
    const struct sent *sent = sent_at(l, 0);
    l->first = (l->first + 1) & (l->cap - 1);
    lease_count_by(l, -1);
    lighten(l, sent);
    lease_reopen(l);
    return sent->call;
}
