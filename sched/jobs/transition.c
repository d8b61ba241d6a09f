/* Moving a job from state to state, and out of the house. sched_move is the only code that writes a state. It checks
 * the table, keeps the tallies, sets the times and remembers who has to hear of it. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "net/clock.h"
#include "sched/streams/stream_int.h"

int ids_add(struct ids *l, uint64_t id) {
    if (ids_has(l, id))
        return 0;
    if (l->count == l->cap) {
        size_t cap = l->cap ? l->cap * 2 : 32;
        uint64_t *grown = reallocarray(l->items, cap, sizeof *grown);
        if (!grown)
            return -ENOMEM;
        l->items = grown;
        l->cap = cap;
    }
    l->items[l->count++] = id;
    return 0;
}

bool ids_has(const struct ids *l, uint64_t id) {
    for (size_t i = l->count; i > 0; i--)
        if (l->items[i - 1] == id)
            return true;
    return false;
}

void ids_remove(struct ids *l, uint64_t id) {
    for (size_t i = 0; i < l->count; i++)
        if (l->items[i] == id) {
            l->items[i] = l->items[--l->count];
            return;
        }
}

int sched_check(struct sched *s, int rc) {
    if (rc < 0 && rc != -ENOENT && !s->error) {
        s->error = rc;
        if (!s->unkept)
            sched_log(s, "the database refused a change: %s", store_error(s->store));
    }
    return rc;
}

void sched_note(struct sched *s, uint64_t job) {
    ids_add(&s->changed, job); /* without memory a waiter is woken later, by the next change */
}

void sched_note_heir(struct sched *s, const struct job *old, uint64_t heir) {
    if (!old->draft)
        s->heirs[s->heir_count++ % HEIRS] = (struct heir){old->id, heir, old->uid, old->gid, old->mode};
}

/* A name may have been written again more than once: each time stands behind the one before it. */
uint64_t sched_heir(const struct sched *s, uint64_t job, struct heir *was) {
    uint64_t heir = job;
    for (uint64_t n = s->heir_count > HEIRS ? s->heir_count - HEIRS : 0; n < s->heir_count; n++) {
        const struct heir *h = &s->heirs[n % HEIRS];
        if (h->of != heir)
            continue;
        if (heir == job)
            *was = *h;
        heir = h->job;
    }
    return heir == job ? 0 : heir;
}

void sched_note_unlink(struct sched *s, struct spool_name n) {
    if (s->unlink_count == s->unlink_cap) {
        size_t cap = s->unlink_cap ? s->unlink_cap * 2 : 16;
        struct spool_name *grown = reallocarray(s->unlinks, cap, sizeof *grown);
        if (!grown)
            return; /* the sweep at the next start has it */
        s->unlinks = grown;
        s->unlink_cap = cap;
    }
    s->unlinks[s->unlink_count++] = n;
}

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

/* Those that wait for it hear how it ended, some hundred of them a turn (queue.c). */
static int settle(struct sched *s, const struct job *j, bool succeeded) {
    if (!s->deps || !store_dep_any(s->store, j->id))
        return 0;
    s->settling = true;
    return sched_check(s, store_settle_add(s->store, j->id, succeeded, j->name));
}

/* In memory or not, its calls run no longer. */
static int end_stream(struct sched *s, uint64_t job) {
    int rc = sched_check(s, stream_drop_parts(s, job));
    stream_kept_end(s, job);
    return rc < 0 ? rc : sched_check(s, store_stream_delete(s->store, job));
}

int sched_move(struct sched *s, struct job_row *r, enum job_state to, unsigned also_save) {
    struct job *j = &r->job;
    struct tally delta = {0};
    enum job_shelf shelf = r->stream ? SHELF_PART : job_shelf_of(to);
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
    j->flushed = false; /* only says something of a draft */
    r->sealed = false;
    count(&delta, j, 1);
    int rc = sched_check(s, store_job_save(s->store, r, also_save | SAVE_QUEUE));
    if (rc == 0)
        rc = sched_check(s, store_tally_add(s->store, j->group, &delta));
    sched_note(s, j->id);
    if (rc < 0 || !job_ended(to))
        return rc;
    if (r->stream) { /* it ended for the stream's sake alone */
        rc = stream_job_ended(s, r);
        return rc < 0 ? rc : rc > 0 ? 0 : sched_remove(s, r);
    }
    if (job_is_stream(j) && (rc = end_stream(s, j->id)) < 0)
        return rc;
    return settle(s, j, to == JOB_DONE);
}

int sched_fail(struct sched *s, struct job_row *r, int error, const char *why, unsigned also_save) {
    r->job.error = error;
    if (why != r->job.why)
        strncpy(r->job.why, why, sizeof r->job.why - 1);
    return sched_move(s, r, JOB_FAILED, also_save);
}

int sched_drop_bodies(struct sched *s, uint64_t job, bool spec) {
    enum job_body first = spec ? BODY_SPEC : BODY_RESULT, bodies[BODIES];
    int64_t files[BODIES];
    int n = store_body_files(s->store, job, first, bodies, files);
    for (int i = 0; i < n; i++) {
        sched_note_unlink(s, (struct spool_name){job, bodies[i], files[i]});
        if (files[i] != BODY_LOG)
            continue;
        sched_check(s, store_log_drop(s->store, job, bodies[i]));
        s->trash = true;
    }
    return sched_check(s, n < 0 ? n : store_bodies_delete(s->store, job, first));
}

int sched_remove(struct sched *s, struct job_row *r) {
    struct tally delta = {0};
    count(&delta, &r->job, (uint64_t)-1);
    run_drop(s, r->job.id);
    submit_stop(s, r->job.id);
    int rc = job_ended(r->job.state) || r->job.shelf >= SHELF_ORPHAN ? 0 : settle(s, &r->job, false);
    if (rc == 0 && job_is_stream(&r->job))
        rc = end_stream(s, r->job.id);
    if (rc == 0)
        rc = sched_drop_bodies(s, r->job.id, true);
    if (rc == 0)
        rc = sched_check(s, store_job_delete(s->store, r->job.id));
    if (rc == 0)
        rc = sched_check(s, store_tally_add(s->store, r->job.group, &delta));
    sched_note(s, r->job.id);
    return rc;
}
