/* What has run, by the rows of jobs. */
#include "sched/inspect/history.h"

#include <errno.h>

#include "sched/inspect/query.h"
#include "sched/inspect/running.h"
#include "sched/jobs/job_files.h"

#define LOOKED_AT 2048 /* ids of a page: 1 ms */
#define SHOWN 128      /* jobs of a page */

/* A cancelled job may have waited for its next attempt: of the last one nobody knows when it ended. */
static bool has_run(const struct job *j) {
    bool between = j->state == JOB_CANCELLED && j->failures + j->deaths >= j->attempt;
    return j->started && (j->state == JOB_RUNNING || (job_ended(j->state) && !between));
}

static bool is_shown(struct sched *s, const struct job *j, uid_t uid, gid_t gid) {
    return has_run(j) && sched_shows(j->uid, j->gid, j->mode, uid, gid) && sched_reaches(s, j->group, uid, gid);
}

int sched_page_history(struct sched *s, uint64_t *before, uid_t uid, gid_t gid,
                       void (*each)(void *, const struct job *), void *arg) {
    uint64_t ids[SHOWN];
    int n = store_ids_back(s->store, before, LOOKED_AT, ids, SHOWN);
    for (int i = 0; i < n; i++) {
        struct job_row r;
        if (store_job_get(s->store, ids[i], &r) == 0 && is_shown(s, &r.job, uid, gid))
            each(arg, &r.job);
    }
    return n < 0 ? n : *before > 1;
}

int sched_ran(struct sched *s, uint64_t id, uid_t uid, gid_t gid, struct job *out, char *path, size_t size) {
    struct job_row r;
    int rc = store_job_get(s->store, id, &r);
    if (rc == 0)
        rc = is_shown(s, &r.job, uid, gid) ? sched_path(s, &r.job, path, size) : -ENOENT;
    if (rc == 0)
        *out = r.job;
    return rc;
}
