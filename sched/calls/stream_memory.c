/* What the streams of one user hold in memory. Workers' calls aside, which are bounded by the slots, that is USER_HELD,
 * a little for each stream, and one call, however large and however many streams he writes to: the others wait, in the
 * log.
 *
 * Only what is whole in the log is gathered beyond USER_HELD, so that one that its writer never ends holds nobody up.
 * While it is gathered no other is; and none while more than half of USER_HELD waits for workers: that the last large
 * one has gone to one.
 *
 * Of answers that the disk is slower to take than workers are to give, all his streams have USER_BEHIND, and what is
 * under way: until then no call of his is sent. */
#include "sched/calls/stream_memory.h"

#include "sched/calls/stream_int.h"

static size_t gathers(const struct stream *st) {
    return stream_is_json(st) ? st->carry.size : st->parts.size;
}

bool stream_has_large(const struct stream *st) {
    return st->user->large == st && st->begun == st->large_at;
}

/* All of what begins at st->begun is in the log, or nothing more comes. */
static bool is_whole(const struct stream *st) {
    const struct lookahead *l = &st->lookahead;
    if (stream_is_closed(st) && !st->writing)
        return true;
    if (stream_is_json(st))
        return st->newline > st->begun || st->in_size - st->begun > SPEC_JSON_MAX;
    return l->over || l->whole > st->begun || (l->ends > st->begun && l->ends <= st->in_size);
}

bool stream_may_gather(struct stream *st, size_t have) {
    struct user *u = st->user;
    if (have < STREAM_FLOOR || !user_holds_much(u) || stream_has_large(st))
        return true;
    if (u->large || u->held - u->sent >= USER_HELD / 2 || !is_whole(st))
        return false;
    u->large = st;
    st->large_at = st->begun;
    return true;
}

void stream_gathered(struct stream *st) {
    size_t now = gathers(st);
    st->user->gathered += now - st->gathered;
    st->gathered = now;
}

/* JSON: of what an earlier daemon took nobody knows where the newlines are. Where there was none after all, its line is
 * read again when one comes. */
static void go_back(struct stream *st) {
    if (!stream_is_json(st) || stream_is_closed(st) || st->parsed < st->in_size || !stream_has_large(st))
        return;
    st->newline = st->begun;
    if (st->in_size - st->begun > SPEC_JSON_MAX)
        return;
    st->parsed = st->begun;
    buffer_free(&st->carry);
    stream_gathered(st);
}

void stream_gives_back(struct stream *st) {
    struct user *u = st->user;
    if (u->large != st)
        return;
    go_back(st);
    if (gathers(st) && stream_has_large(st))
        return;
    u->large = NULL;
    sched_tick(st->s);
}

void stream_left(struct stream *st) {
    struct user *u = st->user;
    u->gathered -= st->gathered;
    u->unwritten -= st->counted;
    st->gathered = st->counted = 0;
    if (u->large == st)
        u->large = NULL;
}

void stream_answers(struct stream *st) {
    size_t now = stream_unwritten(st);
    st->user->unwritten += now - st->counted;
    st->counted = now;
}

void stream_sent(struct stream *st, struct call *c, bool sent) {
    if (sent == (c->state == CALL_SENT))
        return;
    c->state = sent ? CALL_SENT : CALL_PENDING;
    struct user *u = st->user;
    u->sent += sent ? c->held : -c->held;
    st->sent += sent ? c->held : -c->held;
    if (c->held >= STREAM_FLOOR || u->held - u->sent >= USER_HELD / 4)
        sched_tick(st->s); /* others may have waited for that */
}

/* --- answers ------------------------------------------------------------------------------------------------------ */

void answers_count(struct stream *st) {
    size_t now = st->out.size + st->prints[0].size + st->prints[1].size;
    st->user->answers += now - st->small;
    st->small = now;
}

void answers_wait(struct user *u) {
    if (!u->holds)
        LIST_INSERT_HEAD(&u->s->holding, u, holding);
    u->holds = true;
    streams_timer_on(u->s);
}
