/* The calls of leases. A worker is sent calls ahead, as many as run in a few milliseconds by what they took so far (and, on a
 * node, while its answers are on the way), so that neither a wake-up nor a round trip stands between two calls. Long calls are
 * sent one at a time, and what was sent behind others is taken back where it could begin sooner. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/clock.h"
#include "sched/lease_int.h"
#include "sched/values.h"

#define AHEAD_US 4000.0  /* run time that is sent ahead */
#define LONG_US 50000    /* a call that runs so long is said to have started, and nothing waits behind it */
#define GUESS_US 5000.0  /* what a call is thought to take as long as nobody knows: a long way is not gone for a single one */
#define TIMER_US 25000
#define SHARE_US 10000.0 /* calls that wait longer than that behind others go to a lease that has none */

/* The i-th of those that were sent and are not answered. */
static struct sent *sent_at(const struct lease *l, unsigned i) {
    return &l->ring[(l->first + i) & (l->cap - 1)];
}

/* From then on a call is long: never shorter than what a node needs to be asked and to answer a few times. */
static int64_t long_us(const struct lease *l) {
    return LONG_US + 4 * (int64_t)host_way_us(l->host);
}

/* What a call of that function takes there; while that is not known, what calls of its stream take. 0: not known either. */
static double known_us(const struct lease *l, unsigned function) {
    double us = speed_us(l->host, function);
    return us > 0 ? us : speed_us(l->host, l->stream->function);
}

static double guess_us(const struct lease *l, unsigned function) {
    double us = known_us(l, function);
    return us > 0 ? us : GUESS_US;
}

/* It may be sent calls. */
static bool is_open(const struct lease *l, const struct stream *st) {
    return l->stream == st && !l->finishing && !l->recalling && !l->unwanted && !(l->lent && l->count) && host_live(l->host);
}

bool lease_waits(const struct stream *st, const struct host *h, double ahead_us, unsigned function) {
    uint64_t calls = 0;
    double us = speed_us(h, function);
    if (speed_excess(h, function) == 0)
        return false;
    for (const struct lease *l = st->s->leases; l && calls < st->pending; l = l->next) {
        double there = speed_us(l->host, function), left = ahead_us + us + host_way_us(h) - l->ahead_us - host_way_us(l->host);
        if (is_open(l, st) && speed_faster(l->host, h, function) && left >= there)
            calls += (uint64_t)(left / there);
    }
    return calls >= st->pending;
}

/* Whether it is to be sent that call now. What a node is sent ahead lasts while its answers and the next calls are on the
 * way. spare: besides the call that runs there are to be enough, not only with it, also where a single one is more than
 * enough: on a node a large answer takes its way while the next call runs. */
static bool takes(const struct lease *l, const struct stream *st, const struct call *c, bool spare) {
    unsigned most = l->host->far ? LEASE_AHEAD_FAR : LEASE_AHEAD;
    double known = known_us(l, c->function), us = known > 0 ? known : GUESS_US;
    double room = AHEAD_US + 2 * host_way_us(l->host) + (spare && l->host->far ? 2 * us : 0);
    if (l->count && (l->count >= most || l->ahead_us + us > room || us >= (double)long_us(l) || (known == 0 && !spare)))
        return false;
    return is_open(l, st) && !lease_waits(st, l->host, l->ahead_us, c->function);
}

/* The call of that number if it is still under way in a worker; one that was cancelled may have left the window. */
static struct call *sent_call(struct stream *st, uint64_t number) {
    if (number < st->row.call || number >= st->next_call)
        return NULL;
    struct call *c = stream_call(st, number);
    return c->state == CALL_SENT ? c : NULL;
}

static void back_to_pending(struct stream *st, uint64_t number) {
    struct call *c = sent_call(st, number);
    if (!c)
        return;
    c->state = CALL_PENDING;
    stream_drop_answer(c);
    st->pending++;
    if (number < st->next_send)
        st->next_send = number;
}

static void lighten(struct lease *l, const struct sent *sent) {
    l->ahead_us = l->count ? l->ahead_us - sent->us : 0;
}

static void drop_from(struct lease *l, uint32_t limit) {
    while (l->count && sent_at(l, l->count - 1)->number >= limit) {
        l->count--;
        lighten(l, sent_at(l, l->count));
        if (l->stream)
            back_to_pending(l->stream, sent_at(l, l->count)->call);
    }
}

