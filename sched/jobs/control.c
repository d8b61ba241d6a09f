/* Control of jobs: cancel, forget, rename, priority, hold, owner. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "net/clock.h"
#include "sched/jobs/job_files.h"
#include "sched/jobs/state.h"

/* Nobody goes on with what a cancelled stream has not done, and it may be large. */
static int free_input(struct sched *s, uint64_t job) {
    struct body b;
    int rc = store_body_get(s->store, job, BODY_SPEC, &b);
    if (rc < 0)
        return rc == -ENOENT ? 0 : sched_check(s, rc);
    if (b.file)
        sched_note_unlink(s, (struct spool_name){job, BODY_SPEC, b.file});
    if (b.file == BODY_LOG) {
        s->trash = true;
        rc = store_log_drop(s->store, job, BODY_SPEC);
        if (rc == 0)
            rc = store_log_drop(s->store, job, BODY_WAITING);
        if (rc == 0)
            rc = store_bodies_delete(s->store, job, BODY_WAITING);
    }
    return rc < 0 ? rc : store_body_put(s->store, job, BODY_SPEC, "", 0);
}

static int cancel(struct sched *s, struct job_row *r, const char *why) {
    job_cancel(s, r);
    r->job.error = ECANCELED;
    snprintf(r->job.why, sizeof r->job.why, "%s", why);
    int rc = sched_transition(s, r, JOB_CANCELLED, 0);
    return rc == 0 && job_is_stream(&r->job) ? free_input(s, r->job.id) : rc;
}

int cancel_job(struct sched *s, uint64_t job, const char *why) {
    struct job_row r;
    int rc = store_job_get(s->store, job, &r);
    return rc < 0 ? rc : cancel(s, &r, why);
}

/* What the .options of a group said is in force no more. */
static int forget_options(struct sched *s, uint64_t group) {
    limits_changed(s);
    int rc = limits_said(s) ? store_fails_forget(s->store, group) : 0;
    return rc < 0 ? rc : array_reset_options(s, group);
}

int sched_cancel(struct sched *s, uint64_t job, uid_t by) {
    struct job_row r;
    char why[JOB_WHY_MAX];
    int rc = store_job_get(s->store, job, &r);
    if (rc < 0)
        return rc;
    if (job_ended(r.job.state))
        return -ENOENT;
    snprintf(why, sizeof why, by == r.job.uid ? JOB_REMOVED : JOB_REMOVED " by user %u", (unsigned)by);
    if (!r.job.draft)
        return cancel(s, &r, why);
    if (strcmp(r.job.name, ".options") == 0 && (rc = forget_options(s, r.job.group)) < 0)
        return rc;
    return sched_remove(s, &r);
}

int sched_set_priority(struct sched *s, uint64_t job, int priority) {
    struct job_row r;
    int rc = store_job_get(s->store, job, &r);
    if (priority < -PRIORITY_MAX || priority > PRIORITY_MAX)
        return -EINVAL;
    if (rc < 0 || job_ended(r.job.state))
        return rc < 0 ? rc : -ENOENT;
    if (r.job.draft || (r.job.state == JOB_RUNNING && !job_is_stream(&r.job)))
        return -EBUSY;
    r.job.priority = priority;
    if (job_is_stream(&r.job))
        s->ops->stream.set_priority(s, job, priority);
    if (r.job.state == JOB_QUEUED)
        rc = store_ready_turn(s->store, &r.job, &r.turn);
    sched_note(s, job);
    return rc < 0 ? rc : store_job_save(s->store, &r, SAVE_QUEUE);
}

int sched_set_hold(struct sched *s, uint64_t job, bool hold) {
    struct job_row r;
    int rc = store_job_get(s->store, job, &r);
    if (rc < 0 || job_ended(r.job.state))
        return rc < 0 ? rc : -ENOENT;
    if (hold == (r.job.state == JOB_HELD))
        return 0;
    if (hold)
        return r.job.state == JOB_RUNNING || r.job.draft ? -EBUSY : sched_transition(s, &r, JOB_HELD, 0);
    return submit_ready(s, &r, 0);
}

