/* The calls of leases. A worker is sent calls ahead, as many as run in a few milliseconds by what they took so far
 * (and, on a node, while its answers are on the way), so that neither a wake-up nor a round trip stands between two
 * calls. Long calls are sent one at a time; a call that could begin sooner elsewhere is taken back. */
#include <stdio.h>
#include <string.h>

#include "net/clock.h"
#include "sched/leases/lease_int.h"
#include "sched/leases/state.h"
#include "sched/watch/watch.h"

#define AHEAD_US 4000.0 /* run time that is sent ahead */
#define GUESS_US 5000.0 /* a call of unknown length: too short for a long way */

/* The run time of a long call: at least a few round trips to the node. */
int64_t lease_long_us(const struct lease *l) {
    return LONG_US + 4 * (int64_t)host_way_us(l->host);
}

/* The run time of that function there; if it is unknown, that of the stream's calls; 0: unknown, too. */
static double known_us(const struct lease *l, unsigned function) {
    double us = estimate_us(l->host, function);
    return us > 0 ? us : estimate_us(l->host, l->stream->function);
}

double lease_guess_us(const struct lease *l, unsigned function) {
    double us = known_us(l, function);
    return us > 0 ? us : GUESS_US;
}

/* The line of a lease as regards the call c; LEASE_OPEN: c is sent to it now. Calls that are sent ahead to a node last
 * for a round trip. spare: more calls wait than the stream has leases. Then calls of unknown length are sent ahead,
 * too, and a node gets up to two calls more, so that one runs while a large answer is on its way. */
static enum lease_line judge(const struct lease *l, struct stream *st, const struct call *c, bool spare) {
    unsigned most = l->host->remote ? LEASE_AHEAD_FAR : LEASE_AHEAD;
    double known = known_us(l, c->function), us = known > 0 ? known : GUESS_US;
    double room = AHEAD_US + 2 * host_way_us(l->host), more = l->host->remote ? 2 * us : 0;
    st->s->steps++;
    struct demand d = {st->place, 1, c->function, st->user->uid, ""};
    if (host_doubts(l->host, &d) && (l->count || host_shuns(l->host, &d)))
        return LEASE_FULL;
    if (!lease_open(l) ||
        (l->count && (l->count >= most || us >= (double)lease_long_us(l) || l->ahead_us + us > room + more)))
        return LEASE_FULL;
    if (l->count && !spare && (known == 0 || l->ahead_us + us > room))
        return LEASE_TIGHT;
    return lease_waits(st, l->host, l->ahead_us, c->function) ? LEASE_SLOW : LEASE_OPEN;
}

/* --- sending ----------------------------------------------------------------------------------------------------- */

static bool send_one(struct lease *l, struct call *c) {
    struct stream *st = l->stream;
    if (!lease_has_room(l) ||
        runner_call(l->host->runner, l->id, l->next_number, c->format, c->bytes, c->size, c->shared) < 0)
        return false; /* pending: the lease has just died, much is under way, or there is no memory */
    if (l->count == 0)
        l->last = clock_us() + (int64_t)host_way_us(l->host); /* no answer can come earlier */
    double us = lease_guess_us(l, c->function);
    host_touch(l->host);
    *sent_at(l, l->count) =
        (struct sent){.call = c->number, .number = l->next_number, .function = c->function, .us = us};
    lease_count_by(l, 1);
    l->ahead_us += us;
    estimate_tries(l->host, c->function);
    stream_sent(st, c, true);
    c->lease = l->id;
    c->sent = l->next_number++;
    st->leases->sent += estimate_excess(l->host, c->function) == 0;
    st->pending--;
    return true;
}

/* Slow leases are asked again when more calls wait; the timer asks all of them. */
static void ask_slow(struct stream *st, const struct call *c) {
    struct lease_queue *slow = &st->leases->lines[LEASE_SLOW];
    struct lease *l = TAILQ_FIRST(slow);
    if (!l || judge(l, st, c, true) == LEASE_SLOW) {
        if (l)
            lease_stand(l, LEASE_SLOW); /* at the end */
        return;
    }
    while ((l = TAILQ_FIRST(slow)))
        lease_stand(l, LEASE_OPEN);
}

