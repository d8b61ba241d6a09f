/* max_fails= of a group: when so many of its jobs have failed, the others are cancelled, some in each turn (queue.c).
 * The groups where that is under way are in the database, so that the next daemon goes on. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "sched/jobs/job_files.h"

static int give_up(struct sched *s, const struct group *g, uint32_t max, uint64_t failed) {
    char path[4096], why[JOB_WHY_MAX];
    const struct job j = {.group = g->id, .name = ".options"};
    if (sched_path(s, &j, path, sizeof path) < 0)
        strcpy(path, ".options");
    snprintf(why, sizeof why, "cancelled: its group has %llu failed, and jobs/%.300s says max_fails=%u",
             (unsigned long long)failed, path, max);
    s->giving_up = true;
    return store_give_up(s->store, g->id, why);
}

int give_up_failed(struct sched *s, const struct job *j) {
    struct group g = {.parent = j->group};
    struct tally t;
    int rc = 0;
    for (unsigned level = 0; limits_said(s) && rc == 0 && level <= GROUP_LEVELS; level++) {
        uint32_t max, max_fails = 0;
        rc = store_group_get(s->store, g.parent, &g);
        if (rc == 0)
            rc = limit_options(s, g.id, &max, &max_fails);
        if (rc == 0 && max_fails && (rc = store_tally_get(s->store, g.id, &t)) == 0 && t.failed >= max_fails &&
            t.active)
            rc = give_up(s, &g, max_fails, t.failed);
        if (g.id == 0)
            break;
    }
    return rc == -ENOENT ? 0 : rc; /* a damaged database: its jobs end all the same */
}
