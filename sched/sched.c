/* The scheduler as a whole: made, recovered, committed, ended. */
#include "sched/hosts/registry.h"
#include "sched/sched.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "net/clock.h"
#include "net/event.h"
#include "sched/dispatch/dispatch.h"
#include "sched/leases/lease.h"
#include "sched/streams/streams.h"
#include "sched/watch/watch.h"

#define SLICE_US 5000 /* nobody in the mount notices a wait as short as this */

static void on_timer(evutil_socket_t fd, short what, void *arg) {
    /* the turn that follows every event does what is due */
}

/* What a failed commit took back is done again. */
static void on_retry(evutil_socket_t fd, short what, void *arg) {
    struct sched *s = arg;
    users_look(s);
    s->settling = s->opening = s->arraying = s->deps = true;
    run_retry_ends(s);
    stream_recover(s, false);
    sched_set_due(s);
    struct ids again = jobs_again(s);
    for (size_t i = 0; i < again.count; i++)
        if (!s->is_open || !s->is_open(s->is_open_arg, again.items[i], true))
            sched_release(s, again.items[i]);
    free(again.items);
}

/* --- commit ------------------------------------------------------------------------------------------------------ */

bool sched_dirty(const struct sched *s) {
    return store_changed(s->store);
}

unsigned sched_running(const struct sched *s) {
    return host_local(s)->runs; /* on this machine */
}

uint64_t sched_faults(const struct sched *s) {
    return store_faults(s->store);
}

void sched_turn(struct sched *s) {
    queue_turn(s);
}

static void tell(struct sched *s, bool committed) {
    const uint64_t *groups;
    struct ids changed = s->changed;
    s->changed = (struct ids){0}; /* whoever is told may change something */
    if (changed.count)
        qsort(changed.items, changed.count, sizeof *changed.items, ids_compare);
    for (size_t i = 0; i < changed.count; i++)
        s->c.changed(s->c.arg, changed.items[i]);
    free(changed.items);
    if (s->dropped_end && s->c.dropped)
        s->c.dropped(s->c.arg, s->dropped_first, s->dropped_end);
    s->dropped_end = 0;
    size_t n = committed ? store_tally_touched(s->store, &groups) : 0;
    for (size_t i = 0; i < n; i++)
        s->c.group_changed(s->c.arg, groups[i]);
}

static void take_back(struct sched *s) {
    host_counted(s, false);
    watch_committed(s, false);
    run_rolled_back(s);
    stream_rolled_back(s);
    s->opened_round++;
    s->placing_round++; /* slices that ran ahead begin anew: doing one twice changes nothing */
    s->settling = s->opening = s->arraying = s->placing = s->giving_up = s->controlling = s->leaving = s->trash = true;
    s->placing_more = true;
    keep_begin(s);
    host_rolled_back(s);
    jobs_rolled_back(s);
    s->unlink_count = 0;
    s->changed.count = 0;
    s->dropped_end = 0;
    users_look(s);
    limits_changed(s);
    sched_retry(s);
}

static void found_damaged(struct sched *s, const char *what) {
    s->damaged = true;
    sched_log(
        s, "the database is damaged (%s): no new jobs are taken; save results/, then unmount and move %s/ppfs.db away",
        what, s->state_dir);
}

/* Once, not with each retry. */
static void complain(struct sched *s, int rc) {
    if (store_damaged(s->store) && !s->damaged)
        found_damaged(s, store_error(s->store));
    if (!s->unkept++)
        sched_log(s,
                  rc == -EIO || rc == -EBUSY || rc == -EEXIST
                      ? "the last changes could not be written to the database: %s (%s); it is tried again every second"
                      : "the last changes could not be written to the database: %s",
                  strerror(-rc), store_error(s->store));
}

static void kept(struct sched *s) {
    if (s->unkept > 1)
        sched_log(s, "changes are written again; %" PRIu64 " commits had failed", s->unkept);
    s->unkept = 0;
}

int sched_commit(struct sched *s) {
    bool changed = store_changed(s->store), had = store_has_ballast(s->store);
    int rc = store_commit(s->store);
    s->made_room = rc < 0 && had && !store_has_ballast(s->store);
    if (rc < 0) {
        complain(s, rc);
        take_back(s);
        sched_answer_laters(s, rc);
        return rc;
    }
    jobs_committed(s, changed);
    if (changed) {
        kept(s);
        tidy_later(s);
    }
    for (size_t i = 0; i < s->unlink_count; i++) /* also without a change: the output of a run that was overtaken */
        spool_unlink(s->spool, s->unlinks[i]);
    s->unlink_count = 0;
    stream_kept_turned(s, true);
    host_counted(s, true);
    bool news = watch_committed(s, true);
    host_committed(s);
    run_committed(s);
    lease_send(s);
    sched_answer_laters(s, 0);
    tell(s, changed);
    if (news && s->c.happened)
        s->c.happened(s->c.arg);
    return 0;
}

