/* Leases: a slot that a stream has for a while. Its worker is sent calls ahead, as many as run in a few milliseconds by
 * what they took so far, so that no wake-up stands between two calls; long calls are sent one at a time, and what was sent
 * behind a call that turned out to be long is taken back. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "sched/stream_int.h"

#define AHEAD_US 4000.0    /* run time that is sent ahead */
#define LONG_US 50000      /* a call that runs so long is said to have started, and nothing waits behind it */
#define QUANTUM_US 20000   /* a lease that others wait for is given back after so long */
#define TIMER_US 25000

static int64_t clock_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static struct lease *find(struct sched *s, uint64_t id) {
    for (struct lease *l = s->leases; l; l = l->next)
        if (l->id == id)
            return l;
    return NULL;
}

unsigned lease_count(const struct sched *s, const struct stream *st) {
    unsigned n = 0;
    for (struct lease *l = s->leases; l; l = l->next)
        n += l->stream == st;
    return n;
}

static unsigned ahead(const struct lease *l) {
    if (l->average_us == 0)
        return 1;
    double n = AHEAD_US / l->average_us;
    return n < 1 ? 1 : n > LEASE_AHEAD ? LEASE_AHEAD : (unsigned)n;
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
    c->answer.size = 0;
    st->pending++;
    if (number < st->next_send)
        st->next_send = number;
}

/* The calls from the i-th that it was sent on, as far as they have not begun. */
static void take_back_from(struct lease *l, unsigned i) {
    if (i >= l->count)
        return;
    uint32_t limit = pool_recall(l->stream->s->pool, l->id, l->numbers[(l->first + i) % LEASE_AHEAD]);
    while (l->count && l->numbers[(l->first + l->count - 1) % LEASE_AHEAD] >= limit)
        back_to_pending(l->stream, l->calls[(l->first + --l->count) % LEASE_AHEAD]);
}

/* --- slots ------------------------------------------------------------------------------------------------------- */

/* More calls wait than there are leases of the stream that have nothing to do. */
static bool wants(struct sched *s, const struct stream *st) {
    uint64_t idle = 0;
    for (struct lease *l = s->leases; l; l = l->next)
        idle += l->stream == st && !l->finishing && l->count == 0;
    return st->pending > idle;
}

bool lease_wanted(struct sched *s, int *priority) {
    bool any = false;
    for (struct stream *st = s->streams; st; st = st->next)
        if (wants(s, st) && (!any || st->priority > *priority)) {
            *priority = st->priority;
            any = true;
        }
    return any;
}

/* The stream of the highest priority, among equals the one with the fewest leases. */
static struct stream *choose(struct sched *s) {
    struct stream *best = NULL;
    unsigned least = 0;
    for (struct stream *st = s->streams; st; st = st->next) {
        if (!wants(s, st) || (best && st->priority < best->priority))
            continue;
        unsigned n = lease_count(s, st);
        if (!best || st->priority > best->priority || n < least) {
            best = st;
            least = n;
        }
    }
    return best;
}

static void timer_on(struct sched *s) {
    static const struct timeval t = {0, TIMER_US};
    if (!evtimer_pending(s->lease_timer, NULL))
        evtimer_add(s->lease_timer, &t);
}

int lease_grant(struct sched *s) {
    struct stream *st = choose(s);
    struct job_row r;
    char name[4096], *cwd = NULL;
    if (!st)
        return -ENOENT;
    int rc = store_job_get(s->store, st->id, &r);
    if (rc == 0)
        rc = store_job_texts(s->store, st->id, NULL, &cwd);
    if (rc == 0)
        rc = sched_path(s, &r.job, name, sizeof name);
    struct lease *l = rc == 0 ? calloc(1, sizeof *l) : NULL;
    if (l) {
        *l = (struct lease){.id = LEASE_BIT | ++s->last_lease, .stream = st, .began = clock_us(), .next_number = 1};
        struct work w = {.job = l->id, .attempt = 1, .kind = st->codec->kind, .name = name, .node = "local", .cwd = cwd, .uid = r.job.uid, .gid = r.job.gid};
        rc = pool_start(s->pool, &w);
        if (rc == 0) {
            l->next = s->leases;
            s->leases = l;
            s->used++;
        } else {
            free(l);
        }
    }
    free(cwd);
    return l ? rc : rc < 0 ? rc : -ENOMEM;
}

static bool another_wants(struct sched *s, const struct stream *st) {
    for (struct stream *other = s->streams; other; other = other->next)
        if (other != st && wants(s, other))
            return true;
    return false;
}

