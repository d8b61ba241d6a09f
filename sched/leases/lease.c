/* Leases: a slot that a stream has for a while, here or on a node. Who gets one, who gives it back; what is sent over
 * it is in lease_calls.c. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "net/clock.h"
#include "sched/hosts/registry.h"
#include "sched/leases/lease_int.h"

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
    if (l->count)
        LIST_REMOVE(l, busy);
    LIST_REMOVE(l, all);
    answers_drop(l);
    pieces_free(&l->pieces);
    free(l->ring);
    free(l);
}

/* --- lines ------------------------------------------------------------------------------------------------------- */

void lease_set_init(struct lease_set *set) {
    TAILQ_INIT(&set->all);
    for (int i = 0; i < LEASE_LINES; i++)
        TAILQ_INIT(&set->lines[i]);
}

/* An idle one goes to the head: who has just answered still looks for more, and has the function. */
void lease_stand(struct lease *l, enum lease_line line) {
    struct lease_set *set = &l->stream->leases;
    if (l->line)
        TAILQ_REMOVE(&set->lines[l->line], l, place);
    set->idle -= l->idle;
    l->idle = line == LEASE_OPEN && l->count == 0;
    set->idle += l->idle;
    l->line = line;
    if (l->idle)
        TAILQ_INSERT_HEAD(&set->lines[line], l, place);
    else if (line)
        TAILQ_INSERT_TAIL(&set->lines[line], l, place);
}

void lease_reopen(struct lease *l) {
    if (l->stream && !l->finishing && !l->killed)
        lease_stand(l, LEASE_OPEN);
}

/* Leases that are met in sums over all, for each call or lease that comes or goes; and sums that may be made now. */
#define CREDIT 2u
#define CREDIT_MAX 2u

void lease_moved(struct stream *st) {
    struct lease_set *set = &st->leases;
    set->credit += set->credit < set->count * CREDIT_MAX ? CREDIT : 0;
    if (++set->moves > set->count / 4) {
        set->moves = 0;
        set->epoch++;
    }
}

/* Its stream wants nothing more of it. */
void lease_part(struct lease *l) {
    lease_stand(l, LEASE_NOWHERE);
    TAILQ_REMOVE(&l->stream->leases.all, l, mates);
    l->stream->leases.count--;
    lease_moved(l->stream);
    l->stream = NULL;
    if (l->got)
        LIST_REMOVE(l, heard_of);
    l->got = 0;
}

/* --- slots ------------------------------------------------------------------------------------------------------- */

/* More calls wait than there are leases of the stream that have nothing to do. */
static bool wants(struct stream *st) {
    return st->pending > st->leases.idle && lease_next(st);
}

static bool user_wants(struct user *u) {
    struct stream *st;
    LIST_FOREACH(st, &u->streams, mates) {
        if (wants(st))
            return true;
        u->s->steps++;
    }
    return false;
}

bool lease_wanted(struct sched *s) {
    struct user *u;
    bool wanted = false;
    LIST_FOREACH(u, &s->streaming, streaming) {
        bool hungry = user_wants(u);
        user_hungry(u, hungry);
        wanted |= hungry;
    }
    return wanted;
}

/* Of free hosts the one for its next call; NULL also where that had better wait for a lease that the stream has. */
static struct host *host_for(struct sched *s, struct stream *st) {
    const struct call *c = lease_next(st);
    struct demand d = {
        .place = st->place, .cpus = 1, .function = c ? c->function : 0, .uid = st->user->uid, .avoid = ""};
    struct host *h = host_pick(s, &d);
    return h && lease_waits(st, h, 0, d.function) ? NULL : h;
}

/* Of those of his that want a slot the stream of the highest priority, among equals the one with the fewest leases. */
static struct stream *neediest(struct user *u) {
    struct sched *s = u->s;
    struct stream *best = NULL, *st;
    LIST_FOREACH(st, &u->streams, mates) {
        s->steps++;
        bool first = !best || st->priority > best->priority ||
                     (st->priority == best->priority && st->leases.count < best->leases.count);
        if (first && st->leases.passed != s->dispatches && wants(st))
            best = st;
    }
    return best;
}