/* Who it belongs to is who it runs as: that changes while it is a draft, and has no options, place or process yet. */
static int may_give(const struct job *j, bool user, bool group) {
    return (user && !j->draft) || (group && j->state == JOB_RUNNING) ? -ETXTBSY : 0;
}

int sched_set_owner(struct sched *s, uint64_t job, const uid_t *uid, const gid_t *gid, const mode_t *mode) {
    struct job_row r;
    int rc = store_job_get(s->store, job, &r);
    if (rc < 0)
        return rc;
    bool moves = uid && *uid != r.job.uid;
    rc = may_give(&r.job, moves, gid && *gid != r.job.gid);
    if (rc == 0 && moves && r.job.uid != 0) /* he has chosen what a program finds in his directory */
        rc = store_job_set_directory(s->store, job, "");
    if (rc < 0)
        return rc;
    if (uid)
        r.job.uid = *uid;
    if (gid)
        r.job.gid = *gid;
    if (mode)
        r.job.mode = *mode & 07777;
    sched_note(s, job);
    return store_job_save(s->store, &r, moves ? SAVE_NAME : 0);
}

/* --- rename ------------------------------------------------------------------------------------------------------ */

/* Whether a name may be given up on one side. 0: *old has it, -ENOENT: nobody has. */
static int may_clear(struct sched *s, uint64_t group, const char *name, bool draft, bool no_replace,
                     const struct job *by, struct job_row *old) {
    int rc = store_job_find(s->store, group, name, draft, old);
    if (rc < 0 || old->job.id == by->id)
        return rc < 0 ? rc : -ENOENT;
    if (no_replace)
        return -EEXIST;
    if (by->uid != 0 && by->uid != old->job.uid)
        return -EACCES;
    return !draft && old->job.state == JOB_RUNNING ? -ETXTBSY : 0;
}

/* An ended job stays until a draft of its name is submitted. */
static int clear(struct sched *s, struct job_row *old, const struct job *by) {
    if (by->draft && job_ended(old->job.state))
        return 0;
    sched_note_successor(s, &old->job, by->id);
    if (job_ended(old->job.state))
        return sched_forget(s, old->job.id, s->is_open && s->is_open(s->is_open_arg, old->job.id, false));
    return sched_remove(s, old);
}

/* The name that is given up, on both sides where they are to be replaced: on both or on none. */
static int clear_name(struct sched *s, uint64_t group, const char *name, bool no_replace, const struct job *by) {
    struct job_row old[2];
    int rc[2];
    for (int draft = 0; draft < 2; draft++) {
        rc[draft] = may_clear(s, group, name, draft, no_replace, by, &old[draft]);
        if (rc[draft] < 0 && rc[draft] != -ENOENT)
            return rc[draft];
    }
    for (int draft = 0; draft < 2; draft++) {
        int done = rc[draft] == 0 ? clear(s, &old[draft], by) : 0;
        if (sched_check(s, done) < 0)
            return done;
    }
    return 0;
}

/* What an atomic writer renames may have run and ended under its first name: then its result gets the second one. The
 * kernel asks for that only while it holds the first name for valid. */
static int find_source(struct sched *s, uint64_t group, const char *name, bool ended_too, struct job_row *r) {
    int rc = store_job_find(s->store, group, name, true, r);
    if (rc == -ENOENT) {
        rc = store_job_find(s->store, group, name, false, r);
        if (rc == 0 && job_ended(r->job.state) && (!ended_too || r->job.state == JOB_CANCELLED))
            rc = -ENOENT;
    }
    return rc;
}

/* Whether a draft may be queued in that group. Where not, why of it says so under the name that it keeps. */
static int may_go_into(struct sched *s, struct job_row *r, uint64_t group) {
    char why[JOB_WHY_MAX];
    int rc = group_options_check(s, group, r->job.uid, why, sizeof why);
    if (rc != -EPERM || r->job.cut || !r->job.draft)
        return rc;
    snprintf(r->job.why, sizeof r->job.why, "stays a draft where it is: %.480s", why);
    sched_note(s, r->job.id);
    return store_job_save(s->store, r, 0) < 0 ? -EIO : -EPERM;
}

