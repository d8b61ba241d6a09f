/* Transitions of jobs, and their removal. sched_transition is the only function that writes a state. It checks the
 * table, updates the counts, sets the times and notes the change for those who wait. */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "net/clock.h"
#include "sched/jobs/job_files.h"
#include "sched/watch/watch.h"
#include "sched/jobs/state.h"

static void count(struct tally *t, const struct job *j, uint64_t n) {
    switch (j->shelf >= SHELF_ORPHAN ? JOB_DRAFT : j->state) {
    case JOB_HELD:
    case JOB_WAITING:
    case JOB_QUEUED: t->active += n; break;
    case JOB_RUNNING:
        t->active += n;
        t->running += n;
        break;
    case JOB_DONE: t->done += n; break;
    case JOB_FAILED: t->failed += n; break;
    case JOB_CANCELLED: t->cancelled += n; break;
    default: break;
    }
}

/* Jobs that wait for it are settled, some hundred in each turn (queue.c). */
static int settle(struct sched *s, const struct job *j, bool succeeded) {
    if (!s->deps || !store_dep_any(s->store, j->id))
        return 0;
    s->settling = true;
    return store_settle_add(s->store, j, succeeded);
}

static const struct job_ops *ops_of(const struct sched *s, const struct job_row *r) {
    if (r->stream)
        return &s->ops->job[OPS_CALL];
    return &s->ops->job[job_is_stream(&r->job) ? OPS_STREAM : OPS_JOB];
}

int job_start(struct sched *s, struct job_row *r, struct host *h, unsigned also_save) {
    return ops_of(s, r)->start(s, r, h, also_save);
}

void job_cancel(struct sched *s, const struct job_row *r) {
    ops_of(s, r)->cancel(s, r->job.id);
}

int sched_transition(struct sched *s, struct job_row *r, enum job_state to, unsigned also_save) {
    struct job *j = &r->job;
    struct tally delta = {0};
    bool part = r->stream || (r->array && to == JOB_DRAFT && !j->draft); /* an array that begins */
    enum job_shelf shelf = part ? SHELF_PART : job_shelf_of(to);
    enum job_state from = j->state;
    /* what is on the disk is never what it must not be, but where it was damaged */
    assert(j->damaged || states_may(&job_states, j->state, to));
    int rc = keep_left(s, r);
    if (!j->damaged)
        states_changed(&job_states, j->id, j->name, j->state, to);
    count(&delta, j, (uint64_t)-1);
    if (shelf != j->shelf)
        also_save |= SAVE_SHELF;
    j->state = to;
    j->shelf = shelf;
    if (to == JOB_RUNNING)
        j->started = clock_wall_us();
    if (job_ended(to))
        j->ended = clock_wall_us();
    if (to != JOB_WAITING)
        j->not_before = 0;
    j->flushed = false; /* has a meaning for drafts only */
    r->sealed = false;
    count(&delta, j, 1);
    watch_transition(s, j, from, part);
    if (rc == 0)
        rc = store_job_save(s->store, r, also_save | SAVE_QUEUE);
    if (rc == 0)
        rc = store_tally_add(s->store, j->group, &delta);
    if (rc == 0)
        rc = array_moved_on(s, r, job_ended(to));
    sched_note(s, j->id);
    if (rc < 0 || !job_ended(to))
        return rc;
    const struct job_ops *ops = ops_of(s, r);
    if (ops->ended && (rc = ops->ended(s, r)) != 0)
        return rc < 0 ? rc : 0;
    if (r->stream) /* it is a call job: its end concerns its stream only */
        return sched_remove(s, r);
    if (to == JOB_FAILED && (rc = give_up_failed(s, j)) < 0)
        return rc;
    rc = settle(s, j, to == JOB_DONE);
    return rc < 0 ? rc : keep_ended(s, r);
}

int sched_fail(struct sched *s, struct job_row *r, int error, const char *why, unsigned also_save) {
    r->job.error = error;
    if (why != r->job.why)
        strncpy(r->job.why, why, sizeof r->job.why - 1);
    return sched_transition(s, r, JOB_FAILED, also_save);
}

/* If this turn is not committed, it is read again. */
bool reading_stop(struct sched *s, uint64_t job) {
    struct job_row r;
    bool was = ids_has(&s->jobs->submitting, job);
    ids_remove(&s->jobs->submitting, job);
    if (was)
        ids_add(&s->jobs->released, job);
    if (was && store_job_get(s->store, job, &r) == 0) /* it counted as unfinished for readers of .wait */
        store_tally_touch(s->store, r.job.group);
    return was;
}

int sched_remove(struct sched *s, struct job_row *r) {
    struct tally delta = {0};
    count(&delta, &r->job, (uint64_t)-1);
    ops_of(s, r)->drop(s, r->job.id);
    reading_stop(s, r->job.id);
    watch_gone(s);
    int rc = give_up_fewer(s, &r->job);
    if (rc == 0)
        rc = keep_left(s, r);
    if (rc == 0 && !job_ended(r->job.state) && r->job.shelf < SHELF_ORPHAN)
        rc = settle(s, &r->job, false);
    if (rc == 0 && job_is_stream(&r->job) && !r->stream)
        rc = s->ops->job[OPS_STREAM].ended(s, r);
    if (rc == 0)
        rc = sched_drop_bodies(s, r->job.id, true);
    if (rc == 0)
        rc = store_job_delete(s->store, r->job.id);
    if (rc == 0)
        rc = array_forgets(s, r);
    if (rc == 0)
        rc = array_moved_on(s, r, true);
    if (rc == 0)
        rc = store_tally_add(s->store, r->job.group, &delta);
    sched_note(s, r->job.id);
    return rc;
}

int sched_forget(struct sched *s, uint64_t job, bool held_open) {
    struct job_row r;
    int rc = store_job_get(s->store, job, &r);
    if (rc < 0)
        return rc;
    if (!job_ended(r.job.state))
        return -EBUSY;
    if (!held_open || r.job.shelf == SHELF_ORPHAN)
        return sched_remove(s, &r);
    struct tally delta = {0};
    if (r.job.state == JOB_DONE)
        delta.done--;
    else if (r.job.state == JOB_FAILED)
        delta.failed--;
    else
        delta.cancelled--;
    rc = give_up_fewer(s, &r.job);
    if (rc == 0)
        rc = keep_left(s, &r);
    if (rc == 0)
        rc = array_forgets(s, &r);
    r.job.shelf = SHELF_ORPHAN;
    if (rc == 0)
        rc = store_job_save(s->store, &r, SAVE_NAME | SAVE_SHELF);
    sched_note(s, job);
    return rc < 0 ? rc : store_tally_add(s->store, r.job.group, &delta);
}

int sched_drop(struct sched *s, uint64_t job) {
    struct job_row r;
    int rc = store_job_get(s->store, job, &r);
    if (rc < 0 || r.job.shelf != SHELF_ORPHAN)
        return rc == -ENOENT ? 0 : rc;
    return sched_remove(s, &r);
}