/* The calls from the i-th that it was sent on, as far as they have not begun. A node says later which: until then it is
 * sent nothing. */
void lease_take_back(struct lease *l, unsigned i) {
    if (i >= l->count || l->recalling)
        return;
    l->asked = sent_at(l, i)->number;
    uint32_t limit = runner_recall(l->host->runner, l->id, l->asked);
    l->recalling = limit == RUNNER_LATER;
    if (!l->recalling)
        drop_from(l, limit);
}

/* Cancelled calls that have not begun are recalled. What is left has begun, and the last of it runs: if that was cancelled it
 * costs its worker, when the answers of those before it are here, as they would be killed with it. */
static void stop_unwanted(struct lease *l) {
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
        runner_kill(l->host->runner, l->id);
}

void lease_recalled(void *arg, uint64_t id, uint32_t limit) {
    const struct host *h = arg;
    struct lease *l = lease_find(h->s, id);
    if (!l || !l->recalling)
        return;
    l->recalling = false;
    drop_from(l, limit);
    stop_unwanted(l);
    sched_tick(h->s);
}

static void timer_on(struct sched *s) {
    static const struct timeval t = {0, TIMER_US};
    if (!evtimer_pending(s->lease_timer, NULL))
        evtimer_add(s->lease_timer, &t);
}

/* --- sending ----------------------------------------------------------------------------------------------------- */