/* One call to each lease in turn, so that two workers share a short burst. The last calls wait for the first free
 * lease. */
static void fill(struct stream *st) {
    struct lease_set *set = st->leases;
    struct lease_queue full = TAILQ_HEAD_INITIALIZER(full);
    struct lease *l;
    struct call *c = lease_next(st);
    bool left = false;
    if (c && st->pending > set->idle)
        ask_slow(st, c);
    while (st->pending > set->count && (l = TAILQ_FIRST(&set->lines[LEASE_TIGHT])))
        lease_stand(l, LEASE_OPEN);
    while (st->pending && (l = TAILQ_FIRST(&set->lines[LEASE_OPEN])) && (c = lease_next(st))) {
        enum lease_line line = judge(l, st, c, st->pending > set->count);
        bool idle = l->count == 0;
        if (line == LEASE_OPEN && !send_one(l, c)) { /* the runner says when there is room */
            lease_stand(l, LEASE_NOWHERE);
            TAILQ_INSERT_TAIL(&full, l, place);
            continue;
        }
        lease_stand(l, line);
        left |= idle && line != LEASE_OPEN;
    }
    while ((l = TAILQ_FIRST(&full))) {
        TAILQ_REMOVE(&full, l, place);
        lease_stand(l, LEASE_OPEN);
    }
    if (left && st->pending > set->idle)
        sched_tick(st->s); /* another slot may be better */
}

static void count_answer(struct lease *l, unsigned function) {
    if (l->got++ == 0)
        LIST_INSERT_HEAD(&l->host->s->leases->heard, l, heard_of);
    for (struct got *g = l->got_of; g < l->got_of + LEASE_GOT; g++)
        if (g->n == 0 || g->function == function) {
            g->function = function;
            g->n++;
            return;
        }
}

/* Measures run times by all answers of a turn, as these come in batches. Each function has a share by its estimate. */
static void measure(struct lease *l) {
    double took = l->heard > l->last ? (double)(l->heard - l->last) : 1, thought = 0;
    unsigned n = 0;
    for (unsigned i = 0; i < LEASE_GOT; i++) {
        thought += l->got_of[i].n * lease_guess_us(l, l->got_of[i].function);
        n += l->got_of[i].n;
    }
    /* not with more functions than can be told apart */
    for (unsigned i = 0; i < LEASE_GOT && n == l->got && !l->raised; i++)
        if (l->got_of[i].function != l->stream->function)
            estimate_note(l->host, l->got_of[i].function, lease_guess_us(l, l->got_of[i].function) * took / thought,
                          l->got_of[i].n);
    l->stream->function = estimate_function(l->host->s, stream_key(l->stream));
    if (!l->raised) /* a failure says nothing of the run time of others */
        estimate_note(l->host, l->stream->function, took / l->got, l->got);
    l->raised = false;
    memset(l->got_of, 0, sizeof l->got_of);
    l->host->run_us += (int64_t)took;
    l->last = l->heard;
    l->got = 0;
    LIST_REMOVE(l, heard_of);
}

static void finish_drained(struct sched *s) {
    struct lease *l;
    LIST_FOREACH(l, &s->leases->all, all)
        if (l->state == LEASE_LIVE && host_drains(l->host))
            lease_finish(l);
}

void lease_send(struct sched *s) {
    struct lease *l;
    while ((l = LIST_FIRST(&s->leases->heard)))
        measure(l);
    if (hosts_drained(s))
        finish_drained(s);
    for (struct stream *st = stream_first(s); st; st = LIST_NEXT(st, all), s->steps++) {
        if (st->pending && st->leases->count && stream_unwritten(st) < STREAM_BEHIND && st->kept_bytes < KEPT_MAX)
            fill(st);
        if (st->fresh_jobs || (st->pending && st->leases->count))
            streams_timer_on(s);
    }
    if (s->leases->calls_sent)
        streams_timer_on(s);
    hosts_flush(s);
}

