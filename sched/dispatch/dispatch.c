/* Dispatch: free slots go to users in the order of their turns (user.h), of a user's to the job or stream of the
 * highest priority, among equals in turn. What it looks at is bounded, and cut by time. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/clock.h"
#include "sched/dispatch/dispatch.h"
#include "sched/dispatch/lend.h"
#include "sched/leases/lease.h"
#include "sched/streams/streams.h"
#include "sched/dispatch/state.h"

#define QUEUES_MAX 256 /* places of a user that one dispatch looks at */
#define MET_MAX 256    /* jobs and streams of a user that one dispatch looks at */
#define WAITING_MAX 64 /* jobs of a user that it passes by: they wait for a faster host, or for one that is kept */
#define DAMAGED_MAX 16 /* of which the row is damaged, in one dispatch */
#define WANTED_MAX 16  /* jobs of a user that others wait for and that cannot start, in one dispatch */

/* Jobs wait in ready queues, one for each user and place that they may run at (host.h); "" is the ready queue of those
 * that run anywhere. A ready queue whose hosts are busy holds up no other. */
struct ready_queue {
    char place[CONSTRAINT_MAX];
    struct job_row head;
    bool over; /* nothing more of it can start in this dispatch */
};
struct ready_queues { /* of a user */
    struct ready_queue *items;
    size_t count, cap;
    int waiting;       /* jobs met that it passes by */
    unsigned met;      /* times that it was his turn */
    unsigned unwanted; /* jobs met that others wait for, and that cannot start now */
};

/* --- who waits --------------------------------------------------------------------------------------------------- */

static bool somebody_waits(struct sched *s) {
    bool wanted = lease_wanted(s);
    return users_ready(s) || wanted;
}

/* --- a user's ready queues ---------------------------------------------------------------------------------------- */

/* The ready queue's next job behind after (which may be its head), or its first. */
static void next_in(struct user *u, struct ready_queue *l, const struct job_row *after) {
    const struct job_row *behind = after;
    struct job_row damaged;
    int rc = store_ready_head(u->s->store, u->uid, l->place, behind, &l->head);
    for (int i = 0; rc == 0 && l->head.job.damaged; i++) {
        damaged = l->head;
        if (damaged.job.state == JOB_FAILED) { /* it stays in the queue if only the row lost that it was queued */
            behind = &damaged;
        } else {
            damaged.job.state = JOB_QUEUED;
            rc = sched_fail(u->s, &damaged, EIO, "its row in the database is damaged", 0);
        }
        if (rc == 0)
            rc = i == DAMAGED_MAX ? -EAGAIN : store_ready_head(u->s->store, u->uid, l->place, behind, &l->head);
    }
    l->over = rc < 0;
    if (rc == -ENOENT && !after && !*l->place)
        user_backlog(u, false, u->placed);
}

static int add_queue(struct user *u, const char *place) {
    struct ready_queues *queues = u->queues;
    if (queues->count == queues->cap) {
        size_t cap = queues->cap ? queues->cap * 2 : 4;
        struct ready_queue *grown = reallocarray(queues->items, cap, sizeof *grown);
        if (!grown)
            return sched_check(u->s, -ENOMEM);
        queues->items = grown;
        queues->cap = cap;
    }
    struct ready_queue *l = &queues->items[queues->count++];
    strcpy(l->place, place);
    next_in(u, l, NULL);
    return 0;
}

/* Of many ready queues some hundred take part, others the next time. */
static int add_places(struct user *u) {
    struct ready_queues *queues = u->queues;
    char place[CONSTRAINT_MAX];
    bool wrapped = !*u->constraint_from;
    strcpy(place, u->constraint_from);
    size_t before = queues->count;
    int rc = 0;
    while (rc == 0 && queues->count < QUEUES_MAX) {
        rc = store_ready_place(u->s->store, u->uid, place);
        if (rc == -ENOENT && !wrapped) {
            wrapped = true;
            *place = 0;
            rc = 0;
            continue;
        }
        if (rc == 0 && wrapped && *u->constraint_from && strcmp(place, u->constraint_from) > 0)
            break;
        if (rc == 0)
            rc = add_queue(u, place);
    }
    if (rc == -ENOENT)
        rc = 0;
    user_backlog(u, u->backlog, queues->count > before);
    strcpy(u->constraint_from, queues->count == QUEUES_MAX ? place : "");
    return sched_check(u->s, rc);
}

/* Once in a dispatch. 0 or -errno */
static int open_queues(struct user *u) {
    struct sched *s = u->s;
    if (u->queues)
        return 0;
    u->queues = calloc(1, sizeof *u->queues);
    if (!u->queues)
        return sched_check(s, -ENOMEM);
    LIST_INSERT_HEAD(&s->dispatch->met, u, met);
    int rc = u->backlog ? add_queue(u, "") : 0;
    return rc == 0 && u->placed ? add_places(u) : rc;
}