/* Slots only become fewer in one dispatch: for whom there was none, there is none later in it. */
bool lease_ready(struct user *u, struct lease_offer *o) {
    struct sched *s = u->s;
    while ((o->stream = neediest(u))) {
        o->host = host_for(s, o->stream);
        o->priority = o->stream->priority;
        if (o->host)
            return true;
        o->stream->leases.passed = s->dispatches;
    }
    return false;
}

static int begin(struct sched *s, struct stream *st, struct host *h, struct work *w) {
    struct lease *l = calloc(1, sizeof *l);
    size_t at;
    int rc = l ? free_place(s, &at) : -ENOMEM;
    if (rc < 0) {
        free(l);
        return rc;
    }
    *l = (struct lease){.id = LEASE_BIT | (++s->last_lease << TABLE_BITS & ~LEASE_BIT) | at,
                        .host = h,
                        .user = st->user,
                        .stream = st,
                        .began = clock_us(),
                        .next_number = 1};
    w->job = l->id;
    rc = runner_start(h->runner, w);
    if (rc < 0) {
        if (rc == -EAGAIN)
            host_short(h);
        free(l);
        return rc;
    }
    s->lease_table[at] = l;
    LIST_INSERT_HEAD(&s->leases, l, all);
    const struct call *c = lease_next(st);
    if (c && speed_excess(h, c->function) > 0)
        TAILQ_INSERT_TAIL(&st->leases.all, l, mates);
    else
        TAILQ_INSERT_HEAD(&st->leases.all, l, mates);
    st->leases.count++;
    lease_moved(st);
    lease_stand(l, LEASE_OPEN);
    s->lease_count++;
    h->used++;
    st->user->leased++;
    user_holds(st->user, 1);
    h->leases++;
    h->idle++;
    return 0;
}

int lease_grant(struct sched *s, const struct lease_offer *offer) {
    struct stream *st = offer->stream;
    struct host *h = offer->host;
    struct job_row r;
    struct options *o = NULL;
    char name[4096], *cwd = NULL;
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
        w.sandbox = options_sandbox(o);
        rc = begin(s, st, h, &w);
    }
    options_destroy(o);
    free(cwd);
    return rc;
}

/* --- given back -------------------------------------------------------------------------------------------------- */

void lease_finish(struct lease *l) {
    if (!l->finishing) {
        runner_finish(l->host->runner, l->id);
        host_touch(l->host);
    }
    l->finishing = true;
    if (l->stream)
        lease_stand(l, LEASE_NOWHERE);
}

#define PLACES_MAX                                                                                                     \
    16 /* places of streams that are told apart; what wants a slot at others waits for leases to end by themselves */

struct wanting { /* streams that could use a slot, by their places */
    struct stream *of[PLACES_MAX];
    bool several[PLACES_MAX];
    unsigned count;
};

static void find_wanting(struct sched *s, struct wanting *w) {
    *w = (struct wanting){.count = 0};
    for (struct stream *st = s->streams; st; st = st->next, s->steps++) {
        unsigned i = 0;
        if (!wants(st))
            continue;
        while (i < w->count && (w->of[i]->user != st->user || strcmp(w->of[i]->place, st->place) != 0))
            i++;
        if (i == PLACES_MAX)
            continue;
        w->several[i] |= i < w->count;
        w->count += i == w->count;
        w->of[i] = st;
    }
}

/* Who could use that host, once in a reclaim: the stream, where it is one. */
static void weigh_host(struct host *h, const struct wanting *w) {
    if (h->weighed == h->s->reclaims)
        return;
    h->weighed = h->s->reclaims;
    h->wanting = NULL;
    h->wanted = backlog_wants(h);
    for (unsigned i = 0; i < w->count && !h->wanted; i++)
        if (host_fits(h, w->of[i]->place, w->of[i]->user->uid)) {
            h->wanted = w->several[i] || h->wanting;
            h->wanting = w->of[i];
        }
}

