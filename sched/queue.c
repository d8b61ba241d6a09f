/* What is due in a turn: dispatch, and long work in slices, cut by time: no request waits behind a group of 100,000 jobs.
 * Each slice leaves the database in a state from which the next one goes on, in this daemon or in the next. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/clock.h"
#include "sched/stream_int.h"

#define ROWS 8        /* of long work that are done between two looks at the clock */
#define LANES_MAX 256 /* places that one dispatch looks at */
#define MET_MAX 256   /* jobs and streams that one dispatch looks at */
#define WAITING_MAX 64 /* jobs that it passes by: they wait for a faster host, or for one that is kept */

/* --- dispatch ---------------------------------------------------------------------------------------------------- */

/* Jobs wait in lanes, one for each place that they may run at (host.h); "" is the lane of those that run anywhere. A lane
 * whose hosts are busy holds up no other. */
struct lane {
    char place[PLACE_MAX];
    struct job_row head;
    bool over; /* nothing more of it can start in this dispatch */
};
struct lanes {
    struct lane *items;
    size_t count, cap;
    int waiting; /* jobs met that it passes by */
};

void queue_mark(struct sched *s, const struct job_row *r) {
    if (*r->place)
        s->placed_backlog = true;
    else
        s->backlog = true;
}

static bool somebody_waits(struct sched *s) {
    return s->backlog || s->placed_backlog || lease_wanted(s);
}

/* A client that waits for a result while it is itself a job holds a slot and does nothing: its slot is lent out. Only
 * asked when somebody waits for a slot, once for each such client. Such clients are on this machine. */
static void lend_slots(struct sched *s) {
    for (struct parked *p = s->parked; p; p = p->next) {
        if (p->looked)
            continue;
        p->looked = true;
        p->job = pool_job_of(s->hosts->pool, p->pid);
        struct run *r = p->job ? run_find(s, p->job) : NULL;
        if (r && r->state == RUN_RUNNING)
            run_lend(r, true);
        else if (!lease_lend(s, p->job, true))
            p->job = 0;
    }
}

/* Cannot run with the slots and nodes there are: aside, so that it holds up nobody, until that changes. */
static int put_aside(struct sched *s, struct job_row *r) {
    r->job.not_before = NOT_PLACED;
    return sched_move(s, r, JOB_WAITING, 0);
}

/* The lane's next job behind after (which may be its head), or its first. */
static void next_in(struct sched *s, struct lane *l, const struct job_row *after) {
    int rc = store_ready_head(s->store, l->place, after, &l->head);
    l->over = rc < 0;
    if (rc < 0 && !after && !*l->place)
        s->backlog = false;
}

static int add_lane(struct sched *s, struct lanes *lanes, const char *place) {
    if (lanes->count == lanes->cap) {
        size_t cap = lanes->cap ? lanes->cap * 2 : 4;
        struct lane *grown = reallocarray(lanes->items, cap, sizeof *grown);
        if (!grown)
            return sched_check(s, -ENOMEM);
        lanes->items = grown;
        lanes->cap = cap;
    }
    struct lane *l = &lanes->items[lanes->count++];
    strcpy(l->place, place);
    next_in(s, l, NULL);
    return 0;
}

/* Of many lanes some hundred take part, others the next time. */
static int open_lanes(struct sched *s, struct lanes *lanes) {
    char place[PLACE_MAX];
    int rc = s->backlog ? add_lane(s, lanes, "") : 0;
    if (!s->placed_backlog || rc < 0)
        return rc;
    bool wrapped = !*s->place_from;
    strcpy(place, s->place_from);
    size_t before = lanes->count;
    while (rc == 0 && lanes->count < LANES_MAX) {
        rc = store_ready_place(s->store, place);
        if (rc == -ENOENT && !wrapped) {
            wrapped = true;
            *place = 0;
            rc = 0;
            continue;
        }
        if (rc == 0 && wrapped && *s->place_from && strcmp(place, s->place_from) > 0)
            break;
        if (rc == 0)
            rc = add_lane(s, lanes, place);
    }
    if (rc == -ENOENT)
        rc = 0;
    s->placed_backlog = lanes->count > before;
    strcpy(s->place_from, lanes->count == LANES_MAX ? place : "");
    return sched_check(s, rc);
}

