/* Flush, sync and close of a draft, and what becomes of it. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "sched/jobs/job_files.h"
#include "sched/jobs/state.h"

/* Whether its user's quota allows one more job; otherwise it stays a draft, with a reason. */
static int may_close(struct sched *s, struct job *j) {
    struct group g;
    if (!s->c.quotas || job_is_options(j) || draft_stays(s, j))
        return 0;
    int rc = store_group_get(s->store, j->group, &g);
    if (rc < 0 || g.dotted)
        return rc;
    rc = quota_job(s, j->uid, 1);
    if (rc < 0) {
        j->flushed = false;
        j->cut = true;
        strcpy(j->why, "stays a draft: its user has as many jobs that have not ended as the quota allows; write it "
                       "again later, or remove it");
    }
    return rc;
}

/* A process has closed it, or ends. A process killed by a signal has not finished the draft, and a later close without
 * a further byte does not finish it either: a shell closes so after its cat was killed. */
static int close_draft(struct sched *s, struct job_row *r, pid_t pid, int64_t size) {
    struct job *j = &r->job;
    int signal = writer_killed_by(pid), rc = 0, refused = 0;
    if (signal) {
        j->cut = true;
        j->flushed = false;
        snprintf(j->why, sizeof j->why,
                 "stays a draft: its writer was killed by SIG%s after %lld bytes; write it again or remove it",
                 writer_signal_name(signal), (long long)size);
    } else if (!j->cut) {
        rc = size && job_is_options(j) ? options_file_take(s, j) : 0;
        j->flushed = rc == 0;
        j->cut = rc < 0;
        if (rc == 0)
            refused = group_options_close(s, j);
        if (rc == 0 && refused == 0)
            refused = may_close(s, j);
    }
    int saved = store_job_save(s->store, r, SAVE_QUEUE);
    if (rc < 0 || saved < 0)
        return rc < 0 ? rc : saved;
    return refused;
}

int sched_flush(struct sched *s, uint64_t job, pid_t pid, bool opener, bool sync, sched_done *done, void *arg) {
    struct job_row r;
    struct body b = {0};
    int rc = store_job_get(s->store, job, &r);
    if (rc == 0 && s->damaged)
        rc = -EIO;
    if (rc < 0)
        return rc;
    rc = draft_spec(s, job, &b);
    if (rc < 0 && rc != -ENOENT)
        return rc;
    rc = 0;
    if (r.job.draft && (!r.job.flushed || writer_killed_open(&r.job, pid, opener)) && !r.sealed && !r.copy &&
        (b.size > 0 || job_is_options(&r.job)))
        rc = close_draft(s, &r, pid, b.size);
    else if (!r.job.draft && job_is_stream(&r.job) && b.size > 0)
        rc = s->ops->stream.flushed(s, &r, pid, b.size);
    if (rc < 0)
        return rc;
    if (sync || (s->c.sync_full && b.size > 0))
        return sched_synced(s, job, &b, done, arg);
    return 0;
}

static int release(struct sched *s, uint64_t job) {
    struct job_row r;
    struct body b = {0};
    struct group g = {0};
    int rc = store_job_get(s->store, job, &r);
    if (rc == 0 && !r.job.draft && job_is_stream(&r.job))
        return s->ops->stream.closed(s, &r);
    if (rc < 0 || !r.job.draft || s->damaged || ids_has(&s->jobs->submitting, job))
        return rc;
    if (r.copy) /* the opened job stays as it is, and in its place in the queue */
        return sched_remove(s, &r);
    if (job_is_options(&r.job) && (rc = options_file_settle(s, &r)) < 0)
        return rc;
    rc = draft_spec(s, job, &b);
    if (rc < 0 || b.size == 0 || r.job.cut)
        return rc;
    rc = store_group_get(s->store, r.job.group, &g);
    if (rc < 0)
        return rc;
    if (!draft_stays(s, &r.job) && !g.dotted)
        return submit_job(s, &r);
    r.sealed = true;
    return store_job_save(s->store, &r, SAVE_QUEUE);
}

void sched_release(struct sched *s, uint64_t job) {
    ids_add(&s->jobs->released, job); /* repeated if this turn is not committed */
    int rc = release(s, job);
    if (rc < 0 && rc != -ENOENT && !store_failed(s->store)) {
        ids_add(&s->jobs->again, job);
        sched_retry(s);
    }
}

void sched_give_up(struct sched *s, uint64_t job, int error) {
    struct job_row r;
    int rc = store_job_get(s->store, job, &r);
    if (rc == 0 && r.job.draft) {
        bool said = r.job.cut && *r.job.why;
        r.job.cut = true;
        r.job.flushed = false;
        if (!said)
            snprintf(r.job.why, sizeof r.job.why,
                     "stays a draft: a write to it, or its close, was refused (%s); write it again or remove it",
                     strerror(error));
        sched_note(s, job);
        rc = store_job_save(s->store, &r, SAVE_QUEUE);
    }
    if (rc == 0 && job_is_options(&r.job) && (!s->is_open || !s->is_open(s->is_open_arg, job, true)))
        rc = options_file_settle(s, &r);
    if (rc != -ENOENT)
        sched_check(s, rc);
}