/* Other work of its user could have the slot of that lease, which is busy. */
static bool other_waits(const struct lease *l) {
    struct stream *st;
    if (l->user->backlog || l->user->placed)
        return true;
    LIST_FOREACH(st, &l->user->streams, mates) {
        l->user->s->steps++;
        if (st != l->stream && wants(st))
            return true;
    }
    return false;
}

/* A walk over all leases: the more there are, the less often. A user at his quota waits for his own slots, on whatever
 * host. */
void lease_reclaim(struct sched *s) {
    int64_t now = clock_us();
    if (LIST_EMPTY(&s->leases))
        return;
    if (now < s->reclaim_at) {
        host_wake_in(s, s->reclaim_at - now);
        return;
    }
    s->reclaim_at = now + s->lease_count;
    struct wanting waiting;
    s->reclaims++;
    backlog_look(s);
    find_wanting(s, &waiting);
    const struct user *next = user_next(s);
    unsigned given = 0;
    struct lease *l;
    LIST_FOREACH(l, &s->leases, all) {
        struct host *h = l->host;
        s->steps++;
        given += l->finishing;
        /* One that was granted in this turn is sent its first calls after the commit: it is not idle. */
        bool busy = l->count || (l->stream && l->stream->pending);
        if (l->finishing || (busy && now - l->began < QUANTUM_US))
            continue;
        if (user_crowded(l->user) && (!busy || other_waits(l))) {
            lease_finish(l);
            given++;
            continue;
        }
        if (host_free(h) && !h->reserved)
            continue;
        if (busy && next && !user_yields(l->user, next, given))
            continue;
        weigh_host(h, &waiting);
        if (h->wanted || (h->wanting && h->wanting != l->stream)) {
            lease_finish(l);
            given++;
        }
    }
}

void lease_end(struct stream *st) {
    for (struct lease *l; (l = TAILQ_FIRST(&st->leases.all));) {
        lease_finish(l);
        lease_part(l);
    }
}

void lease_kill(struct lease *l) {
    answers_let(l);
    if (!l->killed)
        runner_kill(l->host->runner, l->id);
    l->killed = true;
    if (l->stream)
        lease_stand(l, LEASE_NOWHERE);
}

/* A call of it waits for a result of another job: its slot is lent out, and what was sent behind it is taken back. */
bool lease_lend(struct sched *s, uint64_t id, bool lend) {
    struct lease *l = lease_find(s, id);
    if (!l || l->lent == lend)
        return l;
    l->lent = lend;
    l->host->lent += lend ? 1 : -1;
    lend_count(l->user, lend);
    l->user->leased += lend ? -1u : 1u;
    user_holds(l->user, lend ? -1 : 1);
    host_resize(l->host);
    if (lend && l->stream)
        lease_take_back(l, 1);
    else
        lease_reopen(l);
    return true;
}

void lease_drop(struct stream *st) {
    for (struct lease *l; (l = TAILQ_FIRST(&st->leases.all));) {
        lease_part(l);
        lease_kill(l);
    }
}

void lease_free_all(struct sched *s) {
    for (struct lease *l; (l = LIST_FIRST(&s->leases));)
        lease_free(l);
    free(s->lease_table);
    s->lease_table = NULL;
    s->lease_table_size = 0;
}

/* The worker has gone. What it had not begun goes to another. */
void lease_done(struct host *h, uint64_t id, const struct work_outcome *o) {
    struct sched *s = h->s;
    struct lease *l = lease_find(s, id);
    if (!l || l->host != h)
        return;
    lease_lend(s, id, false);
    h->used--;
    l->user->leased--;
    user_holds(l->user, -1);
    h->leases--;
    host_room(h);
    if (l->stream) {
        lease_calls_lost(l, o);
        lease_part(l);
    }
    lease_away_ended(l, o);
    h->idle -= l->count == 0;
    s->calls_sent -= l->count;
    s->lease_count--;
    lease_free(l);
    host_gave_back(h, o);
    host_vacant(h);
    sched_tick(s);
}