/* --- coming back ------------------------------------------------------------------------------------------------- */

/* Whether this ends the call: the worker is at the next one. */
static bool is_last(enum answer_kind kind, size_t size) {
    return kind == ANSWER_VALUE || kind == ANSWER_ERROR || (kind == ANSWER_NEED && size == 0);
}

/* Workers answer in order; recalled calls leave gaps. A cancelled call has no reader, and after its last answer the
 * next call runs. */
static struct call *answered_call(struct lease *l, uint32_t number, bool last) {
    if (l->count == 0 || sent_at(l, 0)->number != number)
        return NULL;
    struct call *c = lease_sent_call(l->stream, sent_at(l, 0)->call);
    if (!c && last) {
        lease_pop(l);
        if (l->got == 0)
            l->last = clock_us();
    }
    return c;
}

/* A call with options, or a program, is not for a lease. */
static void not_ours(struct lease *l, struct call *c) {
    struct stream *st = l->stream;
    lease_pop(l);
    stream_sent(st, c, false); /* for stream_job, which takes it from there */
    st->pending++;
    sched_check(st->s, stream_job(st, c));
}

/* An answer that is too large, or finds no memory: its rest is not read, and the other calls go elsewhere. */
static void too_large(struct lease *l, struct call *c) {
    struct stream *st = l->stream;
    lease_kill(l);
    stream_drop_answer(c);
    host_count(l->host, 0, 1, 0);
    sched_check(st->s, st->codec->fail(st, c, ERROR_DIED, stream_no_room));
}

static void take_back_all(struct host *h) {
    struct lease *other;
    LIST_FOREACH(other, &h->s->leases->busy, busy)
        if (other->host == h && other->stream)
            lease_take_back(other, 1);
}

/* Calls of a function that is doubted there go elsewhere. */
static void note_end(struct lease *l, unsigned function, bool failed) {
    struct host *h = l->host;
    struct demand d = {l->stream->place, 1, function, l->stream->user->uid, ""};
    bool before = !failed || host_doubts(h, &d);
    estimate_ended(h, function, failed);
    if (!before && host_doubts(h, &d))
        take_back_all(h);
}

/* The call has not begun for want of a module, which another host may have. */
static bool goes_elsewhere(struct lease *l, struct call *c, const char *bytes, size_t size) {
    struct demand d = {l->stream->place, 1, c->function, l->stream->user->uid, ""};
    size_t head = 0;
    if (pieces_any(&c->pieces))
        return false;
    if (l->stream->codec->kind != WORK_STREAM_JSON) { /* ppfs-stream(5): the kind, and the size of an exception */
        if (size < 8 || bytes[0] != ERROR_PICKLE || memcmp(bytes + 4, "\0\0\0", 4) != 0)
            return false;
        head = 8;
    }
    bool before = host_doubts(l->host, &d);
    if (!host_lacks(l->host, &d, c->lacked, bytes + head, size - head))
        return false;
    c->lacked++;
    if (!before)
        take_back_all(l->host);
    return true;
}

static void hear(struct lease *l, uint32_t number, enum answer_kind kind, const void *bytes, size_t size) {
    struct host *h = l->host;
    struct sched *s = h->s;
    struct call *c = l->stream ? answered_call(l, number, is_last(kind, size)) : NULL;
    if (!c) { /* dropped or recalled */
        if (l->stream)
            lease_stop_unwanted(l);
        return;
    }
    struct stream *st = l->stream;
    if (kind == ANSWER_NEED) {
        if (size)
            lease_give(l, number, c, bytes);
        else
            not_ours(l, c);
        return;
    }
    if (kind == ANSWER_PART) {
        if (st->codec->part(&c->pieces, bytes, size, &l->user->answers) < 0)
            too_large(l, c);
        return;
    }
    l->heard = clock_us();
    if (h->crashes || h->lost_work)
        host_worked(h);
    bool elsewhere = kind == ANSWER_ERROR && goes_elsewhere(l, c, bytes, size);
    count_answer(l, c->function);
    l->raised |= kind == ANSWER_ERROR;
    uint64_t call = lease_pop(l);
    lease_stop_unwanted(l);
    if (elsewhere) {
        h->failed++;
        lease_back(st, call);
        sched_tick(s);
        return;
    }
    /* not by host_count: a failed commit does not run it again (stream_kept.c) */
    watch_call(st->s);
    h->done += kind == ANSWER_VALUE;
    h->failed += kind == ANSWER_ERROR;
    note_end(l, c->function, kind == ANSWER_ERROR);
    sched_check(s, stream_answer(st, c, kind, bytes, size));
}