static bool has_room(struct lease *l) {
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

static bool send_one(struct lease *l, uint64_t number, struct call *c) {
    struct stream *st = l->stream;
    if (!has_room(l) || runner_call(l->host->runner, l->id, l->next_number, c->format, c->bytes, c->size) < 0)
        return false; /* the lease has just died, too much is on its way, or there is no memory: the call stays pending */
    if (l->count == 0)
        l->last = clock_us() + (int64_t)host_way_us(l->host); /* before that no answer can have come */
    double us = guess_us(l, c->function);
    *sent_at(l, l->count++) = (struct sent){.call = number, .number = l->next_number++, .function = c->function, .us = us};
    l->ahead_us += us;
    c->state = CALL_SENT;
    st->pending--;
    return true;
}

struct call *lease_next(struct stream *st, uint64_t *number) {
    if (st->next_send < st->row.call) /* those have left the window: their places belong to later calls */
        st->next_send = st->row.call;
    for (; st->next_send < st->next_call; st->next_send++) {
        struct call *c = stream_call(st, st->next_send);
        if (c->state == CALL_PENDING && st->waiting > STREAM_HELD && st->next_send != st->row.call)
            return NULL; /* too many answers wait for that of the oldest call */
        if (c->state == CALL_PENDING) {
            *number = st->next_send;
            return c;
        }
    }
    return NULL;
}

/* One call to each lease in turn, until they have enough: two workers share a short burst. The last ones wait for the lease
 * that is free first. */
static void fill(struct stream *st) {
    unsigned leases = lease_count(st->s, st);
    for (bool sent = true; sent && st->pending;) {
        bool spare = st->pending > leases;
        sent = false;
        for (struct lease *l = st->s->leases; l && st->pending; l = l->next) {
            uint64_t number;
            struct call *c = l->stream == st ? lease_next(st, &number) : NULL;
            if (c && takes(l, st, c, spare))
                sent |= send_one(l, number, c);
        }
    }
}

static void count_answer(struct lease *l, unsigned function) {
    l->got++;
    for (struct got *g = l->got_of; g < l->got_of + LEASE_GOT; g++)
        if (g->n == 0 || g->function == function) {
            g->function = function;
            g->n++;
            return;
        }
}

/* What calls take, by the answers of a turn together: they come in batches. Each function is given its share by what it was
 * thought to take. */
static void measure(struct lease *l) {
    double took = l->heard > l->last ? (double)(l->heard - l->last) : 1, thought = 0;
    unsigned n = 0;
    for (unsigned i = 0; i < LEASE_GOT; i++) {
        thought += l->got_of[i].n * guess_us(l, l->got_of[i].function);
        n += l->got_of[i].n;
    }
    for (unsigned i = 0; i < LEASE_GOT && n == l->got; i++) /* else there were more functions than can be told apart */
        if (l->got_of[i].function != l->stream->function)
            speed_note(l->host, l->got_of[i].function, guess_us(l, l->got_of[i].function) * took / thought, l->got_of[i].n);
    l->stream->function = speed_function(l->host->s, stream_key(l->stream));
    speed_note(l->host, l->stream->function, took / l->got, l->got);
    memset(l->got_of, 0, sizeof l->got_of);
    l->host->run_us += (int64_t)took;
    l->last = l->heard;
    l->got = 0;
}

void lease_send(struct sched *s) {
    bool busy = false;
    for (struct stream *st = s->streams; st; st = st->next)
        if (st->parts_waiting)
            timer_on(s);
    if (!s->leases)
        return;
    for (struct lease *l = s->leases; l; l = l->next) {
        if (l->got && l->stream)
            measure(l);
        if (!l->finishing && host_drains(l->host))
            lease_finish(l);
    }
    for (struct stream *st = s->streams; st; st = st->next)
        if (st->pending && stream_unwritten(st) < STREAM_BEHIND)
            fill(st);
    for (struct lease *l = s->leases; l && !busy; l = l->next)
        busy = l->count;
    if (busy)
        timer_on(s);
    for (struct host *h = s->hosts; h; h = h->next)
        if (h->leases && h->runner.ops)
            runner_flush(h->runner);
}

/* --- coming back ------------------------------------------------------------------------------------------------- */

static uint64_t pop(struct lease *l) {
    const struct sent *sent = sent_at(l, 0);
    l->first = (l->first + 1) & (l->cap - 1);
    l->count--;
    lighten(l, sent);
    return sent->call;
}

/* Workers answer in the order in which they were asked; calls that were taken back leave gaps. */
static struct call *answered_call(struct lease *l, uint32_t number) {
    if (l->count == 0 || sent_at(l, 0)->number != number)
        return NULL;
    struct call *c = sent_call(l->stream, sent_at(l, 0)->call);
    if (!c)
        pop(l);
    return c;
}

bool lease_at(const struct lease *l, uint32_t number) {
    return l->stream && l->count && sent_at(l, 0)->number == number;
}

/* It has options, or is a program: not for a lease. */
static void not_ours(struct lease *l, struct call *c) {
    struct stream *st = l->stream;
    pop(l);
    c->state = CALL_PENDING; /* for stream_job, which takes it from there */
    st->pending++;
    sched_check(st->s, stream_job(st, c));
}

void lease_answer(void *arg, uint64_t id, uint32_t number, enum pool_answer kind, const void *bytes, size_t size) {
    struct host *h = arg;
    struct sched *s = h->s;
    struct lease *l = lease_find(s, id);
    struct call *c = l && l->stream ? answered_call(l, number) : NULL;
    if (!c) { /* dropped, or from before a recall */
        if (l && l->stream)
            stop_unwanted(l);
        return;
    }
    struct stream *st = l->stream;
    if (kind == ANSWER_NEED) {
        if (size)
            values_give(l, number, c, bytes);
        else
            not_ours(l, c);
        return;
    }
    if (kind == ANSWER_PART) {
        if (st->codec->part(st, c, bytes, size) < 0) {
            lease_drop(st); /* a worker that sends more than it may, or no memory for it: the lease's end fails the call */
            sched_check(s, st->codec->fail(st, c, ERROR_DIED, "its result is larger than 1 GiB, or than memory"));
        }
        return;
    }
    l->heard = clock_us();
    if (h->crashes || h->lost_work)
        host_worked(h);
    count_answer(l, c->function);
    pop(l);
    stop_unwanted(l);
    h->done += kind == ANSWER_VALUE;
    h->failed += kind == ANSWER_ERROR;
    sched_check(s, st->codec->answer(st, c, kind, bytes, size));
}

void lease_output(struct sched *s, uint64_t id, enum pool_stream which, const void *bytes, size_t size) {
    struct lease *l = lease_find(s, id);
    if (!l || !l->stream || l->count == 0 || which > POOL_STDERR)
        return;
    struct call *c = sent_call(l->stream, sent_at(l, 0)->call);
    if (c)
        sched_check(s, l->stream->codec->output(l->stream, c, which, bytes, size));
}

/* What was running when its worker went: it fails, or, where that was nobody's fault, is charged a death. */
static void end_running(struct lease *l, const struct work_outcome *o) {
    struct stream *st = l->stream;
    struct call *c = sent_call(st, sent_at(l, 0)->call);
    char why[600];
    l->host->lost_work |= o->end == WORK_LOST;
    if (!c || (o->end == WORK_LOST && ++c->deaths < DEATHS_MAX))
        return;
    if (o->end == WORK_LOST)
        snprintf(why, sizeof why, "gave up: it was running at three deaths of ppfs or its node");
    else
        snprintf(why, sizeof why, "%s", *o->why ? o->why : "its worker ended");
    pop(l);
    stream_drop_answer(c);
    l->host->failed++;
    sched_check(st->s, st->codec->fail(st, c, ERROR_DIED, why));
}

void lease_calls_lost(struct lease *l, const struct work_outcome *o) {
    if (l->count && o->end != WORK_DONE)
        end_running(l, o);
    while (l->count)
        back_to_pending(l->stream, pop(l));
}

/* A CANCEL of a call that runs or is queued in a worker: its worker is killed when it runs, else it is taken back. */
void lease_cancel(struct stream *st, struct call *c) {
    for (struct lease *l = st->s->leases; l; l = l->next) {
        if (l->stream != st)
            continue;
        for (unsigned i = 0; i < l->count; i++) {
            if (sent_call(st, sent_at(l, i)->call) != c)
                continue;
            sent_at(l, i)->unwanted = l->unwanted = true;
            lease_take_back(l, i); /* not while another recall is under way */
            stop_unwanted(l);
            return;
        }
    }
}

/* --- long calls -------------------------------------------------------------------------------------------------- */

/* More is known of its calls than when they were sent; the first one runs since l->last. */
static void weigh(struct lease *l, int64_t now) {
    l->ahead_us = 0;
    for (unsigned i = 0; i < l->count; i++) {
        struct sent *sent = sent_at(l, i);
        sent->us = guess_us(l, sent->function);
        if (i == 0 && sent->us < (double)(now - l->last))
            sent->us = (double)(now - l->last);
        l->ahead_us += sent->us;
    }
}

/* How long the last of its calls waits for the others. */
static double waits_us(const struct lease *l) {
    return l->count ? l->ahead_us - sent_at(l, l->count - 1)->us : 0;
}

/* The last call of that lease would end sooner on h, in a slot that is free. */
static bool sooner_on(const struct host *h, const struct lease *l) {
    unsigned function = sent_at(l, l->count - 1)->function;
    return host_way_us(h) + speed_us(h, function) < host_way_us(l->host) + l->ahead_us;
}

static bool place_free(struct stream *st, const struct lease *most) {
    for (struct lease *l = st->s->leases; l; l = l->next)
        if (l->count == 0 && is_open(l, st) && sooner_on(l->host, most))
            return true;
    struct demand d = {.place = st->place, .cpus = 1, .function = sent_at(most, most->count - 1)->function, .avoid = ""};
    struct host *h = st->s->backlog ? NULL : host_choose(st->s, &d);
    return h && sooner_on(h, most);
}

/* Calls that wait long behind others while a slot is free are taken back: half of those of the lease that has the most. */
static void share(struct stream *st) {
    struct lease *most = NULL;
    for (struct lease *l = st->s->leases; l; l = l->next)
        if (l->stream == st && (!most || waits_us(l) > waits_us(most)))
            most = l;
    if (st->pending || !most || waits_us(most) < SHARE_US + 2 * host_way_us(most->host))
        return;
    if (place_free(st, most))
        lease_take_back(most, (most->count + 1) / 2);
}

void lease_timer(evutil_socket_t fd, short what, void *arg) {
    struct sched *s = arg;
    int64_t now = clock_us();
    (void)fd;
    (void)what;
    for (struct stream *st = s->streams; st; st = st->next)
        if (stream_parts_tick(st))
            timer_on(s);
    for (struct lease *l = s->leases; l; l = l->next) {
        if (!l->stream || l->count == 0)
            continue;
        timer_on(s);
        weigh(l, now);
        struct stream *st = l->stream;
        struct call *c = sent_call(st, sent_at(l, 0)->call);
        if (c && now - l->last > TIMER_US)
            stream_suspect(st, c);
        if (now - l->last < LONG_US || !c)
            continue;
        if (!c->told) {
            c->told = true;
            sched_check(s, st->codec->started(st, c));
        }
        if (now - l->last < long_us(l))
            continue;
        lease_take_back(l, 1);
    }
    for (struct stream *st = s->streams; st; st = st->next)
        share(st);
}
