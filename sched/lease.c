/* Leases: a slot that a stream has for a while, here or on a node. Who gets one, who gives it back; what is sent over it is
 * in lease_calls.c. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "net/clock.h"
#include "sched/lease_int.h"

#define QUANTUM_US 20000 /* a lease that others wait for is given back after so long */

/* A lease's id says where it stands in the table, so that an answer finds it at once however many there are. */
#define TABLE_BITS 16
#define TABLE_MAX (1u << TABLE_BITS)

struct lease *lease_find(struct sched *s, uint64_t id) {
    size_t at = id & (TABLE_MAX - 1);
    struct lease *l = at < s->lease_table_size ? s->lease_table[at] : NULL;
    return l && l->id == id ? l : NULL;
}

/* 0 and *at, or -ENOMEM, also when there are too many. */
static int free_place(struct sched *s, size_t *at) {
    for (size_t i = 0; i < s->lease_table_size; i++) {
        *at = (s->lease_at + i) % s->lease_table_size;
        if (!s->lease_table[*at]) {
            s->lease_at = *at;
            return 0;
        }
    }
    size_t size = s->lease_table_size ? s->lease_table_size * 2 : 16;
    struct lease **grown = size <= TABLE_MAX ? reallocarray(s->lease_table, size, sizeof(struct lease *)) : NULL;
    if (!grown)
        return -ENOMEM;
    memset(grown + s->lease_table_size, 0, (size - s->lease_table_size) * sizeof *grown);
    *at = s->lease_at = s->lease_table_size;
    s->lease_table = grown;
    s->lease_table_size = size;
    return 0;
}

static void lease_free(struct lease *l) {
    l->host->s->lease_table[l->id & (TABLE_MAX - 1)] = NULL;
    free(l->ring);
    free(l);
}

unsigned lease_count(const struct sched *s, const struct stream *st) {
    unsigned n = 0;
    for (struct lease *l = s->leases; l; l = l->next)
        n += l->stream == st;
    return n;
}

/* --- slots ------------------------------------------------------------------------------------------------------- */