/* A draft that gets a name (and a group) that runs is submitted; if it is still open, its release will do that. */
static int renamed_draft(struct sched *s, struct job_row *r, const struct group *to) {
    r->copy = false; /* it stands for itself under its new name */
    if (!name_is_random(r->job.name))
        r->job.temporary = false;
    bool stays = draft_stays(s, &r->job) || to->dotted;
    if (stays && reading_stop(s, r->job.id))
        r->sealed = true; /* it was closed, and waits for another name */
    int rc = store_job_save(s->store, r, SAVE_NAME | SAVE_QUEUE);
    if (rc == 0 && job_is_options(&r->job))
        return sched_check(s, options_file_take(s, &r->job));
    if (rc < 0 || stays || !r->sealed)
        return rc;
    ids_add(&s->jobs->released, r->job.id);
    return sched_check(s, submit_job(s, r));
}

/* A job that is pulled back under a name of drafts is a draft again. */
static int withdraw(struct sched *s, struct job_row *r) {
    if (r->job.state == JOB_RUNNING)
        return -ETXTBSY;
    r->job.draft = true;
    r->resolved = r->keeps = false; /* whom it waits for is read anew, and so are its options */
    int rc = store_deps_delete(s->store, r->job.id);
    if (rc == 0)
        rc = store_body_unsum(s->store, r->job.id, BODY_SPEC);
    if (rc == 0)
        rc = store_job_set_options(s->store, r->job.id, "");
    if (rc == 0)
        rc = sched_transition(s, r, JOB_DRAFT, SAVE_NAME);
    r->sealed = true;
    return rc < 0 ? rc : store_job_save(s->store, r, SAVE_QUEUE);
}

static int rename_job(struct sched *s, uint64_t group, const char *name, uint64_t to_group, const char *to_name,
                      bool no_replace, bool again, uint64_t *job) {
    struct job_row r;
    struct group to;
    size_t n = strlen(to_name);
    if (n == 0 || n > JOB_NAME_MAX)
        return n ? -ENAMETOOLONG : -EINVAL;
    int rc = find_source(s, group, name, group == to_group && !sched_name_is_draft(s, to_group, to_name), &r);
    if (rc == -ENOENT && again)
        return 0;
    if (rc == 0)
        rc = store_group_get(s->store, to_group, &to);
    if (rc < 0)
        return rc;
    *job = r.job.id;
    if (group == to_group && strcmp(name, to_name) == 0)
        return 0;
    if (r.job.draft && s->damaged)
        return -EIO;
    if (store_group_find(s->store, to_group, to_name, &(struct group){0}) == 0)
        return -EISDIR;
    bool runs = !sched_name_is_draft(s, to_group, to_name) && !to.dotted;
    if (!array_may_take(&to, NULL, to_name) || (!runs && r.array && r.array != r.job.id))
        return -EPERM; /* an element cannot be a draft: it has no file of its own */
    if (r.job.state == JOB_RUNNING && !runs)
        return -ETXTBSY;
    if (r.job.draft && runs && (rc = may_go_into(s, &r, to_group)) < 0)
        return rc;
    /* flushed alone: also where it is open elsewhere, and counts as a job by now */
    bool closed = r.sealed || r.job.flushed;
    if (r.job.draft && runs && closed && (rc = quota_job(s, r.job.uid, r.sealed ? 1 : 0)) < 0)
        return rc;
    if (strcmp(to_name, ".options") == 0 && (rc = options_file_check(s, &r.job, to_group)) < 0)
        return rc;
    rc = clear_name(s, to_group, to_name, no_replace, &r.job);
    if (rc < 0)
        return rc;
    if (job_is_options(&r.job) && (rc = forget_options(s, group)) < 0)
        return rc;
    if (group != to_group)
        limits_changed(s);
    struct tally leaves = {0}, comes = {0};
    if (!r.job.draft && group != to_group) {
        leaves.active--;
        comes.active++;
        if (r.job.state == JOB_RUNNING) {
            leaves.running--;
            comes.running++;
        }
        rc = store_tally_add(s->store, group, &leaves);
        if (rc == 0)
            rc = store_tally_add(s->store, to_group, &comes);
        if (rc < 0)
            return rc;
    }
    strcpy(r.job.name, to_name);
    r.job.group = to_group;
    if (r.job.draft && !r.job.cut)
        r.job.why[0] = 0;
    sched_note(s, r.job.id);
    if (r.job.draft)
        return renamed_draft(s, &r, &to);
    if (!runs)
        return withdraw(s, &r);
    return store_job_save(s->store, &r, SAVE_NAME);
}

