/* Arrays: a job file that says array= becomes a group of its name when it would be queued, and its elements become jobs
 * of that group a few at a time, as they are wanted. The job's row stays, listed nowhere, with the file, the directory
 * and the options of all elements. A commit that has a new element has the cursor behind it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sched/db/store_arrays.h"
#include "sched/job/array.h"
#include "sched/jobs/job_files.h"
#include "sched/jobs/state.h"

static bool is_whole(const struct job_row *r) {
    return r->array == r->job.id;
}

/* Whether it is an element that is no job yet. a->list is the caller's. */
static bool later(struct sched *s, uint64_t id, struct array_row *a) {
    return store_array_with(s->store, id, a) == 0 && id - a->first >= (uint64_t)a->next &&
           id - a->first < (uint64_t)a->size;
}

uint64_t job_spec(struct sched *s, uint64_t job) {
    struct array_row a = {0};
    struct job_row r;
    if (!s->jobs->arrays)
        return job;
    int rc = store_job_get(s->store, job, &r);
    if (rc == 0)
        return r.array ? r.array : job;
    bool is_one = later(s, job, &a);
    free(a.list);
    return is_one ? a.id : job;
}

/* As a job that waits. */
static int show(struct sched *s, const struct array_row *a, uint32_t k, struct job *out) {
    struct array_list l;
    struct job_row r;
    int rc = array_parse(a->list, &l);
    if (rc == 0)
        rc = store_job_get(s->store, a->id, &r);
    if (rc < 0)
        return -ENOENT;
    *out = r.job;
    out->id = a->first + k;
    out->group = a->group;
    snprintf(out->name, sizeof out->name, "%u", array_index(&l, k));
    out->state = JOB_WAITING;
    out->shelf = SHELF_JOBS;
    return 0;
}

int array_element(struct sched *s, uint64_t id, struct job *out) {
    struct array_row a = {0};
    int rc = s->jobs->arrays && later(s, id, &a) ? show(s, &a, (uint32_t)(id - a.first), out) : -ENOENT;
    free(a.list);
    return rc;
}

int sched_find_element(struct sched *s, uint64_t group, const char *name, struct job *out) {
    struct array_row a = {0};
    struct array_list l;
    struct group g;
    uint32_t k;
    int rc = s->jobs->arrays ? store_group_get(s->store, group, &g) : -ENOENT;
    if (rc == 0)
        rc = g.array ? store_array_get(s->store, g.array, &a) : -ENOENT;
    if (rc == 0)
        rc = array_parse(a.list, &l) == 0 && array_place(&l, name, &k) && k >= a.next ? show(s, &a, k, out) : -ENOENT;
    free(a.list);
    return rc;
}

void arrays_begin(struct sched *s) {
    s->jobs->arrays = s->arraying = store_arrays(s->store);
    if (s->arraying)
        sched_check(s, store_arrays_wake_all(s->store)); /* the quotas may be others now */
}

bool array_may_take(const struct group *g, const struct job_row *r, const char *name) {
    char index[16];
    snprintf(index, sizeof index, "%u", r ? (unsigned)r->call : 0);
    return !g->array || (r && r->array == g->array && strcmp(name, index) == 0);
}

int array_moved_on(struct sched *s, const struct job_row *r, bool left) {
    int rc = 0;
    if (r->array && !is_whole(r)) {
        s->arraying = true;
        rc = store_array_due(s->store, r->array);
    }
    if (rc == 0 && s->jobs->arrays_kept_back && left) {
        s->arraying = true;
        rc = store_arrays_wake(s->store, r->job.uid);
    }
    return rc;
}

int array_forgets(struct sched *s, const struct job_row *r) {
    bool failed = r->job.state == JOB_FAILED || r->job.state == JOB_CANCELLED;
    return failed && r->array && !is_whole(r) ? store_array_lost(s->store, r->array, r->job.group) : 0;
}

int array_of_group(struct sched *s, const struct group *g, const char *path, bool *succeeded, char *why, size_t size) {
    struct array_row a = {0};
    struct tally t;
    *succeeded = false;
    int rc = g->array ? store_tally_get(s->store, g->id, &t) : -EINVAL;
    int known = rc == 0 ? store_array_get(s->store, g->array, &a) : 0;
    free(a.list);
    if (rc == -EINVAL) {
        snprintf(why, size, "after=%s: that is a group, and after= names jobs and arrays", path);
    } else if (rc == 0 && t.active == 0 && (t.failed || t.cancelled || a.lost)) {
        snprintf(why, size, "not started, because not all of %s succeeded", path);
        rc = -EINVAL;
    } else if (rc == 0 && known == -ENOENT) {
        snprintf(why, size, "after=%s: all jobs of that array were forgotten", path);
        rc = -EINVAL;
    } else if (rc == 0) {
        rc = known;
    }
    *succeeded = rc == 0 && t.active == 0;
    return rc;
}

/* As those that wait do, so do those that are no jobs yet. */
int array_control(struct sched *s, uint64_t group, const uid_t *of, bool holds, int value) {
    struct group g;
    struct job_row r = {0};
    int rc = s->jobs->arrays ? store_group_get(s->store, group, &g) : -ENOENT;
    if (rc == 0)
        rc = g.array ? store_job_get(s->store, g.array, &r) : -ENOENT;
    if (rc < 0 || (of && r.job.uid != *of))
        return rc == -ENOENT ? 0 : rc;
    if (holds)
        return store_array_hold(s->store, g.array, value);
    r.job.priority = value;
    return store_job_save(s->store, &r, SAVE_QUEUE);
}

/* --- cancelled --------------------------------------------------------------------------------------------------- */

/* Those that are no jobs yet are cancelled as numbers. */
static int drop_rest(struct sched *s, const struct group *g) {
    struct array_row a = {0};
    int rc = g->array ? store_array_get(s->store, g->array, &a) : -ENOENT;
    uint64_t left = rc == 0 ? (uint64_t)(a.size - a.next) : 0;
    struct tally t = {.active = -left, .cancelled = left};
    if (left) {
        uint64_t *first = &s->dropped_first, *end = &s->dropped_end;
        *first = *end && *first < a.first + (uint64_t)a.next ? *first : a.first + (uint64_t)a.next;
        *end = *end > a.first + (uint64_t)a.size ? *end : a.first + (uint64_t)a.size;
        a.next = a.size;
        s->arraying = true;
        rc = store_array_save(s->store, &a, ARRAY_TO_DO);
        if (rc == 0)
            rc = store_tally_add(s->store, g->id, &t);
    }
    free(a.list);
    return rc == -ENOENT ? 0 : rc;
}

int array_drop_rest(struct sched *s, uint64_t group, uid_t uid) {
    struct group g;
    uid_t of;
    int rc = s->jobs->arrays ? store_group_get(s->store, group, &g) : -ENOENT;
    if (rc == 0)
        rc = g.array ? store_owner(s->store, g.array, &of) : -ENOENT;
    if (rc == 0 && of == uid)
        rc = drop_rest(s, &g);
    return rc == -ENOENT ? 0 : rc;
}

int array_cancel(struct sched *s, const struct group *g, struct tally *t) {
    uid_t of;
    int rc = drop_rest(s, g);
    if (rc == 0)
        rc = store_tally_get(s->store, g->id, t);
    if (rc < 0 || !t->active)
        return rc;
    s->giving_up = true;
    rc = store_owner(s->store, g->array, &of);
    return rc < 0 ? rc : store_give_up(s->store, g->id, of, JOB_REMOVED);
}
