/* Ended jobs are forgotten after the time of --keep, or of their own keep= (forget.c). The rows of those that are to be
 * (store_keep.h) go on in the next daemon. A row may be out of date, as that of a job that was forgotten by hand: it is
 * found so and dropped when its time has come. */
#include <errno.h>
#include <stdlib.h>

#include "net/clock.h"
#include "sched/db/store_keep.h"
#include "sched/jobs/job_files.h"

#define LONGEST_US 3600000000 /* until the timer: the clock may be set */

void keep_set_timer(struct sched *s, int64_t due) {
    int64_t wait = due - clock_wall_us();
    if (wait > LONGEST_US)
        wait = LONGEST_US;
    if (wait < 1000)
        wait = 1000;
    struct timeval t = {wait / 1000000, wait % 1000000};
    s->keep_due = due;
    evtimer_add(s->keep_timer, &t);
}

void keep_timer(evutil_socket_t fd, short what, void *arg) {
    struct sched *s = arg;
    (void)fd, (void)what;
    s->keeping = true;
    s->keep_due = 0;
    sched_tick(s);
}

/* Jobs that ended while --keep was not in force have no rows: they get them, once. */
void keep_begin(struct sched *s) {
    int64_t all = 0;
    s->keep_at = s->kept_at = 0;
    store_meta_get(s->store, "keep", &all);
    s->keep_old = s->c.keep_us && !all;
    if (!s->c.keep_us && all)
        store_meta_set(s->store, "keep", 0);
    int64_t kept = 0;
    store_meta_get(s->store, "kept", &kept);
    s->kept = s->c.keep_results && !kept ? KEPT_STALE : KEPT_ALL;
    if (!s->c.keep_results && kept)
        store_meta_set(s->store, "kept", 0);
    s->keeping = true;
}

int keep_left(struct sched *s, const struct job_row *r) {
    bool counts = s->c.keep_results && job_ended(r->job.state) && r->job.shelf < SHELF_ORPHAN;
    return counts ? store_kept_gone(s->store, r->job.id) : 0;
}

static int own_keep(struct sched *s, const struct job_row *r, int64_t *us) {
    char *saved = NULL;
    struct options *o = options_create();
    int rc = o ? store_job_texts(s->store, r->job.id, &saved, NULL) : -ENOMEM;
    if (rc == 0)
        rc = options_load(o, saved);
    *us = rc == 0 ? o->keep_us : 0; /* what it says is not known: it stays */
    options_destroy(o);
    free(saved);
    return rc == -EINVAL ? 0 : rc;
}

/* Without one that failed its group would seem to have succeeded: only its user says that it may go. */
static bool stays(const struct job_row *r) {
    return r->job.group && r->job.state != JOB_DONE && !r->keeps;
}

int keep_ended(struct sched *s, const struct job_row *r) {
    if (stays(r))
        return 0;
    int64_t us = -1;
    int rc = r->keeps ? own_keep(s, r, &us) : 0;
    if (s->c.keep_results && !r->keeps && rc == 0) {
        rc = store_kept_add(s->store, r->job.id, r->job.uid, r->job.ended);
        s->keeping = true;
        sched_tick(s);
    }
    if (rc < 0 || us == 0 || (us < 0 && !s->c.keep_us))
        return rc;
    int64_t due = r->job.ended + (us < 0 ? s->c.keep_us : us);
    if (!s->keeping && (!s->keep_due || due < s->keep_due))
        keep_set_timer(s, due);
    return store_keep(s->store, r->job.id, us < 0 ? KEEP_BY_MOUNT : KEEP_BY_JOB, us < 0 ? r->job.ended : due);
}