/* keep: those who were passed stay so, and the next dispatch goes on behind them. */
static void close_queues(struct sched *s, bool keep) {
    for (struct user *u = LIST_FIRST(&s->dispatch->met), *next; u; u = next) {
        next = LIST_NEXT(u, met);
        if (u->queues)
            free(u->queues->items);
        free(u->queues);
        u->queues = NULL;
        if (keep && u->passed)
            continue;
        LIST_REMOVE(u, met);
        user_unpass(u);
    }
}

static bool before(const struct job_row *a, const struct job_row *b) {
    if (a->job.priority != b->job.priority)
        return a->job.priority > b->job.priority;
    return a->turn != b->turn ? a->turn < b->turn : a->job.id < b->job.id;
}

static struct ready_queue *best_queue(struct user *u) {
    struct ready_queue *best = NULL;
    for (size_t i = 0; i < u->queues->count; i++) {
        struct ready_queue *l = &u->queues->items[i];
        if (!l->over && (!best || before(&l->head, &best->head)))
            best = l;
    }
    return best;
}

/* --- what is first of them --------------------------------------------------------------------------------------- */

/* Cannot run with the slots and nodes there are: aside, so that it holds up nobody, until that changes. */
static int put_aside(struct sched *s, struct job_row *r) {
    r->job.not_before = NOT_PLACED;
    return sched_transition(s, r, JOB_WAITING, 0);
}

/* It starts on a host that is kept for another job, if it surely ends before that one could begin. */
static bool fill(struct sched *s, struct job_row *r, const struct demand *d) {
    struct options *o = NULL;
    if (!host_has_spares(s) || submit_options(s, r, &o) < 0)
        return false;
    struct host *h = host_spare(s, d, o->timeout_us);
    options_destroy(o);
    if (!h || estimate_holds(s, h, d->function) || run_start(s, r, h, 0) < 0)
        return false;
    run_find(s, r->job.id)->use.filled = true;
    return true;
}

/* Its group may have been moved or given another max= since it was queued: then it goes into the ready queue that it
 * belongs to now. */
static bool is_in_place(struct user *u, struct ready_queue *l) {
    struct sched *s = u->s;
    struct job_row *r = &l->head;
    char place[CONSTRAINT_MAX];
    strcpy(place, r->place);
    limit_place(s, r->job.group, place);
    if (strcmp(place, r->place) == 0)
        return true;
    strcpy(r->place, place);
    sched_check(s, store_job_save(s->store, r, SAVE_QUEUE));
    backlog_mark(s, r);
    next_in(u, l, NULL);
    return false;
}

/* The head of a ready queue starts, or shows that it cannot now. What waits for slots has a host kept for it, and those
 * behind it go to others. True: its state has changed. */
static bool try_head(struct user *u, struct ready_queue *l) {
    struct sched *s = u->s;
    struct job_row *r = &l->head;
    if (stream_is_leaving(s, r->stream)) {
        int rc = sched_check(s, sched_remove(s, r));
        next_in(u, l, NULL);
        return rc == 0;
    }
    if (job_is_stream(&r->job)) { /* needs a place in memory, not a slot */
        bool room = stream_may_start(s, u);
        l->over = !room;
        if (!room || job_start(s, r, NULL, 0) < 0)
            return false;
        next_in(u, l, NULL);
        return true;
    }
    if (limits_said(s) && !is_in_place(u, l))
        return true;
    struct limit *limit = limit_of(s, l->place);
    if (!limit_has_room(limit)) {
        limit_want(limit, NULL);
        l->over = true;
        return false;
    }
    if (!host_could(s, l->place, u->uid, r->job.cpus) || quota_why_never(s, &r->job, NULL, 0)) {
        int rc = put_aside(s, r);
        next_in(u, l, NULL);
        return rc == 0;
    }
    if (!user_has_room(u, r->job.cpus)) {
        u->crowded = s->dispatches;
        l->over = true;
        u->keeps = (int64_t)(u->slots - u->leased) + r->job.cpus <= u->quota.slots;
        if (!u->wide)
            sched_tick(s); /* he may have slots that can be lent */
        user_wide(u);
        return false;
    }
    if (run_find(s, r->job.id)) { /* its last attempt is still being written down */
        next_in(u, l, r);
        return false;
    }
    struct demand d = {l->place, r->job.cpus, estimate_of_job(s, &r->job, r->stream), u->uid,
                       r->job.deaths || r->job.failures ? r->job.node : ""};
    struct host *h = host_pick(s, &d);
    if (h && estimate_holds(s, h, d.function)) { /* those behind it may be others */
        next_in(u, l, r);
        l->over |= ++u->queues->waiting >= WAITING_MAX;
        return false;
    }
    if (h && run_start(s, r, h, 0) == 0) {
        next_in(u, l, NULL);
        if (!l->over)
            u->urgent = l->head.job.priority;
        return true;
    }
    if (!h && fill(s, r, &d)) {
        next_in(u, l, r);
        return true;
    }
    const struct host *kept = host_reserve(s, &d, r->job.id);
    u->keeps |= kept && kept->used - kept->leases + r->job.cpus <= kept->cpus + kept->lent;
    if (host_pick(s, &(struct demand){.place = l->place, .cpus = 1, .uid = u->uid, .avoid = ""}) ||
        (host_has_spares(s) && ++u->queues->waiting < WAITING_MAX))
        next_in(u, l, r);
    else
        l->over = true;
    return false;
}