int sched_rename(struct sched *s, uint64_t group, const char *name, uint64_t to_group, const char *to_name,
                 bool no_replace, bool again, sched_done *done, void *arg) {
    uint64_t job = 0;
    int rc = rename_job(s, group, name, to_group, to_name, no_replace, again, &job);
    return rc < 0 || !job ? rc : sched_renamed(s, job, done, arg);
}

/* --- once more --------------------------------------------------------------------------------------------------- */

static int move_failure(struct sched *s, const struct job_row *r, uint64_t to_group) {
    struct tally leaves = {.failed = (uint64_t)-1}, comes = {.failed = 1};
    if (r->job.group == to_group)
        return 0;
    int rc = store_tally_add(s->store, r->job.group, &leaves);
    return rc < 0 ? rc : store_tally_add(s->store, to_group, &comes);
}

/* What only says how it ended. That it ran, and how often, stays. */
static void forget_end(struct job *j) {
    j->error = j->exit_status = j->exit_signal = 0;
    j->failures = j->deaths = 0;
    j->user_us = j->system_us = j->maxrss_kib = 0;
    j->started = j->ended = 0;
    j->why[0] = j->node[0] = 0;
    j->queued = clock_wall_us();
}

/* Before its first attempt nothing of it is settled: its file or its after= may not have been understood. */
static int submit_again(struct sched *s, struct job_row *r, const struct group *to) {
    r->job.draft = true;
    r->resolved = r->keeps = false;
    int rc = store_body_unsum(s->store, r->job.id, BODY_SPEC);
    if (rc == 0)
        rc = store_job_set_options(s->store, r->job.id, "");
    if (rc == 0)
        rc = sched_transition(s, r, JOB_DRAFT, SAVE_NAME);
    r->sealed = true;
    return rc < 0 ? rc : renamed_draft(s, r, to);
}

int sched_run_again(struct sched *s, uint64_t job, uint64_t to_group, const char *to_name, bool no_replace,
                    sched_done *done, void *arg) {
    struct job_row r;
    struct group to;
    int rc = sched_may_begin(s);
    if (rc == 0)
        rc = store_job_get(s->store, job, &r);
    if (rc == 0)
        rc = store_group_get(s->store, to_group, &to);
    if (rc < 0)
        return rc;
    if (r.job.state != JOB_FAILED || r.job.shelf != SHELF_FAILURES)
        return -ENOENT;
    if (job_is_stream(&r.job))
        return -EPERM;
    if (*to_name == 0 || sched_name_is_draft(s, to_group, to_name) || to.dotted) /* it would not run */
        return -EINVAL;
    if (store_group_find(s->store, to_group, to_name, &(struct group){0}) == 0)
        return -EISDIR;
    if (!array_may_take(&to, &r, to_name))
        return -EPERM;
    bool unread = r.job.attempt == 0 && (!r.array || r.array == r.job.id);
    rc = unread ? may_go_into(s, &r, to_group) : 0; /* its options are read anew */
    if (rc == 0)
        rc = quota_job(s, r.job.uid, 1);
    if (rc == 0)
        rc = clear_name(s, to_group, to_name, no_replace, &r.job);
    if (rc == 0)
        rc = give_up_fewer(s, &r.job);
    if (rc == 0)
        rc = move_failure(s, &r, to_group);
    if (rc < 0)
        return rc;
    forget_end(&r.job);
    strcpy(r.job.name, to_name);
    r.job.group = to_group;
    if (unread) {
        rc = submit_again(s, &r, &to);
    } else {
        r.resolved = true; /* those that it waited for have succeeded, and may be forgotten by now */
        rc = sched_transition(s, &r, JOB_HELD, SAVE_NAME);
        if (rc == 0)
            rc = sched_check(s, submit_ready(s, &r, SAVE_NAME));
    }
    return rc < 0 ? rc : sched_renamed(s, job, done, arg);
}