static bool before(const struct job_row *a, const struct job_row *b) {
    if (a->job.priority != b->job.priority)
        return a->job.priority > b->job.priority;
    return a->turn != b->turn ? a->turn < b->turn : a->job.id < b->job.id;
}

static struct lane *best_lane(struct lanes *lanes) {
    struct lane *best = NULL;
    for (size_t i = 0; i < lanes->count; i++)
        if (!lanes->items[i].over && (!best || before(&lanes->items[i].head, &best->head)))
            best = &lanes->items[i];
    return best;
}

/* It starts on a host that is kept for another job, if it surely ends before that one could begin. */
static bool fill(struct sched *s, struct job_row *r, const struct demand *d) {
    struct options *o = NULL;
    if (!s->spares || submit_options(s, r, &o) < 0)
        return false;
    struct host *h = host_spare(s, d, options_timeout_us(o));
    options_destroy(o);
    if (!h || speed_holds(s, h, d->function) || run_start(s, r, h, 0) < 0)
        return false;
    run_find(s, r->job.id)->filled = true;
    return true;
}

/* The head of a lane starts, or shows that it cannot now. What waits for slots has a host kept for it, and those behind
 * it go to others. True: its state has changed. */
static bool try_head(struct sched *s, struct lanes *lanes, struct lane *l) {
    struct job_row *r = &l->head;
    if (job_is_stream(&r->job)) { /* needs a place in memory, not a slot */
        l->over = s->stream_waits = streams_active(s) >= STREAMS_ACTIVE;
        if (l->over || run_start(s, r, NULL, 0) < 0)
            return false;
        next_in(s, l, NULL);
        return true;
    }
    if (r->job.cpus > host_largest(s, l->place)) {
        int rc = put_aside(s, r);
        next_in(s, l, NULL);
        return rc == 0;
    }
    if (run_find(s, r->job.id)) { /* its last attempt is still being written down */
        next_in(s, l, r);
        return false;
    }
    struct demand d = {l->place, r->job.cpus, speed_of_job(s, &r->job, r->stream), r->job.deaths || r->job.failures ? r->job.node : ""};
    struct host *h = host_pick(s, &d);
    if (h && speed_holds(s, h, d.function)) { /* those behind it may be others */
        next_in(s, l, r);
        l->over |= ++lanes->waiting >= WAITING_MAX;
        return false;
    }
    if (h && run_start(s, r, h, 0) == 0) {
        next_in(s, l, NULL);
        return true;
    }
    if (!h && fill(s, r, &d)) {
        next_in(s, l, r);
        return true;
    }
    host_reserve(s, l->place, r->job.id, r->job.cpus);
    if (host_pick(s, &(struct demand){.place = l->place, .cpus = 1, .avoid = ""}) || (s->spares && ++lanes->waiting < WAITING_MAX))
        next_in(s, l, r);
    else
        l->over = true;
    return false;
}

/* Among equals, jobs and streams take turns. Where all that was met has to stay as it is, the next turn would meet the same:
 * then it waits for a change. */
static void dispatch_lanes(struct sched *s, struct lanes *lanes) {
    int64_t until = clock_us() + s->slice_us;
    bool moved = false;
    for (unsigned met = 0; (host_any_free(s) || s->spares) && !s->error; met++) {
        struct lane *l = best_lane(lanes);
        struct lease_offer o;
        if (met == MET_MAX || (moved && clock_us() >= until)) {
            if (moved)
                sched_tick(s);
            return;
        }
        bool stream = lease_ready(s, &o);
        if (!l && !stream)
            return;
        if (stream && (!l || o.priority > l->head.job.priority || (o.priority == l->head.job.priority && s->stream_turn))) {
            s->stream_turn = false;
            if (lease_grant(s, &o) < 0)
                return;
            moved = true;
            continue;
        }
        s->stream_turn = true;
        moved |= try_head(s, lanes, l);
    }
}