bool sched_made_room(const struct sched *s) {
    return s->made_room;
}

void sched_answered(struct sched *s) {
    checkpoint_turn(s);
}

/* --- recovery ---------------------------------------------------------------------------------------------------- */

static int requeue(struct sched *s, struct job_row *r, void *arg) {
    if (job_is_stream(&r->job))
        return 0;
    if (++r->job.deaths >= DEATHS_MAX) {
        sched_fail(s, r, EIO, "gave up: it was running at three deaths of ppfs or its node", 0);
        return 0;
    }
    store_ready_turn(s->store, &r->job, &r->turn);
    backlog_mark(s, r);
    sched_transition(s, r, JOB_QUEUED, 0);
    return 0;
}

static int release_closed(struct sched *s, struct job_row *r, void *arg) {
    if (!s->is_open(s->is_open_arg, r->job.id, true))
        sched_release(s, r->job.id);
    return 0;
}

static int drop_closed(struct sched *s, struct job_row *r, void *arg) {
    if (!s->is_open(s->is_open_arg, r->job.id, false))
        sched_drop(s, r->job.id);
    return 0;
}

static int recover(struct sched *s, enum store_set set, int (*each)(struct sched *s, struct job_row *r, void *arg)) {
    sched_each(s, set, 0, each, NULL);
    return store_failed(s->store);
}

int sched_recover(struct sched *s, bool (*open)(void *arg, uint64_t job, bool for_writing), void *arg) {
    s->is_open = open;
    s->is_open_arg = arg;
    int rc = recover(s, SET_RUNNING, requeue);
    if (rc == 0)
        rc = stream_recover(s, true);
    if (rc == 0)
        rc = recover(s, SET_FLUSHED, release_closed);
    if (rc == 0)
        rc = recover(s, SET_ORPHANS, drop_closed);
    if (rc == 0) /* the clock may have been set back since these pauses began */
        rc = store_due_by(s->store, sched_steady(s) + RETRY_PAUSE_MAX * INT64_C(1000000));
    sched_set_due(s);
    sched_tick(s);
    return rc < 0 || !store_faults(s->store) ? rc : store_failed(s->store);
}

/* --- a check of a large database, while it is in use ------------------------------------------------------------- */

struct check {
    struct disk_task task;
    struct sched *s;
    char found[256];
};

static void check_work(struct disk_task *t) {
    struct check *c = (struct check *)t;
    store_check(c->s->state_dir, c->found, sizeof c->found);
}

static void check_done(struct disk_task *t) {
    struct check *c = (struct check *)t;
    if (*c->found)
        found_damaged(c->s, c->found);
    store_checked(c->s->store);
    free(c);
}

static void check_later(struct sched *s) {
    struct check *c = store_unchecked(s->store) ? calloc(1, sizeof *c) : NULL;
    if (!c)
        return;
    c->task = (struct disk_task){.work = check_work, .done = check_done};
    c->s = s;
    disk_submit(s->checker, &c->task);
}

/* --- made and ended ---------------------------------------------------------------------------------------------- */

static int make_parts(struct sched *s, char *why, size_t why_size) {
    int rc = store_open(&s->store, s->state_dir, why, why_size);
    if (rc < 0)
        return rc;
    rc = s->c.quotas ? store_count_users(s->store) : 0;
    if (rc < 0) {
        snprintf(why, why_size, "what each user has could not be counted: %s", store_error(s->store));
        return rc;
    }
    rc = disk_create(&s->disk, s->c.base);
    if (rc == 0)
        rc = disk_create(&s->syncer, s->c.base);
    if (rc == 0 && store_unchecked(s->store))
        rc = disk_create(&s->checker, s->c.base);
    if (rc == 0)
        rc = spool_create(&s->spool, s->state_dir, s->disk, store_wal(s->store));
    s->due = evtimer_new(s->c.base, on_timer, s);
    s->tick = evtimer_new(s->c.base, on_timer, s);
    s->retry = evtimer_new(s->c.base, on_retry, s);
    s->lease_timer = evtimer_new(s->c.base, lease_timer, s);
    s->tidy = evtimer_new(s->c.base, tidy_timer, s);
    s->checkpoint = evtimer_new(s->c.base, checkpoint_timer, s);
    s->keep_timer = evtimer_new(s->c.base, keep_timer, s);
    if (rc == 0 &&
        (!s->due || !s->tick || !s->retry || !s->lease_timer || !s->tidy || !s->checkpoint || !s->keep_timer))
        rc = -ENOMEM;
    if (rc == 0)
        rc = host_create_local(s);
    if (rc == 0)
        return registry_make(s, why, why_size);
    if (rc < 0)
        snprintf(why, why_size, "the scheduler cannot start in %s: %s", s->state_dir, strerror(-rc));
    return rc;
}

