/* What the groups above a job say of it, and whom that binds. A .options file holds for everybody's jobs in its group
 * as far as it says what whoever owns the group may do to them anyway, who can remove them: their priority, their time,
 * that they are held, which names are drafts. What a job runs, where and how often is up to its own user or root. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "sched/jobs/job_files.h"

static bool is_trusted(const struct sched *s, uid_t by, uid_t writer) {
    return user_is_trusted(s, by) || by == writer;
}

/* Who answers for what the group says: who has its .options, and who has the group. *by: the one of them who is not
 * trusted. */
static int said_by_others(struct sched *s, const struct group *g, uid_t writer, uid_t *by) {
    struct job_row file;
    if (g->id == 0)
        return 0; /* jobs/ itself: who mounted */
    int rc = store_job_find(s->store, g->id, ".options", true, &file);
    if (rc < 0 && rc != -ENOENT)
        return rc;
    *by = rc == 0 && !is_trusted(s, file.job.uid, writer) ? file.job.uid : g->uid;
    return !is_trusted(s, *by, writer);
}

/* Adds what one group says. 0, -EPERM with why, -errno. */
static int add_group(struct sched *s, const struct group *g, uid_t writer, struct options *o, char *why, size_t size) {
    char *saved = NULL, path[4096];
    struct options *said = NULL;
    uid_t by = 0;
    int rc = store_group_options(s->store, g->id, &saved);
    if (rc < 0 || !*saved)
        goto out;
    rc = (said = options_create()) ? options_load(said, saved) : -ENOMEM;
    const char *option = rc == 0 ? options_binding(said) : NULL;
    if (option)
        rc = said_by_others(s, g, writer, &by);
    if (rc > 0) {
        const struct job j = {.group = g->id, .name = ".options"};
        snprintf(why, size,
                 "not run: jobs/%.120s says %s=, and user %u has written it or owns its group; what a job runs, and "
                 "where, is for its own "
                 "user or root to say: put it into a group of your own",
                 sched_path(s, &j, path, sizeof path) == 0 ? path : ".options", option, (unsigned)by);
        rc = -EPERM;
    }
    if (rc == 0 && (rc = options_load(o, saved)) == -EINVAL) {
        snprintf(why, size,
                 "not run: the groups that it is in say more env= than a job may have, 1024 or 256 KiB of them");
        rc = -EPERM;
    }
out:
    options_destroy(said);
    free(saved);
    return rc;
}

int group_options(struct sched *s, uint64_t group, uid_t writer, struct options *o, char *why, size_t size) {
    struct group chain[GROUP_LEVELS + 1];
    int n = 0, rc = 0;
    for (uint64_t id = group;; id = chain[n++].parent) {
        if (n > GROUP_LEVELS)
            return -ELOOP;
        if ((rc = store_group_get(s->store, id, &chain[n])) < 0)
            return rc;
        if (id == 0)
            break;
    }
    for (; n >= 0 && rc == 0; n--)
        rc = add_group(s, &chain[n], writer, o, why, size);
    return rc;
}

int group_options_check(struct sched *s, uint64_t group, uid_t writer, char *why, size_t size) {
    struct options *o = group ? options_create() : NULL;
    if (!o)
        return group ? -ENOMEM : 0;
    int rc = group_options(s, group, writer, o, why, size);
    options_destroy(o);
    return rc;
}

int group_options_close(struct sched *s, const struct job *j) {
    struct group g;
    char why[JOB_WHY_MAX];
    if (!j->group || draft_stays(s, j) || store_group_get(s->store, j->group, &g) < 0 || g.dotted)
        return 0;
    return group_options_check(s, j->group, j->uid, why, sizeof why);
}