static void dispatch(struct sched *s) {
    struct lanes lanes = {0};
    if (s->stopping || s->error)
        return;
    speed_weigh(s);
    if (!somebody_waits(s))
        return;
    s->dispatches++;
    for (struct host *h = s->hosts; h && !s->full; h = h->next, s->steps++)
        h->reserved = false;
    s->spares = NULL;
    if (!host_any_free(s))
        lend_slots(s);
    if (host_any_free(s) && open_lanes(s, &lanes) == 0)
        dispatch_lanes(s, &lanes);
    host_spare_wake(s);
    free(lanes.items);
    if (!s->error && somebody_waits(s))
        lease_reclaim(s);
}

void queue_mark_wanted(struct sched *s) {
    char place[PLACE_MAX] = "";
    for (struct host *h = s->hosts; h; h = h->next)
        h->wanted = s->backlog;
    for (int i = 0; !s->backlog && s->placed_backlog && i < LANES_MAX && store_ready_place(s->store, place) == 0; i++)
        for (struct host *h = s->hosts; h && strcmp(place, PLACE_STREAM) != 0; h = h->next)
            h->wanted |= host_fits(h, place);
}

/* --- slices ------------------------------------------------------------------------------------------------------ */

static int settle_one(struct sched *s, uint64_t id, bool succeeded, const char *name) {
    struct job_row r;
    uint64_t on, count;
    char why[JOB_WHY_MAX];
    int rc = store_job_get(s->store, id, &r);
    if (rc < 0 || (r.job.state != JOB_WAITING && (r.job.state != JOB_HELD || succeeded)))
        return rc == -ENOENT ? 0 : rc;
    if (!succeeded) {
        snprintf(why, sizeof why, "not started, because %s did not succeed", name);
        return sched_fail(s, &r, EIO, why, 0);
    }
    if (store_dep_first(s->store, id, &on, &count) == 0)
        return 0;
    struct options *o = NULL;
    rc = submit_options(s, &r, &o);
    if (rc < 0)
        return rc;
    bool placeable = submit_placeable(s, &r, o);
    options_destroy(o);
    if (placeable)
        return submit_enqueue(s, &r, 0);
    r.job.not_before = NOT_PLACED;
    return sched_check(s, store_job_save(s->store, &r, SAVE_QUEUE));
}

static void settle_slice(struct sched *s) {
    uint64_t on, ids[ROWS];
    bool succeeded;
    char name[JOB_NAME_MAX + 1];
    int rc = store_settle_next(s->store, &on, &succeeded, name);
    s->settling = rc == 0;
    if (rc < 0)
        return;
    int n = store_settle_jobs(s->store, on, ids, ROWS);
    sched_check(s, n < 0 ? n : 0);
    for (int i = 0; i < n; i++)
        sched_check(s, settle_one(s, ids[i], succeeded, name));
    if (n < ROWS)
        sched_check(s, store_settle_done(s->store, on));
}

/* A group that was renamed from .G to G: its files were sealed one by one, now they are queued, the groups in it after it. */
static void open_slice(struct sched *s) {
    uint64_t group, ids[ROWS];
    int rc = store_group_next_opening(s->store, 0, &group);
    s->opening = rc == 0;
    if (rc < 0)
        return;
    int n = store_ids(s->store, SET_SEALED, (int64_t)group, s->opened, ids, ROWS);
    for (int i = 0; i < n; i++) {
        struct job_row r;
        s->opened = ids[i];
        int rc = sched_check(s, store_job_get(s->store, ids[i], &r));
        if (rc == 0 && !draft_stays(s, &r.job))
            rc = submit_job(s, &r);
        if (rc == -ENOMEM)
            sched_check(s, rc); /* all of this turn is done again, a second later */
        else if (rc < 0)
            sched_log(s, "%s could not be queued: %s", r.job.name, strerror(-rc));
    }
    if (n < ROWS && !s->error) {
        sched_check(s, store_group_open_below(s->store, group));
        sched_check(s, store_group_set_opening(s->store, group, false));
        sched_check(s, store_tally_touch(s->store, group));
        s->opened = 0;
    }
}

