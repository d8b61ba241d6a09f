/* Leases whose stream left memory after a failed commit. Their calls go on, and the answers are kept until the stream
 * has been read anew (stream_kept.c), with the same numbers for its calls. They are sent nothing more. */
#include <string.h>

#include "sched/leases/lease_int.h"
#include "sched/leases/state.h"

/* The call that it runs; NULL: none, or one that nobody wants and that is to be killed. */
static struct call *goes_on(const struct lease *l) {
    struct call *c = l->count ? lease_sent_call(l->stream, sent_at(l, 0)->call) : NULL;
    return c && l->state != LEASE_KILLED && !l->unwanted ? c : NULL;
}

static void move_pieces(struct pieces *to, struct pieces *from) {
    pieces_free(to);
    *to = *from;
    *from = (struct pieces){0};
}

/* Leases that were away before and have their call again: the call goes with the stream, the pieces of its answer
 * stay. */
static void stay_away(struct stream *st) {
    struct lease *l;
    if (!st->s->leases->away)
        return;
    LIST_FOREACH(l, &st->s->leases->all, all) {
        struct call *c = l->away == st->id && l->count ? lease_call_at(st, sent_at(l, 0)->call) : NULL;
        if (lease_runs(l, c))
            move_pieces(&l->pieces, &c->pieces);
    }
}

void lease_away(struct stream *st) {
    struct lease *l, *next;
    stay_away(st);
    for (l = TAILQ_FIRST(&st->leases->all); l; l = next) {
        next = TAILQ_NEXT(l, mates);
        struct call *c = goes_on(l);
        if (!c)
            continue; /* lease_drop */
        move_pieces(&l->pieces, &c->pieces);
        l->codec = st->codec;
        lease_finish(l);
        lease_part(l);
        lease_becomes(l, LEASE_AWAY);
        l->away = st->id;
        st->s->leases->away++;
    }
}

void lease_not_away(struct lease *l) {
    if (!l->away)
        return;
    for (unsigned i = 0; i < l->count; i++)
        lease_lost(l, sent_at(l, i)->call);
    lease_becomes(l, LEASE_FINISHING);
    l->away = 0;
    l->host->s->leases->away--;
    sched_tick(l->host->s);
}

static void give_up(struct lease *l) {
    lease_not_away(l);
    lease_kill(l);
}

void lease_drop_away(struct sched *s, uint64_t stream) {
    struct lease *l;
    if (s->leases->away)
        LIST_FOREACH(l, &s->leases->all, all)
            if (l->away == stream)
                give_up(l);
}

/* Marks calls that the parser has met again as sent. */
void lease_claim(struct stream *st) {
    struct lease *l;
    if (!st->s->leases->away)
        return;
    LIST_FOREACH(l, &st->s->leases->all, all)
        for (unsigned i = 0; l->away == st->id && i < l->count; i++) {
            struct call *c = lease_call_at(st, sent_at(l, i)->call);
            if (!c || c->state != CALL_PENDING)
                continue;
            stream_sent(st, c, true);
            c->lease = l->id;
            c->sent = sent_at(l, i)->number;
            st->pending--;
            if (i == 0)
                move_pieces(&c->pieces, &l->pieces);
        }
}

/* The call, with *out its stream, if that has met it again; else the answer is kept, or nobody wants it. */
static struct call *claimed(struct lease *l, uint64_t number, struct stream **out) {
    *out = stream_find(l->host->s, l->away);
    struct call *c = lease_call_at(*out, number);
    return lease_runs(l, c) ? c : NULL;
}

static void keep(struct lease *l, struct stream *st, uint64_t number, enum kept_kind kind, const void *bytes,
                 size_t size) {
    const struct call *c = lease_call_at(st, number);
    bool met = st && number < st->next_call, ends = kind >= KEPT_VALUE;
    if (met && !(c && c->state == CALL_PENDING)) {
        pieces_free(&l->pieces); /* nobody wants it any more */
        return;
    }
    if (!stream_keep_away(l->user, l->away, number, kind, bytes, size, ends ? &l->pieces : NULL))
        give_up(l); /* no memory: the call runs again */
}

/* The call that it runs has ended without an answer. */
static void fail(struct lease *l, struct stream *st, struct call *c, const char *why) {
    pieces_free(&l->pieces);
    l->host->failed++;
    if (c)
        stream_drop_answer(c);
    if (c)
        sched_check(st->s, st->codec->fail(st, c, ERROR_DIED, why));
    else
        keep(l, st, sent_at(l, 0)->call, KEPT_FAILED, why, strlen(why) + 1);
}

void lease_away_ended(struct lease *l, const struct work_outcome *o) {
    struct stream *st;
    char why[LEASE_WHY];
    if (l->away && l->count && l->state != LEASE_KILLED && o->end != WORK_DONE && o->end != WORK_LOST && !o->unbegun) {
        struct call *c = claimed(l, sent_at(l, 0)->call, &st);
        lease_died_why(l, o, why);
        fail(l, st, c, why);
    }
    lease_not_away(l);
}

void lease_away_answer(struct lease *l, uint32_t number, enum answer_kind kind, const void *bytes, size_t size) {
    struct stream *st;
    if (!l->count || sent_at(l, 0)->number != number)
        return;
    if (kind == ANSWER_NEED) { /* the call has not begun, and only the stream has its objects */
        give_up(l);
        return;
    }
    uint64_t of = sent_at(l, 0)->call;
    enum kept_kind as = kind == ANSWER_VALUE ? KEPT_VALUE : KEPT_ERROR;
    struct call *c = claimed(l, of, &st);
    if (kind == ANSWER_PART) {
        if (l->codec->part(c ? &c->pieces : &l->pieces, bytes, size, &l->user->answers) == 0)
            return;
        fail(l, st, c, stream_no_room);
        give_up(l);
        return;
    }
    l->host->done += kind == ANSWER_VALUE;
    l->host->failed += kind == ANSWER_ERROR;
    if (!c)
        keep(l, st, of, as, bytes, size);
    else
        sched_check(st->s, stream_answer(st, c, kind, bytes, size));
    if (l->away)
        lease_pop(l);
}

void lease_away_output(struct lease *l, enum output_kind which, const void *bytes, size_t size) {
    struct stream *st;
    uint64_t of = l->count ? sent_at(l, 0)->call : 0;
    enum kept_kind as = which == OUTPUT_STDERR ? KEPT_STDERR : KEPT_STDOUT;
    struct call *c = l->count ? claimed(l, of, &st) : NULL;
    if (!c && l->count)
        keep(l, st, of, as, bytes, size);
    else if (c)
        sched_check(st->s, st->codec->output(st, c, which, bytes, size));
}