static int make_rooms(struct sched *s) {
    static int (*const make[])(struct sched * s) = {users_make, hosts_make,  jobs_make,    runs_make,
                                                    calls_make, leases_make, streams_make, dispatch_make};
    int rc = 0;
    for (unsigned i = 0; rc == 0 && i < sizeof make / sizeof *make; i++)
        rc = make[i](s);
    return rc;
}

/* All that goes up between the rooms. */
static const struct sched_ops ops = {
    .job = {[OPS_JOB] = {.start = run_start, .drop = run_drop, .cancel = run_cancel},
            [OPS_CALL] = {.start = run_start, .drop = run_drop, .cancel = run_cancel, .ended = stream_job_ended},
            [OPS_STREAM] = {.start = stream_start, .drop = stream_drop, .cancel = stream_drop, .ended = stream_ended}},
    .stream = {.has_room = streams_room,
               .begin = stream_begin,
               .opened = stream_opened,
               .write = stream_write,
               .flushed = stream_let_go,
               .closed = stream_closed,
               .set_priority = stream_set_priority},
    .work = {[OPS_RUN] = {run_output, run_done}, [OPS_LEASE] = {lease_output, lease_done}},
    .answer = lease_answer,
    .recalled = lease_recalled,
    .printed = stream_printed};

/* One piece of memory; s comes first. */
struct rooms {
    struct sched s;
    struct watch watch;
};

int sched_create(struct sched **out, const struct sched_config *c, char *why, size_t why_size) {
    struct rooms *rooms = calloc(1, sizeof *rooms);
    struct sched *s = &rooms->s;
    int rc = -ENOMEM;
    snprintf(why, why_size, "out of memory");
    if (!rooms)
        return rc;
    s->c = *c;
    s->watch = &rooms->watch;
    s->ops = &ops;
    s->owner = geteuid();
    s->slice_us = SLICE_US;
    s->steady_us = clock_wall_us() - clock_us();
    s->state_dir = strdup(c->state_dir);
    s->mountpoint = strdup(c->mountpoint);
    if (s->state_dir && s->mountpoint)
        rc = make_rooms(s);
    if (rc == 0)
        rc = events_create(s->watch);
    if (rc == 0)
        rc = make_parts(s, why, why_size);
    if (rc < 0) {
        sched_destroy(s);
        return rc;
    }
    if (c->again)
        host_rolled_back(s);
    store_meta_set(s->store, "cpus", host_local(s)->cpus);
    store_meta_set(s->store, "node_state", host_local(s)->state);
    s->first_id = store_next_id(s->store);
    if (store_failed(s->store) && !store_faults(s->store))
        store_rollback(s->store); /* a full disk is no reason not to begin */
    drafts_begin(s);
    limits_begin(s);
    arrays_begin(s);
    keep_begin(s);
    users_look(s);
    s->placing_user = s->due_user = -1; /* the first is the one with the lowest uid, root too */
    /* until a look says otherwise */
    s->settling = s->opening = s->placing = s->giving_up = s->controlling = s->sweeping = s->deps = s->trash =
        s->leaving = true;
    check_later(s);
    tidy_later(s);
    *out = s;
    return 0;
}

/* What runs goes back to the queue; this is kept before a slow disk is waited for, or who stops waiting for us would
 * leave it running, and a death would be charged. all: also ended runs whose output is on the way to the disk. */
static void stop_running(struct sched *s, bool all) {
    if (!s->store)
        return;
    run_stop_all(s, all);
    store_commit(s->store);
}

void sched_destroy(struct sched *s) {
    if (!s)
        return;
    s->stopping = true;
    store_check_stop();
    host_destroy_all(s); /* first: nothing is to end by itself from here on */
    stop_running(s, false);
    disk_destroy(s->disk);
    disk_destroy(s->syncer);
    disk_destroy(s->checker);
    stop_running(s, true);
    streams_free(s);
    leases_free(s);
    calls_free(s);
    users_free(s);
    runs_free(s);
    keys_free(s);
    hosts_free(s);
    jobs_free(s);
    spool_destroy(s->spool);
    store_close(s->store);
    struct event *const timers[] = {s->due, s->tick, s->retry, s->lease_timer, s->tidy, s->checkpoint, s->keep_timer};
    for (unsigned i = 0; i < sizeof timers / sizeof *timers; i++)
        event_drop(timers[i]);
    dispatch_free(s);
    events_destroy(s->watch);
    for (struct later *l; (l = SLIST_FIRST(&s->laters));) {
        SLIST_REMOVE_HEAD(&s->laters, next);
        free(l);
    }
    free(s->changed.items);
    free(s->unlinks);
    free(s->state_dir);
    free(s->mountpoint);
    free(s);
}