/* Files in spool/ that no row names: what a daemon was writing when it was killed. */
static void sweep_slice(struct sched *s) {
    struct spool_name names[ROWS];
    int n = spool_scan(s->spool, names, ROWS);
    s->sweeping = n > 0;
    for (int i = 0; i < n; i++) {
        struct body b;
        bool named = store_body_get(s->store, names[i].job, names[i].body, &b) == 0 && b.file == names[i].file;
        bool young = names[i].job >= s->first_id || ids_has(&s->converting, names[i].job) || run_find(s, names[i].job);
        if (!named && !young)
            spool_unlink(s->spool, names[i]);
    }
}

/* Jobs that fitted no node are judged again. */
static void place_slice(struct sched *s) {
    uint64_t ids[ROWS];
    int n = store_ids(s->store, SET_UNPLACED, 0, s->placed, ids, ROWS);
    s->placing = n == ROWS;
    for (int i = 0; i < n; i++) {
        struct job_row r;
        struct options *o = NULL;
        s->placed = ids[i];
        int rc = sched_check(s, store_job_get(s->store, ids[i], &r));
        if (rc == 0)
            rc = submit_options(s, &r, &o);
        if (rc < 0) {
            sched_check(s, rc == -ENOMEM ? rc : 0);
            continue;
        }
        if (submit_placeable(s, &r, o))
            submit_enqueue(s, &r, 0);
        options_destroy(o);
    }
}

static void trash_slice(struct sched *s) {
    int more = store_trash_slice(s->store, ROWS);
    s->trash = more > 0;
    sched_check(s, more);
}

static void retries_slice(struct sched *s, int64_t until) {
    uint64_t ids[ROWS];
    int n;
    if (!s->due_at)
        return;
    if (s->due_at > sched_steady(s)) {
        if (!evtimer_pending(s->due, NULL)) /* libevent counts from when its callbacks began: it came a little early */
            queue_due(s);
        return;
    }
    do {
        n = store_ids(s->store, SET_DUE, sched_steady(s), 0, ids, ROWS);
        for (int i = 0; i < n; i++) {
            struct job_row r;
            if (store_job_get(s->store, ids[i], &r) == 0)
                submit_enqueue(s, &r, 0);
        }
    } while (n == ROWS && !s->error && clock_us() < until);
    s->due_at = 0;
    queue_due(s);
}

void queue_due(struct sched *s) {
    int64_t due = store_next_due(s->store), now = sched_steady(s);
    s->due_at = due;
    if (!due)
        return;
    int64_t wait = due > now ? due - now : 0;
    struct timeval t = {wait / 1000000, wait % 1000000};
    evtimer_add(s->due, &t);
}

/* More of one kind of long work, until the time of this turn is over; a little of it in any case. */
static void work_off(struct sched *s, const bool *more, void (*slice)(struct sched *s), int64_t until) {
    do
        if (*more && !s->error)
            slice(s);
    while (*more && !s->error && clock_us() < until);
}

void queue_turn(struct sched *s) {
    int64_t until = clock_us() + s->slice_us;
    work_off(s, &s->settling, settle_slice, until);
    work_off(s, &s->opening, open_slice, until);
    work_off(s, &s->placing, place_slice, until);
    work_off(s, &s->sweeping, sweep_slice, until);
    work_off(s, &s->trash, trash_slice, until);
    retries_slice(s, until);
    stream_turn(s);
    dispatch(s);
    if (s->settling || s->opening || s->placing || s->sweeping || s->trash)
        sched_tick(s);
}
