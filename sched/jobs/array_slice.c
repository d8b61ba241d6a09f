/* Elements of arrays become jobs as they are wanted, and who waits for an array hears of its end (arrays.c). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "net/clock.h"
#include "sched/db/store_arrays.h"
#include "sched/job/array.h"
#include "sched/jobs/state.h"

#define WAITING_MAX 64 /* elements of an array that wait for a slot */
#define ROWS 8         /* that are made between two looks at the clock */

/* One that is a job from here on counts as such, and no more as one of the array. */
static int make_element(struct sched *s, const struct array_row *a, const struct job_row *of, const char *cwd,
                        uint32_t index) {
    struct job_row r = *of;
    struct tally t = {.active = (uint64_t)-1};
    r.job.id = a->first + (uint64_t)a->next;
    r.job.group = a->group;
    snprintf(r.job.name, sizeof r.job.name, "%u", index);
    r.job.shelf = SHELF_JOBS;
    r.job.queued = clock_wall_us();
    r.array = a->id;
    r.call = index;
    r.resolved = true;
    int rc = store_job_insert(s->store, &r, cwd);
    if (rc == 0)
        rc = store_array_options(s->store, r.job.id, a->id);
    if (rc == 0)
        rc = store_tally_add(s->store, a->group, &t);
    if (rc < 0)
        return rc;
    return a->held ? sched_transition(s, &r, JOB_HELD, 0) : submit_ready(s, &r, 0);
}

/* As many as there is room for. Returns what remains to be done with it. */
static int make_some(struct sched *s, struct array_row *a, enum array_due *due) {
    struct array_list l;
    struct job_row of;
    char *cwd = NULL;
    int waiting = store_array_waiting(s->store, a->id, WAITING_MAX);
    int rc = waiting < 0 ? waiting : store_job_get(s->store, a->id, &of);
    if (rc == 0)
        rc = array_parse(a->list, &l);
    if (rc == 0 && l.size != a->size)
        rc = -EIO;
    if (rc == 0)
        rc = store_job_texts(s->store, a->id, NULL, &cwd);
    of.job.group = a->group;
    if (rc == 0)
        rc = submit_place(s, &of, of.place);
    for (int n = 0; rc == 0 && n < ROWS && waiting < WAITING_MAX && a->next < a->size; n++, waiting++, a->next++) {
        if (!quota_has_job(s, of.job.uid) || !quota_has_bytes(s, of.job.uid)) {
            *due = ARRAY_KEPT_BACK;
            s->jobs->arrays_kept_back = true;
            break;
        }
        rc = make_element(s, a, &of, cwd, array_index(&l, (uint32_t)a->next));
    }
    if (rc == 0 && *due == ARRAY_IDLE && waiting < WAITING_MAX && a->next < a->size)
        *due = ARRAY_TO_DO;
    free(cwd);
    return rc;
}

/* Nothing of its group is left to run: who waits for the array hears of it. */
static int tell_end(struct sched *s, const struct array_row *a) {
    struct job_row of;
    struct tally t;
    if (!s->deps || !store_dep_any(s->store, a->id))
        return 0;
    int rc = store_tally_get(s->store, a->group, &t);
    if (rc == 0 && t.active == 0)
        rc = store_job_get(s->store, a->id, &of);
    if (rc < 0 || t.active)
        return rc;
    s->settling = true;
    return store_settle_add(s->store, &of.job, t.failed == 0 && t.cancelled == 0 && !a->lost);
}

static int forget(struct sched *s, uint64_t id) {
    int rc = sched_drop_bodies(s, id, true);
    if (rc == 0)
        rc = store_job_delete(s->store, id);
    return rc < 0 ? rc : store_array_delete(s->store, id);
}

static int attend(struct sched *s, uint64_t id) {
    struct array_row a = {0};
    enum array_due due = ARRAY_IDLE;
    int rc = store_array_get(s->store, id, &a);
    if (rc == 0 && a.next < a.size)
        rc = make_some(s, &a, &due);
    if (rc == 0)
        rc = store_array_save(s->store, &a, due);
    if (rc == 0 && a.next == a.size)
        rc = tell_end(s, &a);
    if (rc == 0 && a.next == a.size && !store_array_used(s->store, id))
        rc = forget(s, id);
    free(a.list);
    return rc;
}

void array_slice(struct sched *s) {
    uint64_t id;
    int rc = store_array_next(s->store, &s->array_user, &id);
    s->arraying = rc == 0;
    if (rc == 0 && sched_check(s, attend(s, id)) < 0)
        s->arraying = false; /* until an element moves on, or the next daemon */
}