void lease_reclaim(struct sched *s) {
    int64_t now = clock_us();
    for (struct lease *l = s->leases; l; l = l->next) {
        /* One that was granted in this turn is sent its first calls after the commit: it is not idle. */
        bool busy = l->count || (l->stream && l->stream->pending);
        if (l->finishing || (busy && now - l->began < QUANTUM_US) || (!s->backlog && !another_wants(s, l->stream)))
            continue;
        l->finishing = true;
        pool_finish(s->pool, l->id);
    }
}

void lease_end(struct stream *st) {
    for (struct lease *l = st->s->leases; l; l = l->next) {
        if (l->stream != st)
            continue;
        if (!l->finishing)
            pool_finish(st->s->pool, l->id);
        l->finishing = true;
        l->stream = NULL;
    }
}

/* A call of it waits for a result of another job: its slot is lent out, and what was sent behind it is taken back. */
bool lease_lend(struct sched *s, uint64_t id, bool lend) {
    struct lease *l = find(s, id);
    if (!l || l->lent == lend)
        return l;
    l->lent = lend;
    s->lent += lend ? 1 : -1;
    pool_resize(s->pool, s->cpus + s->lent);
    if (lend && l->stream)
        take_back_from(l, 1);
    return true;
}

void lease_drop(struct stream *st) {
    for (struct lease *l = st->s->leases; l; l = l->next)
        if (l->stream == st) {
            l->stream = NULL;
            pool_kill(st->s->pool, l->id);
        }
}

void lease_free_all(struct sched *s) {
    for (struct lease *l; (l = s->leases);) {
        s->leases = l->next;
        free(l);
    }
}

/* --- sending ----------------------------------------------------------------------------------------------------- */

static void send_one(struct lease *l, uint64_t number, struct call *c) {
    struct stream *st = l->stream;
    unsigned at = (l->first + l->count) % LEASE_AHEAD;
    if (pool_call(st->s->pool, l->id, l->next_number, c->format, c->bytes, c->size) < 0)
        return; /* the lease has just died, or there is no memory: the call stays pending */
    int64_t now = clock_us();
    if (l->count == 0)
        l->last = now;
    l->calls[at] = number;
    l->numbers[at] = l->next_number++;
    l->count++;
    c->state = CALL_SENT;
    c->sent = now;
    st->pending--;
}