/* More calls wait than there are leases of the stream that have nothing to do. */
static bool wants(struct sched *s, struct stream *st) {
    uint64_t idle = 0, number;
    if (st->pending == 0)
        return false;
    const struct call *next = lease_next(st, &number);
    for (struct lease *l = s->leases; l; l = l->next)
        idle += l->stream == st && !l->finishing && l->count == 0 && host_live(l->host) && !(next && lease_waits(st, l->host, 0, next->function));
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

/* Of free hosts the one for its next call; NULL also where that had better wait for a lease that the stream has. */
static struct host *host_for(struct sched *s, struct stream *st) {
    uint64_t number;
    const struct call *c = lease_next(st, &number);
    struct demand d = {.place = st->place, .cpus = 1, .function = c ? c->function : 0, .avoid = ""};
    struct host *h = host_choose(s, &d);
    return h && lease_waits(st, h, 0, d.function) ? NULL : h;
}

/* Of those that wants a slot and for which there is one: the stream of the highest priority, among equals the one with
 * the fewest leases. */
static struct stream *choose(struct sched *s, struct host **where) {
    struct stream *best = NULL;
    unsigned least = 0;
    for (struct stream *st = s->streams; st; st = st->next) {
        struct host *h = (!best || st->priority >= best->priority) && wants(s, st) ? host_for(s, st) : NULL;
        if (!h)
            continue;
        unsigned n = lease_count(s, st);
        if (!best || st->priority > best->priority || n < least) {
            best = st;
            least = n;
            *where = h;
        }
    }
    return best;
}

bool lease_ready(struct sched *s, int *priority) {
    struct host *h;
    struct stream *st = s->streams ? choose(s, &h) : NULL;
    if (st)
        *priority = st->priority;
    return st;
}

static int begin(struct sched *s, struct stream *st, struct host *h, struct work *w) {
    struct lease *l = calloc(1, sizeof *l);
    size_t at;
    int rc = l ? free_place(s, &at) : -ENOMEM;
    if (rc < 0) {
        free(l);
        return rc;
    }
    *l = (struct lease){.id = LEASE_BIT | (++s->last_lease << TABLE_BITS & ~LEASE_BIT) | at, .host = h, .stream = st, .began = clock_us(), .next_number = 1};
    w->job = l->id;
    rc = runner_start(h->runner, w);
    if (rc < 0) {
        if (rc == -EAGAIN)
            host_short(h);
        free(l);
        return rc;
    }
    s->lease_table[at] = l;
    l->next = s->leases;
    s->leases = l;
    h->used++;
    h->leases++;
    return 0;
}

int lease_grant(struct sched *s) {
    struct host *h = NULL;
    struct stream *st = choose(s, &h);
    struct job_row r;
    struct options *o = NULL;
    char name[4096], *cwd = NULL;
    if (!st)
        return -ENOENT;
    int rc = store_job_get(s->store, st->id, &r);
    if (rc == 0)
        rc = store_job_texts(s->store, st->id, NULL, &cwd);
    if (rc == 0)
        rc = submit_options(s, &r, &o);
    if (rc == 0)
        rc = sched_path(s, &r.job, name, sizeof name);
    if (rc == 0) {
        const char *own = options_cwd(o);
        struct work w = {.attempt = 1, .kind = st->codec->kind, .name = name, .node = h->name, .cwd = own ? own : cwd};
        w.cwd_required = own;
        w.uid = r.job.uid;
        w.gid = r.job.gid;
        w.env = options_env(o);
        rc = begin(s, st, h, &w);
    }
    options_destroy(o);
    free(cwd);
    return rc;
}

static bool another_wants(struct sched *s, const struct lease *l) {
    for (struct stream *other = s->streams; other; other = other->next)
        if (other != l->stream && wants(s, other) && host_fits(l->host, other->place))
            return true;
    return false;
}

void lease_finish(struct lease *l) {
    if (!l->finishing)
        runner_finish(l->host->runner, l->id);
    l->finishing = true;
}

void lease_reclaim(struct sched *s) {
    int64_t now = clock_us();
    if (!s->leases)
        return;
    queue_mark_wanted(s);
    for (struct lease *l = s->leases; l; l = l->next) {
        /* One that was granted in this turn is sent its first calls after the commit: it is not idle. */
        bool busy = l->count || (l->stream && l->stream->pending);
        if (l->finishing || (busy && now - l->began < QUANTUM_US) || (host_free(l->host) && !l->host->reserved))
            continue;
        if (l->host->wanted || another_wants(s, l))
            lease_finish(l);
    }
}

void lease_end(struct stream *st) {
    for (struct lease *l = st->s->leases; l; l = l->next) {
        if (l->stream != st)
            continue;
        lease_finish(l);
        l->stream = NULL;
    }
}

/* A call of it waits for a result of another job: its slot is lent out, and what was sent behind it is taken back. */
bool lease_lend(struct sched *s, uint64_t id, bool lend) {
    struct lease *l = lease_find(s, id);
    if (!l || l->lent == lend)
        return l;
    l->lent = lend;
    l->host->lent += lend ? 1 : -1;
    host_resize(l->host);
    if (lend && l->stream)
        lease_take_back(l, 1);
    return true;
}

void lease_drop(struct stream *st) {
    for (struct lease *l = st->s->leases; l; l = l->next)
        if (l->stream == st) {
            l->stream = NULL;
            runner_kill(l->host->runner, l->id);
        }
}

void lease_free_all(struct sched *s) {
    for (struct lease *l; (l = s->leases);) {
        s->leases = l->next;
        lease_free(l);
    }
    free(s->lease_table);
    s->lease_table = NULL;
    s->lease_table_size = 0;
}

/* The worker has gone. What it had not begun goes to another. */
bool lease_done(struct sched *s, uint64_t id, const struct work_outcome *o) {
    struct lease *l = lease_find(s, id);
    if (!(id & LEASE_BIT))
        return false;
    for (struct lease **at = l ? &s->leases : NULL; at && *at; at = &(*at)->next) {
        if (*at != l)
            continue;
        struct host *h = l->host;
        lease_lend(s, id, false);
        *at = l->next;
        h->used--;
        h->leases--;
        if (l->stream)
            lease_calls_lost(l, o);
        lease_free(l);
        if (o->unbegun)
            host_short(h);
        host_vacant(h);
        sched_tick(s);
        break;
    }
    return true;
}
