/* The ended jobs whose time has come (keep.c) are forgotten, a few in each turn, the earliest first. */
#include <errno.h>

#include "net/clock.h"
#include "sched/db/store_keep.h"
#include "sched/jobs/job_files.h"

#define ROWS 8            /* that are forgotten between two looks at the clock */
#define OLD_ROWS 64       /* that are examined for --keep */
#define LATER_US 60000000 /* what is being read is tried again then */

/* Somebody has it open, or a job that waits is still to hear of its end, or of that of all its array. */
static bool is_needed(struct sched *s, const struct job_row *r) {
    return (s->is_open && s->is_open(s->is_open_arg, r->job.id, false)) || store_dep_any(s->store, r->job.id) ||
           (r->array && store_dep_any(s->store, r->array));
}

/* A group that is empty now goes too, and those above it, where --keep is over for them and they are this user's:
 * nothing in it, not even .options, says that it is to be used again, and it tells of no failure. */
static int forget_empty(struct sched *s, uint64_t group, uid_t uid) {
    struct group g;
    struct tally t;
    int rc = 0;
    for (; group && rc == 0 && !store_group_has_jobs(s->store, group); group = g.parent) {
        rc = store_group_get(s->store, group, &g);
        if (rc == 0)
            rc = sched_tally(s, group, &t);
        if (rc < 0 || g.uid != uid || g.created + s->c.keep_us > clock_wall_us() || t.active || t.failed || t.cancelled)
            break;
        rc = sched_rmgroup(s, group, SHELF_GONE);
    }
    return rc == -ENOENT ? 0 : rc;
}

/* 1: it is needed now, 0: it is gone, or was; or -errno */
static int forget_one(struct sched *s, uint64_t job, bool with_group) {
    struct job_row r;
    int rc = store_job_get(s->store, job, &r);
    bool ended = rc == 0 && job_ended(r.job.state) && r.job.shelf < SHELF_ORPHAN;
    if (rc < 0 && rc != -ENOENT)
        return rc;
    if (ended && is_needed(s, &r))
        return 1;
    rc = ended ? sched_forget(s, job, false) : 0;
    return rc == 0 && ended && with_group ? forget_empty(s, r.job.group, r.job.uid) : rc;
}

/* What is due of one kind. 0: nothing more; *due is when the next is, where that is earlier. 1 or -errno */
static int forget_due(struct sched *s, enum keep by, int64_t *due) {
    int64_t extra = by == KEEP_BY_MOUNT ? s->c.keep_us : 0, now = clock_wall_us(), at;
    uint64_t job;
    if (by == KEEP_BY_MOUNT && !s->c.keep_us)
        return 0;
    for (int i = 0; i < ROWS; i++) {
        int rc = store_keep_first(s->store, by, &job, &at);
        if (rc < 0)
            return rc == -ENOENT ? 0 : rc;
        if (at + extra > now) {
            if (!*due || at + extra < *due)
                *due = at + extra;
            return 0;
        }
        rc = forget_one(s, job, by == KEEP_BY_MOUNT);
        if (rc >= 0)
            rc = rc ? store_keep(s->store, job, by, now + LATER_US - extra) : store_keep_done(s->store, job);
        if (rc < 0)
            return rc;
    }
    return 1;
}

/* Of each user, what is more than --keep-results. What is needed counts as having ended just now, and the next user
 * has his turn. Same returns. */
static int forget_over(struct sched *s, int64_t *due) {
    int64_t now = clock_wall_us();
    uint64_t job;
    for (int i = 0; i < ROWS; i++) {
        int64_t uid = s->kept_user - 1;
        int rc = store_kept_over(s->store, s->c.keep_results, &uid, &job);
        if (rc == -ENOENT && (!s->kept_user || s->kept_needed)) {
            if (s->kept_needed && (!*due || now + LATER_US < *due))
                *due = now + LATER_US;
            s->kept_user = 0;
            return s->kept_needed = false;
        }
        if (rc == -ENOENT) {
            s->kept_user = 0;
            continue;
        }
        rc = rc < 0 ? rc : forget_one(s, job, false);
        if (rc > 0) {
            s->kept_needed = true;
            s->kept_user = uid + 1;
        }
        if (rc >= 0)
            rc = rc ? store_kept_later(s->store, job, now) : store_kept_gone(s->store, job);
        if (rc < 0)
            return rc;
    }
    return 1;
}

/* Its rows are made anew where it was not in force in the last daemon: the old ones go, and all jobs are looked at. */
static int kept_slice(struct sched *s, int64_t *due) {
    int rc = 0;
    if (s->kept == KEPT_STALE)
        rc = store_kept_clear(s->store, OLD_ROWS);
    else if (s->kept == KEPT_FILLS)
        rc = store_kept_old(s->store, &s->kept_at, OLD_ROWS);
    else
        return s->c.keep_results ? forget_over(s, due) : 0;
    if (rc == 0) {
        s->kept = s->kept == KEPT_STALE ? KEPT_FILLS : KEPT_ALL;
        rc = s->kept == KEPT_ALL ? store_meta_set(s->store, "kept", 1) : 0;
    }
    return rc < 0 ? rc : 1;
}

void keep_slice(struct sched *s) {
    int64_t due = 0;
    int rc = s->keep_old ? store_keep_old(s->store, &s->keep_at, OLD_ROWS) : 0;
    if (rc == 0 && s->keep_old) {
        s->keep_old = false;
        rc = store_meta_set(s->store, "keep", 1);
    }
    bool more = rc > 0;
    if (rc >= 0) {
        rc = kept_slice(s, &due);
        more |= rc > 0;
    }
    for (enum keep by = KEEP_BY_MOUNT; by <= KEEP_BY_JOB && rc >= 0; by++) {
        rc = forget_due(s, by, &due);
        more |= rc > 0;
    }
    s->keeping = more && sched_check(s, rc) >= 0;
    if (!s->keeping && (rc < 0 || due))
        keep_set_timer(s, rc < 0 ? clock_wall_us() + LATER_US : due);
}