static struct call *next_pending(struct stream *st, uint64_t *number) {
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

/* One call to each lease in turn, until they have enough: two workers share a short burst. */
static void fill(struct stream *st) {
    for (bool sent = true; sent && st->pending;) {
        sent = false;
        for (struct lease *l = st->s->leases; l && st->pending; l = l->next) {
            uint64_t number;
            struct call *c;
            if (l->stream != st || l->finishing || (l->lent && l->count) || l->count >= ahead(l) || !(c = next_pending(st, &number)))
                continue;
            uint64_t before = st->pending;
            send_one(l, number, c);
            sent |= st->pending < before;
        }
    }
}

void lease_send(struct sched *s) {
    if (!s->leases)
        return;
    for (struct stream *st = s->streams; st; st = st->next)
        if (st->pending && st->out.size < STREAM_BEHIND)
            fill(st);
    for (struct lease *l = s->leases; l; l = l->next)
        if (l->count) {
            timer_on(s);
            break;
        }
    pool_flush(s->pool);
}

/* --- coming back ------------------------------------------------------------------------------------------------- */

static uint64_t pop(struct lease *l) {
    uint64_t number = l->calls[l->first];
    l->first = (l->first + 1) % LEASE_AHEAD;
    l->count--;
    return number;
}

/* Workers answer in the order in which they were asked; calls that were taken back leave gaps. */
static struct call *answered_call(struct lease *l, uint32_t number) {
    if (l->count == 0 || l->numbers[l->first] != number)
        return NULL;
    struct call *c = sent_call(l->stream, l->calls[l->first]);
    if (!c)
        pop(l);
    return c;
}

static int give_function(void *arg, const void *bytes, size_t size) {
    struct lease *l = arg;
    struct call *c = stream_call(l->stream, l->calls[l->first]);
    return pool_function(l->stream->s->pool, l->id, (const uint8_t *)c->bytes, bytes, size);
}

static void need(struct lease *l, struct call *c, size_t size) {
    struct stream *st = l->stream;
    if (size == 0) { /* it has options, or is a program: not for a lease */
        pop(l);
        c->state = CALL_PENDING; /* for stream_job, which takes it from there */
        st->pending++;
        sched_check(st->s, stream_job(st, c));
    } else if (c->size < 32 || store_function_get(st->s->store, (const uint8_t *)c->bytes, give_function, l) < 0) {
        pool_function(st->s->pool, l->id, (const uint8_t *)c->bytes, NULL, 0);
    }
}

void lease_answer(void *arg, uint64_t id, uint32_t number, enum pool_answer kind, const void *bytes, size_t size) {
    struct sched *s = arg;
    struct lease *l = find(s, id);
    struct call *c = l && l->stream ? answered_call(l, number) : NULL;
    if (!c)
        return; /* dropped, or from before a recall */
    struct stream *st = l->stream;
    if (kind == ANSWER_NEED) {
        need(l, c, size);
        return;
    }
    if (kind == ANSWER_PART) {
        if (c->answer.size + size > FRAME_WHOLE_MAX || buffer_add(&c->answer, bytes, size) < 0) {
            lease_drop(st); /* a worker that sends more than it may, or no memory for it: the lease's end fails the call */
            sched_check(s, st->codec->fail(st, c, ERROR_DIED, "its result is larger than 1 GiB, or than memory"));
        }
        return;
    }
    int64_t now = clock_us();
    double took = (double)(now - l->last);
    l->average_us = l->average_us == 0 ? took + 1 : l->average_us * 0.9 + took * 0.1;
    l->last = now;
    pop(l);
    s->done += kind == ANSWER_VALUE;
    s->failed += kind == ANSWER_ERROR;
    s->run_us += (int64_t)took;
    if (c->answer.size) {
        if (buffer_add(&c->answer, bytes, size) < 0) {
            sched_check(s, -ENOMEM);
            return;
        }
        struct buffer whole = c->answer;
        c->answer = (struct buffer){0};
        sched_check(s, st->codec->answer(st, c, kind, whole.bytes, whole.size));
        buffer_free(&whole);
    } else {
        sched_check(s, st->codec->answer(st, c, kind, bytes, size));
    }
}

void lease_output(struct sched *s, uint64_t id, enum pool_stream which, const void *bytes, size_t size) {
    struct lease *l = find(s, id);
    if (!l || !l->stream || l->count == 0 || which > POOL_STDERR)
        return;
    struct call *c = sent_call(l->stream, l->calls[l->first]);
    if (c)
        sched_check(s, l->stream->codec->output(l->stream, c, which, bytes, size));
}

/* The worker has gone. What it was running fails; what it had not begun goes to another. */
bool lease_done(struct sched *s, uint64_t id, const struct work_outcome *o) {
    if (!(id & LEASE_BIT))
        return false;
    for (struct lease **at = &s->leases, *l; (l = *at); at = &l->next) {
        if (l->id != id)
            continue;
        struct stream *st = l->stream;
        lease_lend(s, id, false);
        *at = l->next;
        s->used--;
        if (st && l->count && o->end != WORK_LOST && o->end != WORK_DONE) {
            struct call *c = sent_call(st, l->calls[l->first]);
            char why[600];
            snprintf(why, sizeof why, "%s", *o->why ? o->why : "its worker ended");
            if (c) {
                pop(l);
                c->answer.size = 0;
                s->failed++;
                sched_check(s, st->codec->fail(st, c, ERROR_DIED, why));
            }
        }
        while (st && l->count)
            back_to_pending(st, pop(l));
        free(l);
        sched_tick(s);
        return true;
    }
    return true;
}

/* A CANCEL of a call that runs or is queued in a worker: its worker is killed when it runs, else it is taken back. */
void lease_cancel(struct stream *st, struct call *c) {
    for (struct lease *l = st->s->leases; l; l = l->next) {
        if (l->stream != st)
            continue;
        for (unsigned i = 0; i < l->count; i++) {
            if (stream_call(st, l->calls[(l->first + i) % LEASE_AHEAD]) != c)
                continue;
            take_back_from(l, i);
            if (i < l->count)
                pool_kill(st->s->pool, l->id);
            return;
        }
    }
}

/* --- long calls -------------------------------------------------------------------------------------------------- */

void lease_timer(evutil_socket_t fd, short what, void *arg) {
    struct sched *s = arg;
    int64_t now = clock_us();
    (void)fd;
    (void)what;
    for (struct lease *l = s->leases; l; l = l->next) {
        if (!l->stream || l->count == 0)
            continue;
        timer_on(s);
        struct stream *st = l->stream;
        struct call *c = sent_call(st, l->calls[l->first]);
        if (c && now - l->last > TIMER_US)
            stream_suspect(st, c);
        if (now - l->last < LONG_US || !c)
            continue;
        if (!c->told) {
            c->told = true;
            sched_check(s, st->codec->started(st, c));
        }
        l->average_us = (double)(now - l->last);
        take_back_from(l, 1);
    }
}
