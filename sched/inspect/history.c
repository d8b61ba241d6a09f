/* What has run, by the rows of jobs. */
#include "sched/inspect/history.h"

#include <errno.h>

#include "sched/inspect/running.h"
#include "sched/jobs/job_files.h"

#define LOOKED_AT 1024 /* ids of a page: 1 ms */
#define SHOWN 64       /* jobs of a page */

/* A cancelled job may have waited for its next attempt: of the last one nobody knows when it ended. */
bool sched_has_run(const struct job *j) {
    bool between = j->state == JOB_CANCELLED && j->failures + j->deaths >= j->attempt;
    return j->started && (j->state == JOB_RUNNING || (job_ended(j->state) && !between));
}

static bool is_shown(struct sched *s, const struct job *j, uid_t uid, gid_t gid) {
    return sched_shows(j->uid, j->gid, j->mode, uid, gid) && sched_reaches(s, j->group, uid, gid);
}

int sched_page_history(struct sched *s, uint64_t *before, uid_t uid, gid_t gid,
                       void (*each)(void *, const struct job *), void *arg) {
    uint64_t ids[SHOWN];
    int n = store_ids_back(s->store, before, LOOKED_AT, ids, SHOWN);
    for (int i = 0; i < n; i++) {
        struct job_row r;
        if (store_job_get(s->store, ids[i], &r) == 0 && sched_has_run(&r.job) && is_shown(s, &r.job, uid, gid))
            each(arg, &r.job);
    }
    return n < 0 ? n : *before > 1;
}

int sched_shown(struct sched *s, uint64_t id, uid_t uid, gid_t gid, struct job *out, char *path, size_t size) {
    struct job_row r;
    int rc = store_job_get(s->store, id, &r);
    if (rc == 0)
        rc = is_shown(s, &r.job, uid, gid) ? sched_path(s, &r.job, path, size) : -ENOENT;
    if (rc == 0)
        *out = r.job;
    return rc;
}

struct groups {
    struct sched *s;
    uid_t uid;
    gid_t gid;
    bool (*each)(void *, const struct group *, const struct tally *);
    void *arg;
};

static bool show_group(void *arg, const struct group *g) {
    const struct groups *x = arg;
    struct tally t;
    if (g->dotted || g->hidden || !group_may_search(g, x->uid, x->gid) || store_tally_get(x->s->store, g->id, &t) != 0)
        return true;
    return x->each(x->arg, g, &t);
}

int sched_newest_groups(struct sched *s, uid_t uid, gid_t gid,
                        bool (*each)(void *, const struct group *, const struct tally *), void *arg) {
    struct groups x = {s, uid, gid, each, arg};
    return store_group_newest(s->store, 0, GROUPS_LOOKED_AT, show_group, &x);
}
