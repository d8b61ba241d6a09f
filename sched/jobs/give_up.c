/* max_fails= of a group: when so many of its jobs have failed, the others are cancelled, some in each turn (queue.c).
 * The groups where that is under way are in the database, so that the next daemon goes on. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sched/jobs/job_files.h"

/* 0: the group's options do not say it. */
static int read_max_fails(struct sched *s, uint64_t group, uint32_t *max) {
    char *saved = NULL;
    struct options *o = NULL;
    int rc = store_group_options(s->store, group, &saved);
    *max = 0;
    if (rc == 0 && strstr(saved, OPTIONS_SAVED_MAX)) {
        rc = (o = options_create()) ? options_load(o, saved) : -ENOMEM;
        *max = rc == 0 ? options_max_fails(o) : 0;
    }
    options_destroy(o);
    free(saved);
    return rc;
}

static int give_up(struct sched *s, const struct group *g, uint32_t max, uint64_t failed) {
    char path[4096], why[JOB_WHY_MAX];
    const struct job j = {.group = g->id, .name = ".options"};
    if (sched_path(s, &j, path, sizeof path) < 0)
        strcpy(path, ".options");
    snprintf(why, sizeof why, "cancelled: %llu jobs of its group have failed, and jobs/%.300s says max_fails=%u",
             (unsigned long long)failed, path, max);
    s->giving_up = true;
    return store_give_up(s->store, g->id, why);
}

int give_up_failed(struct sched *s, const struct job *j) {
    struct group g = {.parent = j->group};
    struct tally t;
    int rc = 0;
    for (unsigned level = 0; limits_said(s) && rc == 0 && level <= GROUP_LEVELS; level++) {
        uint32_t max = 0;
        rc = store_group_get(s->store, g.parent, &g);
        if (rc == 0)
            rc = read_max_fails(s, g.id, &max);
        if (rc == 0 && max && (rc = store_tally_get(s->store, g.id, &t)) == 0 && t.failed >= max && t.active)
            rc = give_up(s, &g, max, t.failed);
        if (g.id == 0)
            break;
    }
    return rc;
}