/* Of those that others wait for one starts: the last that was waited for, or the lenders would be more and more. False:
 * none can, and it is for what is next in his ready queues. */
static bool start_wanted(struct user *u) {
    struct want *w;
    for (; u->queues->unwanted < WANTED_MAX && (w = TAILQ_FIRST(&u->wanted)); u->queues->unwanted++, u->s->steps++) {
        struct ready_queue alone = {.over = false};
        uint64_t job = w->job;
        if (store_job_get(u->s->store, job, &alone.head) < 0 || alone.head.job.state != JOB_QUEUED ||
            alone.head.job.uid != u->uid) {
            wanted_unlist(w);
            continue;
        }
        strcpy(alone.place, alone.head.place);
        if (!try_head(u, &alone)) {
            wanted_pass(w);
            continue;
        }
        wanted_unlist(w);
        for (struct ready_queue *l = u->queues->items; l < u->queues->items + u->queues->count; l++)
            if (!l->over && l->head.job.id == job)
                next_in(u, l, NULL);
        return true;
    }
    return false;
}

/* --- turns ------------------------------------------------------------------------------------------------------- */

static bool is_stream_first(const struct user *u, const struct ready_queue *l, const struct lease_offer *o) {
    return !l || o->priority > l->head.job.priority || (o->priority == l->head.job.priority && u->stream_turn);
}

/* What the mounting user and root raise above 0 goes before what others have. */
static struct user *raised(struct sched *s) {
    const uid_t trusted[] = {0, s->owner};
    struct user *best = NULL;
    int most = 0;
    for (unsigned i = 0; i < 2 && user_waiting(s, 1); i++) {
        struct user *u = user_of(s, trusted[i]);
        struct lease_offer o;
        if (!u || !u->in[USERS_READY] || open_queues(u) < 0)
            continue;
        const struct ready_queue *l = best_queue(u);
        int priority = l ? l->head.job.priority : 0;
        if (lease_ready(u, &o) && o.priority > priority)
            priority = o.priority;
        if (priority > most) {
            most = priority;
            best = u;
        }
    }
    return best;
}

/* Starts what is first of the user's. False: nothing of his can start in this dispatch. */
static bool give_turn(struct user *u, bool *moved) {
    struct sched *s = u->s;
    struct lease_offer o;
    u->urgent = NOT_URGENT;
    if (open_queues(u) < 0 || u->queues->met++ == MET_MAX)
        return false;
    if (lend_crowded(u, host_local(s)->cpus) && start_wanted(u)) {
        *moved = true;
        return true;
    }
    if (u->queues->met == 1) {
        u->stream_turn &= !u->keeps;
        u->keeps = false;
    }
    struct ready_queue *l = best_queue(u);
    bool stream = lease_ready(u, &o);
    if (stream && is_stream_first(u, l, &o)) {
        u->stream_turn = false;
        if (lease_grant(s, &o) < 0)
            return false;
        *moved = true;
        return true;
    }
    u->stream_turn = true;
    if (l)
        *moved |= try_head(u, l);
    return l && !(u->keeps && u->crowded == s->dispatches); /* else a lease would take what comes free of his quota */
}

/* Where all that was met has to stay as it is, the next turn would meet the same: then it waits for a change. Cut
 * before all users had their turn, the next dispatch goes on with the others. */
static void dispatch_users(struct sched *s) {
    int64_t until = clock_us() + s->slice_us;
    bool moved = false, passed = false, cut = false, more = false, goes_on = !LIST_EMPTY(&s->dispatch->met);
    if (!goes_on)
        s->stirred = false;
    while ((host_any_free(s) || host_has_spares(s)) && !store_failed(s->store)) {
        struct user *u = raised(s);
        if (!u && !(u = user_next(s)))
            break;
        cut = (moved || (passed && !u->queues)) && clock_us() >= until;
        if (cut)
            break;
        if (give_turn(u, &moved))
            continue;
        more |= u->queues && u->queues->met > MET_MAX;
        user_pass(u);
        passed = true;
    }
    close_queues(s, cut && !moved);
    if (cut || (more && moved) || (goes_on && s->stirred)) /* what stirred may be for those who were passed before it */
        sched_tick(s);
}

void dispatch_turn(struct sched *s) {
    if (s->stopping || store_failed(s->store))
        return;
    estimate_weigh(s);
    users_find(s);
    s->dispatches++;
    bool waits = somebody_waits(s);
    if (!waits && !limits_wanted(s))
        return;
    host_unreserve_all(s);
    if (!host_any_free(s) || users_starved(s) || limits_said(s) || host_any_short(s, s->dispatches - 1))
        lend_turn(s);
    if (host_any_free(s))
        dispatch_users(s);
    if (host_any_short(s, s->dispatches))
        lend_later(s);
    host_spare_wake(s);
    if (!store_failed(s->store) && (somebody_waits(s) || limits_wanted(s)))
        lease_reclaim(s);
}
