/* What the answers of one user take in memory: pieces of large ones, those that wait for older ones or for the disk,
 * those that are kept until they are committed, and what calls have printed. That is USER_ANSWERS and one large one,
 * however many slots he has: from there on each of his leases that tells something is not read any more, so that its
 * worker waits in its pipe, or its node is told to wait.
 *
 * A complete answer leaves memory with the disk, an incomplete one only after its rest has come. So one lease at a
 * time, the favourite, is still read until a call has ended, as long as the disk keeps up (user_is_behind) and commits
 * succeed. A favourite that is silent between two answers gives way to the next: its call may run for long, or wait for
 * another lease. */
#include "net/clock.h"
#include "sched/leases/lease_int.h"

#define LOW (USER_ANSWERS / 4 * 3) /* all leases are read again below that */
#define SILENT_US 50000            /* a favourite that is silent for so long gives way */

static bool in_answer(const struct lease *l) {
    struct stream *st = lease_stream(l);
    const struct call *c = st && l->count ? lease_sent_call(st, sent_at(l, 0)->call) : NULL;
    return pieces_any(&l->pieces) || (c && pieces_any(&c->pieces));
}

/* Leases in the middle of an answer are next. */
static void hold(struct lease *l) {
    lease_hold(l, in_answer(l));
    answers_wait(l->user);
}

void answers_heard(struct lease *l, bool ended) {
    struct user *u = l->user;
    bool favourite = u->favourite == l->id;
    struct stream *st = lease_stream(l);
    if (st)
        answers_count(st);
    if (favourite && !ended) {
        l->told = clock_us();
        return;
    }
    if (favourite)
        u->favourite = 0;
    if (answers_much(u) && l->count && !l->held && l->state != LEASE_KILLED)
        hold(l);
}

/* One lease, and one job whose answer is read back. */
static void one(struct user *u) {
    struct lease *l = lease_find(u->s, u->favourite);
    int64_t now = clock_us();
    if (user_is_behind(u) || u->s->unkept) {
        if (l && !l->held)
            hold(l);
        return;
    }
    if (l && now - l->told > SILENT_US && !in_answer(l)) {
        if (!l->held)
            hold(l);
        l = NULL;
    }
    if (!l && (l = TAILQ_FIRST(&u->waiting)))
        l->told = now;
    u->favourite = l ? l->id : 0;
    if (l)
        lease_read(l);
    stream_endings(u, false);
}

static void all(struct user *u) {
    u->favourite = 0;
    for (struct lease *l; (l = TAILQ_FIRST(&u->waiting));)
        lease_read(l);
    stream_endings(u, true);
    if (!TAILQ_EMPTY(&u->endings))
        return;
    u->holds = false;
    LIST_REMOVE(u, holding);
}

void answers_turn(struct sched *s) {
    for (struct user *u = LIST_FIRST(&s->holding), *next; u; u = next) {
        next = LIST_NEXT(u, holding);
        if (u->answers < LOW)
            all(u);
        else
            one(u);
    }
    if (!LIST_EMPTY(&s->holding))
        streams_timer_on(s);
}
