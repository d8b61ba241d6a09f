/* The streams that are in memory: found, marked for this turn, and those that have nothing to do. */
#include <errno.h>
#include <stdlib.h>

#include "sched/calls/state.h"

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

#define BUCKET(s, id) (&(s)->calls->by_id[(id) % (sizeof(s)->calls->by_id / sizeof *(s)->calls->by_id)])

struct stream *stream_find(struct sched *s, uint64_t job) {
    struct stream *st;
    LIST_FOREACH(st, BUCKET(s, job), alike)
        if (st->id == job)
            return st;
    return NULL;
}

struct stream *stream_first(const struct sched *s) {
    return LIST_FIRST(&s->calls->all);
}

void stream_enters(struct stream *st) {
    struct user *u = st->user;
    LIST_INSERT_HEAD(&st->s->calls->all, st, all);
    LIST_INSERT_HEAD(BUCKET(st->s, st->id), st, alike);
    st->s->calls->count++;
    u->active_streams++;
    if (LIST_EMPTY(&u->streams))
        LIST_INSERT_HEAD(&st->s->streaming, u, streaming);
    LIST_INSERT_HEAD(&u->streams, st, mates);
}

void stream_leaves(struct stream *st) {
    struct user *u = st->user;
    stream_rest(st, false);
    stream_becomes(st, STREAM_STORED);
    LIST_REMOVE(st, all);
    LIST_REMOVE(st, alike);
    st->s->calls->count--;
    u->active_streams--;
    stream_left(st);
    LIST_REMOVE(st, mates);
    if (LIST_EMPTY(&u->streams)) {
        LIST_REMOVE(u, streaming);
        user_hungry(u, false);
    }
}

struct stream *stream_to_evict(const struct sched *s) {
    return s->calls->idle_count > STREAMS_IDLE ? TAILQ_FIRST(&s->calls->idle) : NULL;
}

unsigned streams_active(const struct sched *s) {
    return s->calls->count - s->calls->idle_count;
}

bool streams_room(const struct sched *s, const struct user *u) {
    unsigned active = streams_active(s), left = active < STREAMS_ACTIVE ? STREAMS_ACTIVE - active : 0;
    return left && (user_is_trusted(s, u->uid) || u->active_streams / 15 < left);
}

size_t stream_share(const struct stream *st) {
    unsigned n = st->s->calls->count;
    if (user_holds_much(st->user) || answers_much(st->user))
        return STREAM_FLOOR;
    return n > STREAMS_ROOMY ? STREAM_HELD / n * STREAMS_ROOMY : STREAM_HELD;
}

int calls_make(struct sched *s) {
    s->calls = calloc(1, sizeof *s->calls);
    if (s->calls)
        TAILQ_INIT(&s->calls->idle);
    return s->calls ? 0 : -ENOMEM;
}

void calls_free(struct sched *s) {
    free(s->calls);
}

void stream_rest(struct stream *st, bool idle) {
    struct sched *s = st->s;
    if ((st->state == STREAM_IDLE) == idle)
        return;
    stream_becomes(st, idle ? STREAM_IDLE : STREAM_OPEN);
    s->calls->idle_count += idle ? 1 : -1;
    st->user->active_streams += idle ? -1u : 1u;
    if (idle)
        TAILQ_INSERT_TAIL(&s->calls->idle, st, rest);
    else
        TAILQ_REMOVE(&s->calls->idle, st, rest);
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
