/* max_fails= of a group: when so many of a user's jobs there have failed, his others are cancelled, some in each turn
 * (queue.c). His failures, and where that is under way, are in the database, so that the next daemon goes on. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "sched/jobs/job_files.h"

static int give_up(struct sched *s, uint64_t group, uid_t uid, uint32_t max, uint64_t failed) {
    char path[4096], why[JOB_WHY_MAX];
    const struct job j = {.group = group, .name = ".options"};
    if (sched_path(s, &j, path, sizeof path) < 0)
        strcpy(path, ".options");
    snprintf(why, sizeof why,
             "cancelled: %" PRIu64 " %s of its user %s failed in this group, and jobs/%.300s says max_fails=%u", failed,
             failed == 1 ? "job" : "jobs", failed == 1 ? "has" : "have", path, max);
    s->giving_up = true;
    return store_give_up(s->store, group, uid, why);
}

int give_up_failed(struct sched *s, const struct job *j) {
    struct group g = {.parent = j->group};
    struct tally t;
    uint64_t failed = 0;
    int rc = 0;
    for (unsigned level = 0; limits_said(s) && rc == 0 && level <= GROUP_LEVELS; level++) {
        uint32_t max, max_fails = 0;
        rc = store_group_get(s->store, g.parent, &g);
        if (rc == 0)
            rc = limit_options(s, g.id, &max, &max_fails);
        if (rc == 0 && max_fails)
            rc = store_fails_more(s->store, g.id, j->uid, &failed);
        if (rc == 0 && max_fails && failed >= max_fails && (rc = store_tally_get(s->store, g.id, &t)) == 0 && t.active)
            rc = give_up(s, g.id, j->uid, max_fails, failed);
        if (g.id == 0)
            break;
    }
    return rc == -ENOENT ? 0 : rc; /* a damaged database: its jobs end all the same */
}

int give_up_fewer(struct sched *s, const struct job *j) {
    bool counts = limits_said(s) && j->state == JOB_FAILED && j->shelf == SHELF_FAILURES;
    return counts ? store_fails_less(s->store, j->group, j->uid) : 0;
}
