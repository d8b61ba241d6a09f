/* An array begins: its job becomes a group (arrays.c). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sched/db/store_arrays.h"
#include "sched/job/array.h"
#include "sched/jobs/job_files.h"
#include "sched/jobs/state.h"

int array_add_limit(struct sched *s, uint64_t group, struct options *o) {
    struct array_row a = {0};
    struct array_list l;
    struct group g;
    char words[32], why[OPTIONS_WHY];
    if (!s->jobs->arrays || o->max)
        return 0;
    int rc = store_group_get(s->store, group, &g);
    if (rc < 0 || !g.array)
        return rc;
    rc = store_array_get(s->store, g.array, &a);
    if (rc == 0 && array_parse(a.list, &l) == 0 && l.at_once) {
        snprintf(words, sizeof words, "max=%u", l.at_once);
        rc = options_add_words(o, words, strlen(words), why);
        limits_say(s);
        limits_changed(s);
    }
    free(a.list);
    return rc;
}

int array_reset_options(struct sched *s, uint64_t group) {
    struct options *o = options_create();
    char *saved = NULL;
    int rc = o ? array_add_limit(s, group, o) : -ENOMEM;
    if (rc == 0 && !(saved = options_save(o)))
        rc = -ENOMEM;
    if (rc == 0)
        rc = store_group_set_options(s->store, group, saved);
    options_destroy(o);
    free(saved);
    return rc;
}

/* Who may read the file may look into the directory. */
static mode_t directory_mode(mode_t file) {
    return 0700 | (file & 0044) | (file & 0044) >> 2;
}

static int make_group(struct sched *s, const struct job *j, uint64_t *id) {
    struct group g = {.id = store_next_id(s->store),
                      .parent = j->group,
                      .uid = j->uid,
                      .gid = j->gid,
                      .mode = directory_mode(j->mode),
                      .created = j->created,
                      .array = j->id};
    strcpy(g.name, j->name);
    *id = g.id;
    return g.id ? store_group_insert(s->store, &g) : -EIO;
}

/* Its row leaves the listings; it is no draft, and waits for nothing any more. */
static int leave_listings(struct sched *s, struct job_row *r) {
    r->job.draft = false;
    r->job.why[0] = 0;
    if (r->job.state != JOB_DRAFT)
        return sched_transition(s, r, JOB_DRAFT, SAVE_NAME);
    r->job.shelf = SHELF_PART;
    r->job.flushed = r->sealed = false;
    sched_note(s, r->job.id);
    return store_job_save(s->store, r, SAVE_NAME | SAVE_SHELF | SAVE_QUEUE);
}

static int begin(struct sched *s, struct job_row *r, const struct array_list *l, struct options *o) {
    struct array_row a = {.id = r->job.id, .size = l->size};
    struct tally comes = {.active = l->size};
    char *list = strdup(o->array), *saved = NULL;
    options_drop_array(o);
    int rc = list && (saved = options_save(o)) ? make_group(s, &r->job, &a.group) : -ENOMEM;
    if (rc == 0 && !(a.first = store_next_ids(s->store, l->size)))
        rc = -EIO;
    a.list = list;
    if (rc == 0)
        rc = store_array_insert(s->store, &a, r->job.uid);
    s->jobs->arrays = s->arraying = true; /* stays so if this turn is not committed; a look then finds none */
    if (rc == 0)
        rc = array_reset_options(s, a.group);
    if (rc == 0)
        rc = store_job_set_options(s->store, r->job.id, saved);
    if (rc == 0)
        rc = leave_listings(s, r);
    if (rc == 0)
        rc = store_tally_add(s->store, a.group, &comes);
    free(list);
    free(saved);
    sched_tick(s);
    return rc;
}

/* Somebody has opened the name for writing meanwhile, and may give it another file. */
static int wait_for_writer(struct sched *s, struct job_row *r, unsigned also_save) {
    strcpy(r->job.why, "waits: its file is open for writing");
    r->job.not_before = sched_steady(s) + 1000000;
    int rc = r->job.state == JOB_WAITING ? store_job_save(s->store, r, also_save | SAVE_QUEUE)
                                         : sched_transition(s, r, JOB_WAITING, also_save);
    sched_set_due(s);
    return rc;
}

/* Each element's index replaces it: run.c. */
static const char room[] = "env=" ARRAY_INDEX ":999999999";

int array_begin(struct sched *s, struct job_row *r, unsigned also_save) {
    struct array_list l;
    struct job_row draft;
    struct group g;
    struct options *o = NULL;
    char why[OPTIONS_WHY];
    int rc = store_job_find(s->store, r->job.group, r->job.name, true, &draft);
    if (rc == 0 && draft.job.id != r->job.id)
        return wait_for_writer(s, r, also_save);
    if (store_group_find(s->store, r->job.group, r->job.name, &g) == 0)
        return sched_fail(s, r, EIO, "a directory has its name, and an array becomes one: give it another", also_save);
    if (group_depth(s, r->job.group) >= GROUP_LEVELS)
        return sched_fail(s, r, EIO, "it is as deep in directories as one may be, and an array becomes one", also_save);
    rc = submit_options(s, r, &o);
    if (rc == 0 && (!o->array || array_parse(o->array, &l) < 0))
        rc = -EINVAL;
    if (rc == 0)
        options_begin(o);
    if (rc == 0 && (rc = options_add_words(o, room, strlen(room), why)) == -EINVAL) {
        options_destroy(o);
        return sched_fail(s, r, EIO, why, also_save);
    }
    if (rc == 0)
        rc = begin(s, r, &l, o);
    options_destroy(o);
    return rc == -EINVAL ? sched_fail(s, r, EIO, submit_unreadable, also_save) : sched_check(s, rc);
}