void lease_answer(void *arg, uint64_t id, uint32_t number, enum answer_kind kind, const void *bytes, size_t size) {
    const struct host *h = arg;
    struct lease *l = lease_find(h->s, id);
    if (!l)
        return;
    if (l->away)
        lease_away_answer(l, number, kind, bytes, size);
    else
        hear(l, number, kind, bytes, size);
    answers_heard(l, is_last(kind, size));
}

void lease_output(struct host *h, uint64_t id, enum output_kind which, const void *bytes, size_t size) {
    struct lease *l = lease_find(h->s, id);
    if (!l || which > OUTPUT_STDERR)
        return;
    struct call *c = l->stream && l->count ? lease_sent_call(l->stream, sent_at(l, 0)->call) : NULL;
    if (l->away)
        lease_away_output(l, which, bytes, size);
    else if (c)
        sched_check(h->s, l->stream->codec->output(l->stream, c, which, bytes, size));
    answers_heard(l, false);
}

/* The call that ran when its worker ended: it fails, or is charged a death if it is not at fault. */
static void end_running(struct lease *l, const struct work_outcome *o) {
    struct stream *st = l->stream;
    struct call *c = lease_sent_call(st, sent_at(l, 0)->call);
    char why[LEASE_WHY];
    l->host->lost_work |= o->end == WORK_LOST;
    if (!c || (o->end == WORK_LOST && ++c->deaths < DEATHS_MAX))
        return;
    if (o->end == WORK_LOST)
        snprintf(why, sizeof why, "gave up: it was running at three deaths of ppfs or its node");
    else
        lease_died_why(l, o, why);
    if (o->end != WORK_LOST)
        note_end(l, c->function, true);
    lease_pop(l);
    stream_drop_answer(c);
    host_count(l->host, 0, 1, 0);
    sched_check(st->s, st->codec->fail(st, c, ERROR_DIED, why));
}

void lease_calls_lost(struct lease *l, const struct work_outcome *o) {
    bool innocent =
        l->state == LEASE_KILLED && l->count && !sent_at(l, 0)->unwanted; /* killed for a call that had just answered */
    if (l->count && o->end != WORK_DONE && !innocent && !o->unbegun)
        end_running(l, o);
    while (l->count)
        lease_back(l->stream, lease_pop(l));
}

/* Cancels a call that a worker has: if it runs the worker is killed, else the call is recalled. */
void lease_cancel(struct stream *st, struct call *c) {
    struct lease *l = lease_find(st->s, c->lease);
    unsigned low = 0, high = l && l->stream == st ? l->count : 0;
    while (low < high) { /* their numbers rise */
        unsigned middle = (low + high) / 2;
        if (sent_at(l, middle)->number < c->sent)
            low = middle + 1;
        else
            high = middle;
    }
    if (l && l->away == st->id) { /* all that it has */
        lease_not_away(l);
        lease_kill(l);
        return;
    }
    if (!l || low >= l->count || sent_at(l, low)->number != c->sent || lease_sent_call(st, sent_at(l, low)->call) != c)
        return;
    sent_at(l, low)->unwanted = l->unwanted = true;
    lease_take_back(l, low); /* not while another recall is under way */
    lease_stop_unwanted(l);
}
