/* What is due in a turn: dispatch, and long work in slices, so that no request waits behind a group of 100,000 jobs.
 * Each slice leaves the database in a state from which the next one goes on, in this daemon or in the next. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sched/stream_int.h"

#define SLICE 256 /* rows that one turn works off */

/* --- dispatch ---------------------------------------------------------------------------------------------------- */

/* A client that waits for a result while it is itself a job holds a slot and does nothing: its slot is lent out. Only
 * asked when somebody waits for a slot, once for each such client. */
static void lend_slots(struct sched *s) {
    for (struct parked *p = s->parked; p; p = p->next) {
        if (p->looked)
            continue;
        p->looked = true;
        p->job = pool_job_of(s->pool, p->pid);
        struct run *r = p->job ? run_find(s, p->job) : NULL;
        if (r && r->state == RUN_RUNNING)
            run_lend(s, r, true);
        else if (!lease_lend(s, p->job, true))
            p->job = 0;
    }
}

/* Cannot run with the slots and nodes there are: aside, so that it holds up nobody, until that changes. */
static int put_aside(struct sched *s, struct job_row *r) {
    r->job.not_before = NOT_PLACED;
    return sched_move(s, r, JOB_WAITING, 0);
}

/* The next job, or -ENOENT: there is none, or it is a stream's turn. Among equals they take turns. */
static int next_job(struct sched *s, struct job_row *r) {
    int priority;
    bool stream = run_free(s) > 0 && lease_wanted(s, &priority);
    int rc = s->backlog ? store_ready_head(s->store, r) : -ENOENT;
    s->backlog = rc == 0;
    if (stream && (rc < 0 || priority > r->job.priority || (priority == r->job.priority && s->stream_turn))) {
        s->stream_turn = false;
        return lease_grant(s) == 0 ? -EAGAIN : -ENOENT;
    }
    s->stream_turn = true;
    return rc;
}

static void dispatch(struct sched *s) {
    while ((s->backlog || s->streams) && s->node == NODE_UP && !s->stopping && !s->error) {
        struct job_row r;
        int priority;
        bool wanted = run_free(s) == 0 && (s->backlog || lease_wanted(s, &priority));
        if (wanted)
            lend_slots(s);
        if (run_free(s) == 0) {
            if (wanted)
                lease_reclaim(s);
            return;
        }
        int rc = next_job(s, &r);
        if (rc == -EAGAIN)
            continue;
        if (rc < 0)
            return;
        if (job_is_stream(&r.job)) { /* needs a place in memory, not a slot */
            if (s->stream_count >= STREAMS_ACTIVE)
                return;
            run_start(s, &r, 0);
            continue;
        }
        if (r.job.cpus > s->cpus) {
            put_aside(s, &r);
            continue;
        }
        /* The head waits until it has slots enough; smaller ones behind it must not pass for ever. A job whose last attempt is
         * still being written down comes a turn later. */
        if (r.job.cpus > run_free(s) || run_find(s, r.job.id))
            return;
        run_start(s, &r, 0);
    }
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
    uint64_t on, ids[SLICE];
    bool succeeded;
    char name[JOB_NAME_MAX + 1];
    int rc = store_settle_next(s->store, &on, &succeeded, name);
    s->settling = rc == 0;
    if (rc < 0)
        return;
    int n = store_settle_jobs(s->store, on, ids, SLICE);
    sched_check(s, n < 0 ? n : 0);
    for (int i = 0; i < n; i++)
        sched_check(s, settle_one(s, ids[i], succeeded, name));
    if (n < SLICE)
        sched_check(s, store_settle_done(s->store, on));
}

/* A group that was renamed from .G to G: its files were sealed one by one, now they are queued, the groups in it after it. */
static void open_slice(struct sched *s) {
    uint64_t group, ids[SLICE];
    int rc = store_group_next_opening(s->store, 0, &group);
    s->opening = rc == 0;
    if (rc < 0)
        return;
    int n = store_ids(s->store, SET_SEALED, (int64_t)group, s->opened, ids, SLICE);
    for (int i = 0; i < n; i++) {
        struct job_row r;
        s->opened = ids[i];
        if (store_job_get(s->store, ids[i], &r) == 0)
            submit_job(s, &r);
    }
    if (n < SLICE) {
        sched_check(s, store_group_open_below(s->store, group));
        sched_check(s, store_group_set_opening(s->store, group, false));
        s->opened = 0;
    }
}

/* Files in spool/ that no row names: what a daemon was writing when it was killed. */
static void sweep_slice(struct sched *s) {
    struct spool_name names[64];
    int n = spool_scan(s->spool, names, 64);
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
    uint64_t ids[SLICE];
    int n = store_ids(s->store, SET_UNPLACED, 0, s->placed, ids, SLICE);
    s->placing = n == SLICE;
    for (int i = 0; i < n; i++) {
        struct job_row r;
        struct options *o = NULL;
        s->placed = ids[i];
        if (store_job_get(s->store, ids[i], &r) < 0 || submit_options(s, &r, &o) < 0)
            continue;
        if (submit_placeable(s, &r, o))
            submit_enqueue(s, &r, 0);
        options_destroy(o);
    }
}

static void retries_slice(struct sched *s) {
    uint64_t ids[SLICE];
    if (!s->due_at)
        return;
    if (s->due_at > sched_now()) {
        if (!evtimer_pending(s->due, NULL)) /* libevent counts from when its callbacks began: it came a little early */
            queue_due(s);
        return;
    }
    int n = store_ids(s->store, SET_DUE, sched_now(), 0, ids, SLICE);
    for (int i = 0; i < n; i++) {
        struct job_row r;
        if (store_job_get(s->store, ids[i], &r) == 0)
            submit_enqueue(s, &r, 0);
    }
    s->due_at = 0;
    queue_due(s);
}

void queue_due(struct sched *s) {
    int64_t due = store_next_due(s->store), now = sched_now();
    s->due_at = due;
    if (!due)
        return;
    int64_t wait = due > now ? due - now : 0;
    struct timeval t = {wait / 1000000, wait % 1000000};
    evtimer_add(s->due, &t);
}

void queue_turn(struct sched *s) {
    if (s->settling)
        settle_slice(s);
    if (s->opening)
        open_slice(s);
    if (s->placing)
        place_slice(s);
    if (s->sweeping)
        sweep_slice(s);
    if (s->trash) {
        int more = store_trash_slice(s->store, SLICE);
        s->trash = more > 0;
        sched_check(s, more);
    }
    retries_slice(s);
    stream_turn(s);
    dispatch(s);
    if (s->settling || s->opening || s->placing || s->sweeping || s->trash)
        sched_tick(s);
}
