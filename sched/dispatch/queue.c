/* What is due in a turn: long work in slices, cut by time: no request waits behind a group of 100,000 jobs. Then
 * dispatch. Each slice leaves the database in a state from which the next one, or the next daemon, goes on. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "net/clock.h"
#include "sched/dispatch/dispatch.h"
#include "sched/streams/streams.h"
#include "sched/watch/counts.h"

#define ROWS 8 /* of long work that are done between two looks at the clock */

/* --- slices ------------------------------------------------------------------------------------------------------ */

/* Whether after= has a name, in whatever group: the one that the job had at its end may be no business of who waited
 * for it. */
static bool is_named(const struct options *o, const char *name) {
    for (const char *const *path = options_after(o); *path; path++) {
        const char *slash = strrchr(*path, '/');
        if (strcmp(slash ? slash + 1 : *path, name) == 0)
            return true;
    }
    return false;
}

static int settle_one(struct sched *s, uint64_t id, bool succeeded, const char *name) {
    struct job_row r;
    uint64_t on, count;
    char why[JOB_WHY_MAX];
    struct options *o = NULL;
    int rc = store_job_get(s->store, id, &r);
    if (rc < 0 || (r.job.state != JOB_WAITING && (r.job.state != JOB_HELD || succeeded)))
        return rc == -ENOENT ? 0 : rc;
    if (!succeeded) {
        rc = submit_options(s, &r, &o);
        bool named = rc == 0 && is_named(o, name);
        options_destroy(o);
        snprintf(why, sizeof why, "not started, because %s did not succeed", named ? name : "a job that it waited for");
        return rc < 0 && rc != -EINVAL ? rc : sched_fail(s, &r, EIO, why, 0);
    }
    if (store_dep_first(s->store, id, &on, &count) == 0)
        return 0;
    rc = submit_options(s, &r, &o);
    if (rc < 0)
        return rc == -EINVAL ? sched_fail(s, &r, EIO, submit_unreadable, 0) : rc;
    bool placeable = submit_placeable(s, &r, o);
    options_destroy(o);
    if (placeable)
        return submit_enqueue(s, &r, 0);
    r.job.not_before = NOT_PLACED;
    return store_job_save(s->store, &r, SAVE_QUEUE);
}

static void settle_slice(struct sched *s) {
    uint64_t on, ids[ROWS];
    bool succeeded;
    char name[JOB_NAME_MAX + 1];
    int rc = store_settle_next(s->store, &s->settling_user, &on, &succeeded, name);
    s->settling = rc == 0;
    if (rc < 0)
        return;
    int n = store_settle_jobs(s->store, on, ids, ROWS);
    sched_check(s, n < 0 ? n : 0);
    for (int i = 0; i < n; i++)
        sched_check(s, settle_one(s, ids[i], succeeded, name));
    if (n < ROWS)
        store_settle_done(s->store, on);
}

/* Some of the groups in a group that is opening open as well. Those of arrays have no drafts. Returns how many, or
 * -errno. */
static int open_below(struct user *u, uint64_t group) {
    struct store *st = u->s->store;
    uint64_t ids[ROWS];
    int n = store_groups_to_open(st, group, u->opened.below, ids, ROWS), rc = 0;
    for (int i = 0; i < n && rc == 0; i++) {
        struct group g;
        u->opened.below = ids[i];
        rc = store_group_get(st, ids[i], &g);
        g.dotted = false;
        if (rc == 0)
            rc = store_group_save(st, &g);
        if (rc == 0 && !g.array)
            rc = store_group_set_opening(st, g.id, true);
    }
    return rc < 0 ? rc : n;
}

/* A group that was renamed from .G to G: its files were sealed one by one, now they are queued, the groups in it after
 * it. One of a user's at a time, or it would be looked through from its beginning again. */
static void open_slice(struct sched *s) {
    int64_t until = clock_us() + s->slice_us;
    uint64_t group, ids[ROWS];
    int rc = store_group_next_opener(s->store, &s->opening_user, &group);
    struct user *u = rc == 0 ? user_of(s, (uid_t)s->opening_user) : NULL;
    s->opening = rc == 0;
    if (!u) {
        sched_check(s, rc == 0 ? -ENOMEM : 0);
        return;
    }
    if (!u->opened.group || u->opened.round != s->opened_round) {
        u->opened.group = group;
        u->opened.round = s->opened_round;
        u->opened.job = u->opened.below = 0;
    }
    group = u->opened.group;
    int n = store_ids(s->store, SET_SEALED, (int64_t)group, u->opened.job, ids, ROWS);
    for (int i = 0; i < n; i++) {
        struct job_row r;
        if (i > 0 && clock_us() >= until) /* one that names a thousand others takes long */
            return;
        u->opened.job = ids[i];
        int rc = store_job_get(s->store, ids[i], &r);
        if (rc == 0 && !draft_stays(s, &r.job))
            rc = submit_job(s, &r);
        if (rc == -ENOMEM)
            sched_check(s, rc); /* all of this turn is done again, a second later */
        else if (rc < 0)
            sched_log_user(s, r.job.id, "%s could not be queued: %s", r.job.name, strerror(-rc));
    }
    if (n < ROWS && !store_failed(s->store) && sched_check(s, open_below(u, group)) < ROWS) {
        store_group_set_opening(s->store, group, false);
        store_tally_touch(s->store, group);
        u->opened.group = 0; /* it may be closed and opened once more */
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
        bool young = names[i].job >= s->first_id || draft_converts(s, names[i].job) || run_find(s, names[i].job);
        if (!named && !young)
            spool_unlink(s->spool, names[i]);
    }
}

