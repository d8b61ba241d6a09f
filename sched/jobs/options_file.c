/* A .options file: the options that later jobs of its group begin with. It is checked as it is written, as far as
 * possible, and takes effect when it is closed. Refused text is dropped, and the file shows the options in force
 * again. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sched/jobs/job_files.h"
#include "sched/jobs/state.h"

/* Its options apply to the jobs of all users in the group, so only the group's owner and root may write it. */
int sched_may_set_options(struct sched *s, uint64_t group, uid_t uid) {
    struct group g;
    int rc = store_group_get(s->store, group, &g);
    if (rc < 0)
        return rc;
    return user_is_trusted(s, uid) || (group && uid == g.uid) ? 0 : -EPERM;
}

/* Adds the words of its text, or of a part of it, as the options of that group. What the elements of an array have is
 * said by the file that made it, which was read already. */
static int add(struct sched *s, const struct job *j, uint64_t group, struct options *o, const char *text, size_t size,
               bool whole) {
    char why[OPTIONS_WHY], path[JOB_WHY_MAX];
    struct group g;
    int rc = whole ? options_add_words(o, text, size, why) : options_add_part(o, text, size, why);
    const char *option = rc == 0 ? options_beyond_limits(o) : NULL;
    if (option && store_group_get(s->store, group, &g) == 0 && g.array) {
        snprintf(why, sizeof why,
                 "option %s= would have no effect on the elements of an array: max= and max_fails= have, and .hold and "
                 ".priority in its info/; the file that makes the array says all else",
                 option);
        rc = -EINVAL;
    }
    if (rc == -EINVAL)
        sched_log_user(s, j->id, "jobs/%s was refused: %s", sched_path(s, j, path, sizeof path) == 0 ? path : j->name,
                       why);
    return rc;
}

int options_file_write(struct sched *s, const struct job *j, const char *text, size_t size) {
    int rc = sched_may_set_options(s, j->group, j->uid);
    if (rc < 0 || size > INLINE_MAX)
        return rc < 0 ? rc : -EFBIG;
    struct options *o = options_create();
    rc = o ? add(s, j, j->group, o, text, size, false) : -ENOMEM;
    options_destroy(o);
    return rc;
}

/* Parses its text; the caller owns *o. */
static int parse(struct sched *s, const struct job *j, uint64_t group, struct options **o) {
    struct body b = {0};
    int rc = draft_spec(s, j->id, &b);
    if (rc < 0 && rc != -ENOENT)
        return rc;
    if (b.file)
        return -EFBIG;
    int64_t n = b.size ? store_body_read(s->store, j->id, BODY_SPEC, s->scratch, INLINE_MAX, 0) : 0;
    if (n < 0)
        return (int)n;
    if (!(*o = options_create()))
        return -ENOMEM;
    rc = add(s, j, group, *o, s->scratch, (size_t)n, true);
    if (rc < 0) {
        options_destroy(*o);
        *o = NULL;
    }
    return rc;
}

int options_file_check(struct sched *s, const struct job *j, uint64_t group) {
    struct options *o = NULL;
    int rc = sched_may_set_options(s, group, j->uid);
    if (rc == 0)
        rc = j->draft && !j->cut ? parse(s, j, group, &o) : -EINVAL;
    options_destroy(o);
    return rc;
}

int options_file_take(struct sched *s, const struct job *j) {
    struct options *o = NULL;
    char *saved = NULL;
    int rc = sched_may_set_options(s, j->group, j->uid);
    if (rc == 0)
        rc = parse(s, j, j->group, &o);
    if (rc == 0)
        rc = array_add_limit(s, j->group, o);
    if (rc == 0 && !(saved = options_save(o)))
        rc = -ENOMEM;
    if (rc == 0 && options_drafts(o))
        s->jobs->drafts_said = true; /* stays set if this turn is not committed; the look-up then finds none */
    if (rc == 0)
        rc = store_group_set_options(s->store, j->group, saved);
    if (rc == 0 && (o->max || o->max_fails))
        limits_say(s);
    limits_changed(s);
    options_destroy(o);
    free(saved);
    return rc;
}

/* The options in force, as words; the caller owns *text. */
static int in_force(struct sched *s, uint64_t group, char **text) {
    char *saved = NULL;
    struct options *o = options_create();
    int rc = o ? store_group_options(s->store, group, &saved) : -ENOMEM;
    if (rc == 0)
        rc = options_load(o, saved);
    if (rc == 0 && !(*text = options_words(o)))
        rc = -ENOMEM;
    options_destroy(o);
    free(saved);
    return rc;
}

int options_file_settle(struct sched *s, struct job_row *r) {
    char *text = NULL;
    struct body b = {0};
    /* an empty file may have been about to get its text */
    bool taken = r->job.flushed && draft_spec(s, r->job.id, &b) == 0 && b.size > 0;
    int rc = 0;
    if (!taken)
        rc = r->job.cut ? -EINVAL : options_file_take(s, &r->job);
    if (rc != -EINVAL && rc != -EPERM && rc != -EFBIG)
        return rc;
    rc = in_force(s, r->job.group, &text);
    if (rc == 0 && !*text)
        rc = sched_remove(s, r);
    else if (rc == 0 && (rc = sched_drop_bodies(s, r->job.id, true)) == 0)
        rc = store_body_put(s->store, r->job.id, BODY_SPEC, text, strlen(text));
    if (rc == 0 && *text) {
        r->job.cut = false;
        r->job.flushed = true;
        r->job.why[0] = 0;
        sched_note(s, r->job.id);
        rc = store_job_save(s->store, r, SAVE_QUEUE);
    }
    free(text);
    return sched_check(s, rc);
}
