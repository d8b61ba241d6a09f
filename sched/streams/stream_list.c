/* The streams that are in memory: found, marked for this turn, and those that have nothing to do. */
#include "sched/streams/stream_int.h"

static const struct state table[] = {
    [STREAM_STORED] = {"stored", 1 << STREAM_OPEN | 1 << STREAM_CLOSED},
    [STREAM_OPEN] = {"open", 1 << STREAM_IDLE | 1 << STREAM_CLOSED | 1 << STREAM_PARSED | 1 << STREAM_STORED},
    [STREAM_IDLE] = {"idle", 1 << STREAM_OPEN},
    [STREAM_CLOSED] = {"closed", 1 << STREAM_OPEN | 1 << STREAM_PARSED | 1 << STREAM_STORED},
    [STREAM_PARSED] = {"parsed", 1 << STREAM_STORED},
};
static const struct states stream_states = {"stream", table, STREAM_STATES};

void stream_becomes(struct stream *st, enum stream_state to) {
    if (st->state != to)
        states_changed(&stream_states, st->id, NULL, st->state, to);
    st->state = to;
}

struct stream *stream_find(struct sched *s, uint64_t job) {
    struct stream *st = s->streams->first;
    while (st && st->id != job)
        st = st->next;
    return st;
}

void stream_rest(struct stream *st, bool idle) {
    struct sched *s = st->s;
    if ((st->state == STREAM_IDLE) == idle)
        return;
    stream_becomes(st, idle ? STREAM_IDLE : STREAM_OPEN);
    s->streams->idle_count += idle ? 1 : -1;
    st->user->active_streams += idle ? -1u : 1u;
    if (idle)
        TAILQ_INSERT_TAIL(&s->streams->idle, st, rest);
    else
        TAILQ_REMOVE(&s->streams->idle, st, rest);
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
