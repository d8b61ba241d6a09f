/* The streams that are in memory: found, marked for this turn, and those that have nothing to do. */
#include "sched/streams/stream_int.h"

struct stream *stream_find(struct sched *s, uint64_t job) {
    struct stream *st = s->streams;
    while (st && st->id != job)
        st = st->next;
    return st;
}

void stream_rest(struct stream *st, bool idle) {
    struct sched *s = st->s;
    if (st->idle == idle)
        return;
    st->idle = idle;
    s->idle_count += idle ? 1 : -1;
    st->user->active_streams += idle ? -1u : 1u;
    if (idle)
        TAILQ_INSERT_TAIL(&s->idle, st, rest);
    else
        TAILQ_REMOVE(&s->idle, st, rest);
}

void stream_mark(struct stream *st) {
    st->dirty = true;
    stream_rest(st, false);
    sched_tick(st->s);
}

void stream_suspect(struct stream *st, const struct call *c) {
    if (st->row.suspect || store_touch(st->s->store) < 0)
        return;
    st->row.suspect = c->number + 1;
    stream_mark(st);
}

void streams_timer_on(struct sched *s) {
    static const struct timeval t = {0, STREAMS_TIMER_US};
    if (!evtimer_pending(s->lease_timer, NULL))
        evtimer_add(s->lease_timer, &t);
}