/* A job that fitted no node is judged again. 0, -ENOMEM or what the database says */
static int judge_one(struct sched *s, uint64_t id) {
    struct job_row r;
    struct options *o = NULL;
    int rc = store_job_get(s->store, id, &r);
    if (rc == 0)
        rc = submit_options(s, &r, &o);
    if (rc < 0)
        return rc == -ENOMEM ? rc : 0;
    rc = submit_placeable(s, &r, o) ? submit_enqueue(s, &r, 0) : 0;
    options_destroy(o);
    return rc;
}

/* Some of the next user's; until there were none left of all. */
static void constraint_slice(struct sched *s) {
    int64_t until = clock_us() + s->slice_us;
    uint64_t ids[ROWS];
    uid_t uid;
    int rc = store_pausing_user(s->store, s->placing_user, &uid);
    if (rc < 0) {
        s->placing = s->placing_more;
        s->placing_more = false;
        s->placing_user = -1;
        return;
    }
    s->placing_user = uid;
    struct user *u = user_of(s, uid);
    if (!u) {
        sched_check(s, -ENOMEM);
        return;
    }
    if (u->judged.round != s->placing_round)
        u->judged.job = 0;
    u->judged.round = s->placing_round;
    int n = store_ids(s->store, SET_UNPLACED, uid, u->judged.job, ids, ROWS), i = 0;
    while (i < n && (i == 0 || clock_us() < until)) {
        u->judged.job = ids[i];
        sched_check(s, judge_one(s, ids[i++]));
    }
    s->placing_more |= i < n || n == ROWS;
}

/* The other jobs of a user of whom too many have failed in a group (give_up.c). */
static void give_up_slice(struct sched *s) {
    struct giving_up g;
    uint64_t ids[ROWS];
    uid_t owner;
    int rc = store_giving_up(s->store, &s->giving_up_user, &g);
    s->giving_up = rc == 0;
    if (rc < 0)
        return;
    int n = store_ids(s->store, SET_UNENDED, (int64_t)g.group, g.at, ids, ROWS);
    rc = array_drop_rest(s, g.group, g.uid);
    for (int i = 0; i < n && rc == 0; i++) {
        g.at = ids[i];
        rc = store_owner(s->store, ids[i], &owner);
        if (rc == 0 && owner == g.uid)
            rc = cancel_job(s, ids[i], g.why);
    }
    if (rc == 0)
        rc = n < ROWS ? store_gave_up(s->store, &g) : store_gave_up_to(s->store, &g);
    if (sched_check(s, rc) < 0)
        s->giving_up = false; /* until the next failure, or the next daemon */
}

static void trash_slice(struct sched *s) {
    int more = store_trash_slice(s->store, ROWS);
    s->trash = more > 0;
    sched_check(s, more);
}

static void retries_slice(struct sched *s, int64_t until) {
    uint64_t ids[ROWS];
    uid_t uid;
    int n;
    if (!s->due_at)
        return;
    if (s->due_at > sched_steady(s)) {
        if (!evtimer_pending(s->due, NULL)) /* libevent counts from when its callbacks began: it came a little early */
            sched_set_due(s);
        return;
    }
    do { /* some of the next user's */
        int rc = store_pausing_user(s->store, s->due_user, &uid);
        n = rc == 0 ? store_ids(s->store, SET_DUE, sched_steady(s), uid, ids, ROWS) : 0;
        s->due_user = rc == 0 ? (int64_t)uid : -1;
        for (int i = 0; i < n; i++) {
            struct job_row r;
            if (store_job_get(s->store, ids[i], &r) == 0)
                submit_enqueue(s, &r, 0);
        }
        sched_set_due(s);
    } while (s->due_at && s->due_at <= sched_steady(s) && !store_failed(s->store) && clock_us() < until);
}

/* More of one kind of long work, until the time of this turn is over; a little of it in any case. */
static void work_off(struct sched *s, const bool *more, void (*slice)(struct sched *s), int64_t until) {
    do
        if (*more && !store_failed(s->store))
            slice(s);
    while (*more && !store_failed(s->store) && clock_us() < until);
}

void queue_turn(struct sched *s) {
    int64_t until = clock_us() + s->slice_us;
    work_off(s, &s->settling, settle_slice, until);
    work_off(s, &s->opening, open_slice, until);
    work_off(s, &s->arraying, array_slice, until);
    work_off(s, &s->placing, constraint_slice, until);
    work_off(s, &s->giving_up, give_up_slice, until);
    work_off(s, &s->controlling, control_slice, until);
    work_off(s, &s->keeping, keep_slice, until);
    work_off(s, &s->leaving, stream_parts_slice, until);
    work_off(s, &s->sweeping, sweep_slice, until);
    work_off(s, &s->trash, trash_slice, until);
    retries_slice(s, until);
    sched_took(s, "long work in slices");
    stream_turn(s);
    sched_took(s, "streams");
    dispatch_turn(s);
    sched_took(s, "dispatch");
    if (s->settling || s->opening || s->arraying || s->placing || s->sweeping || s->giving_up || s->controlling ||
        s->keeping || s->leaving || s->trash)
        sched_tick(s);
}
