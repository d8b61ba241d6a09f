/* Submitting: a draft whose last writer has closed becomes a job. It is read (here, or in the disk thread if it is
 * large), takes its name from the job that had it, and waits, or is queued, or fails with a sentence. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/clock.h"
#include "sched/job/json_text.h"
#include "sched/bytes/buffer.h"
#include "sched/jobs/job_files.h"
#include "sched/jobs/state.h"

/* --- options ----------------------------------------------------------------------------------------------------- */

const char submit_unreadable[] = "its options in the database cannot be read";

int submit_options(struct sched *s, const struct job_row *r, struct options **out) {
    char *saved = NULL;
    struct options *o = options_create();
    int rc = o ? store_job_texts(s->store, r->job.id, &saved, NULL) : -ENOMEM;
    if (rc == 0)
        rc = options_load(o, saved);
    free(saved);
    if (rc < 0) {
        options_destroy(o);
        return rc;
    }
    *out = o;
    return 0;
}

/* The calls of a stream get no memory=, gpu= and resources= of their group: they run in workers that others use after
 * them. */
static void constraint_of(struct sched *s, char place[CONSTRAINT_MAX], const struct job *j, const struct options *o) {
    struct resources none = {0}, resources = job_is_stream(j) ? none : options_resources(o);
    constraint_make(place, j->kind, o->node, job_is_stream(j) ? 0 : o->memory, &resources);
    limit_place(s, j->group, place);
}

bool submit_placeable(struct sched *s, const struct job_row *r, const struct options *o) {
    char place[CONSTRAINT_MAX];
    constraint_of(s, place, &r->job, o);
    return !quota_why_never(s, &r->job, NULL, 0) && r->job.cpus <= host_largest(s, place, r->job.uid);
}

int submit_place(struct sched *s, const struct job_row *r, char place[CONSTRAINT_MAX]) {
    struct options *o = NULL;
    int rc = submit_options(s, r, &o);
    if (rc == 0)
        constraint_of(s, place, &r->job, o);
    options_destroy(o);
    return rc;
}

/* --- waiting for others ------------------------------------------------------------------------------------------ */

/* The group that holds what the path names, and that name: relative to the job's group, or from the top if it begins
 * with a slash. What is in a directory that its user may not look into is not there. */
static int find_parent(struct sched *s, const struct job *j, const char *path, struct group *g,
                       char part[JOB_NAME_MAX + 1]) {
    int rc = store_group_get(s->store, *path == '/' ? 0 : j->group, g);
    for (path += *path == '/'; rc == 0; path++) {
        size_t n = strcspn(path, "/");
        if (n == 0 || n > JOB_NAME_MAX || !group_may_search(g, j->uid, j->gid))
            return -ENOENT;
        memcpy(part, path, n);
        part[n] = 0;
        path += n;
        if (!*path)
            return 0;
        rc = store_group_find(s->store, g->id, part, g);
    }
    return rc;
}

static int find_group(struct sched *s, const struct job *j, const char *path, struct group *g) {
    char part[JOB_NAME_MAX + 1];
    int rc = find_parent(s, j, path, g, part);
    if (rc == 0)
        rc = store_group_find(s->store, g->id, part, g);
    bool closed = rc == 0 && g->array && !group_may_search(g, j->uid, j->gid); /* in it is how its jobs ended */
    return closed ? -ENOENT : rc;
}

/* A job by its path. In a group that is opened at once the others may still be drafts. */
static int find_path(struct sched *s, const struct job *j, const char *path, struct job_row *out) {
    struct group g;
    char part[JOB_NAME_MAX + 1];
    int rc = find_parent(s, j, path, &g, part);
    if (rc < 0)
        return rc;
    rc = store_job_find(s->store, g.id, part, false, out);
    if (rc == -ENOENT) {
        rc = store_job_find(s->store, g.id, part, true, out);
        if (rc == 0 && !out->sealed && !out->job.flushed) /* flushed: it is just being read */
            rc = -ENOENT;
    }
    return rc;
}

/* Why it can never wait for that one, or 0: it can. */
static int why_never(const struct job_row *r, const char *name, int rc, const struct job_row *other, char *why,
                     size_t size) {
    if (rc == -ENOENT)
        return snprintf(why, size, "after=%s: there is no such job, or its directory is closed to this one's user",
                        name);
    if (rc == 0 && other->job.id == r->job.id)
        return snprintf(why, size, "after=%s: a job cannot wait for itself", name);
    if (rc == 0 && other->job.id == r->stream)
        return snprintf(why, size, "after=%s: a call cannot wait for its own stream", name);
    if (rc == 0 && job_ended(other->job.state) && other->job.state != JOB_DONE)
        return snprintf(why, size, "not started, because %s %s", name,
                        other->job.state == JOB_FAILED ? "failed" : "was cancelled");
    return 0;
}

/* Writes down whom it waits for. Returns how many, or -EINVAL with why when it can never start. */
static int wait_for(struct sched *s, const struct job_row *r, const struct options *o, char *why, size_t size) {
    int count = 0, left = DEP_LOOKS;
    for (const char *const *name = options_after(o); *name; name++) {
        struct job_row other;
        struct group g;
        bool succeeded = false;
        int rc = find_path(s, &r->job, *name, &other);
        if (rc == -ENOENT && find_group(s, &r->job, *name, &g) == 0) {
            rc = array_of_group(s, &g, *name, &succeeded, why, size);
            if (rc == -EINVAL)
                return rc;
            other.job.id = g.array;
        } else if (why_never(r, *name, rc, &other, why, size)) {
            return -EINVAL;
        } else {
            succeeded = rc == 0 && other.job.state == JOB_DONE;
        }
        if (succeeded)
            continue;
        if (rc == 0)
            rc = store_dep_add(s->store, r->job.id, r->stream, other.job.id, &left);
        if (rc == -ELOOP || rc == -E2BIG) {
            snprintf(why, size, "after=%s: %s waits for this %s", *name,
                     rc == -ELOOP ? "that job" : "others wait for this, and that for too many to tell whether one",
                     r->stream ? "call or its stream" : "one");
            return -EINVAL;
        }
        if (sched_check(s, rc) < 0)
            return rc;
        s->deps = true;
        count++;
    }
    return count;
}

static int still_waits(struct sched *s, uint64_t job) {
    uint64_t on, count;
    int rc = store_dep_first(s->store, job, &on, &count);
    if (rc == -ENOENT)
        return 0;
    return rc < 0 ? rc : 1;
}

/* --- into the queue ---------------------------------------------------------------------------------------------- */

/* With a free slot and nobody before it, a job starts in the same commit that takes it in. */
int submit_enqueue(struct sched *s, struct job_row *r, unsigned also_save) {
    if (r->array && r->array == r->job.id)
        return array_begin(s, r, also_save);
    struct user *u = user_of(s, r->job.uid);
    bool stream = job_is_stream(&r->job), alone = u && !users_wait(s, u) && !s->stopping;
    alone = alone && (stream || (user_has_room(u, r->job.cpus) && limit_has_room(limit_of(s, r->place))));
    struct demand d = {r->place, r->job.cpus, stream ? 0 : estimate_of_job(s, &r->job, r->stream), r->job.uid,
                       r->job.failures ? r->job.node : ""};
    struct host *h = alone && !stream ? host_choose(s, &d) : NULL;
    if (h && estimate_holds(s, h, d.function))
        h = NULL;
    int rc = h || (alone && stream && s->ops->stream.has_room(s, u)) ? job_start(s, r, h, also_save) : -EBUSY;
    if (rc != -EBUSY) /* else its last attempt is still being written down, too */
        return rc;
    rc = store_ready_turn(s->store, &r->job, &r->turn);
    backlog_mark(s, r);
    return rc < 0 ? rc : sched_transition(s, r, JOB_QUEUED, also_save);
}

int submit_ready(struct sched *s, struct job_row *r, unsigned also_save) {
    struct options *o = NULL;
    char why[JOB_WHY_MAX];
    int rc = submit_options(s, r, &o);
    if (rc == -EINVAL)
        return sched_fail(s, r, EIO, submit_unreadable, also_save);
    if (rc < 0)
        return sched_check(s, rc);
    rc = r->resolved ? still_waits(s, r->job.id) : wait_for(s, r, o, why, sizeof why);
    r->resolved = true; /* from here on the table says it, though names may come to mean other jobs */
    bool placeable = submit_placeable(s, r, o);
    options_destroy(o);
    if (rc == -EINVAL)
        return sched_fail(s, r, EIO, why, also_save);
    if (rc < 0)
        return rc;
    if (rc > 0 || !placeable) {
        r->job.not_before = rc > 0 ? 0 : NOT_PLACED;
        return r->job.state == JOB_WAITING ? store_job_save(s->store, r, also_save | SAVE_QUEUE)
                                           : sched_transition(s, r, JOB_WAITING, also_save);
    }
    return submit_enqueue(s, r, also_save);
}

#define MOVED_MAX 10000 /* that wait for one: more could not be told in one turn */

/* The job that has the name now goes: queued or running, it is dropped; ended, its result is, once nobody reads it any
 * more. Who waits for that name waits for the new job, or, where these are many, hears as of one that was removed. */
static int take_name(struct sched *s, const struct job *j) {
    struct job_row old;
    int rc = store_job_find(s->store, j->group, j->name, false, &old);
    if (rc < 0)
        return rc == -ENOENT ? 0 : rc;
    sched_note_successor(s, &old.job, j->id);
    if (job_ended(old.job.state) && s->is_open && s->is_open(s->is_open_arg, old.job.id, false))
        return sched_forget(s, old.job.id, true);
    if (!job_ended(old.job.state) && s->deps && !store_dep_many(s->store, old.job.id, MOVED_MAX))
        rc = store_dep_move(s->store, old.job.id, j->id);
    return rc < 0 ? rc : sched_remove(s, &old);
}

/* What the file turned out to be. rc, why: of spec_read. */
static int admit(struct sched *s, struct job_row *r, int rc, enum work_kind kind, const struct options *own,
                 const char *why) {
    struct options *o = options_create();
    char *saved = NULL, foreign[JOB_WHY_MAX];
    struct job *j = &r->job;
    int err = o ? 0 : -ENOMEM;
    if (err == 0 && !r->stream)
        err = take_name(s, j);
    if (err == 0)
        err = group_options(s, j->group, j->uid, o, foreign, sizeof foreign);
    if (err == -EPERM) {
        rc = -EINVAL;
        why = foreign;
        err = 0;
    }
    if (err == 0)
        options_drop_of_group(o);
    if (rc == 0 && options_of_group(own)) {
        snprintf(foreign, sizeof foreign, "option %s= is of a group: it belongs into a .options file",
                 options_of_group(own));
        rc = -EINVAL;
        why = foreign;
    }
    if (err == 0 && rc == 0 && (err = options_add(o, own, foreign)) == -EINVAL) {
        rc = err;
        why = foreign;
        err = 0;
    }
    if (err == 0 && !(saved = options_save(o)))
        err = -ENOMEM;
    if (err == 0)
        err = *saved ? store_job_set_options(s->store, j->id, saved) : 0;
    free(saved);
    if (sched_check(s, err) < 0) {
        options_destroy(o);
        return err;
    }
    if (rc == 0 && o->array && (r->stream || job_is_stream(&(struct job){.kind = kind}))) {
        snprintf(foreign, sizeof foreign, "option array= is for a job file, and not for a stream or a call in one");
        rc = -EINVAL;
        why = foreign;
    }
    r->array = rc == 0 && o->array ? j->id : 0;
    j->draft = false;
    j->kind = kind;
    j->priority = o->priority;
    r->keeps = o->keep_us >= 0;
    j->cpus = o->cpus;
    j->queued = clock_wall_us();
    j->why[0] = 0;
    if (rc == 0 && quota_why_never(s, j, foreign, sizeof foreign)) {
        rc = -EINVAL;
        why = foreign;
    }
    if (job_is_stream(j))
        strcpy(r->place, CONSTRAINT_STREAM);
    else
        constraint_of(s, r->place, j, o);
    /* A stream that its group holds back has been let go by then, and its calls with it. */
    bool hold = (r->stream ? own : o)->hold, simple = !*options_after(o) && submit_placeable(s, r, o);
    options_destroy(o);
    if (rc < 0)
        return sched_fail(s, r, r->stream ? EINVAL : EIO, why, SAVE_NAME); /* EINVAL: so that the call is told apart */
    if (hold)
        return sched_transition(s, r, JOB_HELD, SAVE_NAME);
    return simple ? submit_enqueue(s, r, SAVE_NAME) : submit_ready(s, r, SAVE_NAME);
}

int submit_stream(struct sched *s, struct job_row *r, enum work_kind kind) {
    struct options *none = options_create();
    int rc = none ? admit(s, r, 0, kind, none, "") : -ENOMEM;
    options_destroy(none);
    return rc;
}

/* --- a call of a stream that needs a job of its own -------------------------------------------------------------- */

static int call_options(const struct call_text *c, struct options *o, char *why, size_t size) {
    json_t *j;
    char at[SPEC_WHY];
    int rc = json_text_read(c->options, strlen(c->options), NULL, NULL, &j, at, sizeof at);
    if (rc == 0 && json_is_object(j))
        rc = options_add_json(o, j, NULL, why);
    else if (rc == 0)
        rc = -EINVAL, snprintf(why, size, "the options of a call must be a JSON object");
    else if (rc == -EINVAL)
        snprintf(why, size, "the options of a call are no valid JSON: %.300s", at);
    json_decref(j);
    return rc;
}

int submit_call(struct sched *s, const struct job_row *owner, const struct call_text *c, const struct buffer *body,
                struct job_row *out) {
    char why[SPEC_WHY] = "", *cwd = NULL;
    struct options *own = options_create();
    struct job *j = &out->job;
    uint64_t id = j->id;
    *out = *owner;
    j->id = id ? id : store_next_id(s->store);
    snprintf(j->name, sizeof j->name, "%.230s:%llu", owner->job.name, (unsigned long long)c->number + 1);
    j->state = JOB_DRAFT;
    j->shelf = SHELF_PART;
    j->kind = owner->job.kind == WORK_STREAM_PORTABLE ? WORK_CALL_PORTABLE : WORK_CALL; /* JSON: spec_read says */
    j->attempt = j->failures = j->deaths = 0;
    j->node[0] = 0;
    out->stream = owner->job.id;
    out->call = c->number;
    int rc = own && j->id ? store_job_texts(s->store, owner->job.id, NULL, &cwd) : -ENOMEM;
    if (rc == 0)
        rc = store_job_insert(s->store, out, cwd);
    free(cwd);
    if (rc == 0)
        rc = id ? store_body_put_file(s->store, id, BODY_SPEC, (int64_t)body->size, SPEC_FILE, NULL)
                : store_body_put(s->store, j->id, BODY_SPEC, body->bytes, body->size);
    int read = 0;
    if (rc == 0)
        read = c->line ? spec_read("", c->line, c->size, &j->kind, own, why) : call_options(c, own, why, sizeof why);
    if (read == 0 && c->line && own->hold) {
        snprintf(why, sizeof why, "option hold=1 is not for a line of a stream: nothing could let it go");
        read = -EINVAL;
    }
    if (rc == 0 && read == -ENOMEM)
        rc = read;
    if (rc == 0)
        rc = admit(s, out, read, j->kind, own, why);
    options_destroy(own);
    return sched_check(s, rc);
}

/* --- reading the file -------------------------------------------------------------------------------------------- */

struct reading {
    struct sched *s;
    uint64_t job;
};

/* The turn that gave it a name that runs may not have been committed. */
static bool may_run(struct sched *s, const struct job *j) {
    struct group g;
    return !draft_stays(s, j) && store_group_get(s->store, j->group, &g) == 0 && !g.dotted;
}

static void spool_was_read(void *arg, struct spool_spec *spec) {
    struct reading *p = arg;
    struct sched *s = p->s;
    struct job_row r;
    bool wanted = ids_has(&s->jobs->submitting, p->job); /* else it was opened for writing again, or removed */
    ids_remove(&s->jobs->submitting, p->job);
    if (wanted)
        ids_add(&s->jobs->released, p->job); /* comes again should this turn not be committed */
    int rc = wanted ? store_job_get(s->store, p->job, &r) : -ENOENT;
    if (rc == 0 && r.job.draft && may_run(s, &r.job)) {
        if (spec->rc < 0 && spec->rc != -EINVAL)
            snprintf(spec->why, sizeof spec->why, "its file could not be read: %s", strerror(-spec->rc));
        if (spec->sums.size)
            store_body_put_file(s->store, p->job, BODY_SPEC, (int64_t)spec->size, SPEC_FILE, &spec->sums);
        admit(s, &r, spec->rc, spec->kind, spec->options, spec->why);
    } else if (rc == 0) {
        store_tally_touch(s->store, r.job.group);
    }
    free(p);
}

int submit_job(struct sched *s, struct job_row *r) {
    struct body b;
    char why[SPEC_WHY];
    enum work_kind kind;
    int rc = draft_spec(s, r->job.id, &b);
    if (rc < 0)
        return rc;
    if (b.file) {
        struct reading *p = malloc(sizeof *p);
        if (!p || ids_add(&s->jobs->submitting, r->job.id) < 0) {
            free(p);
            return -ENOMEM;
        }
        *p = (struct reading){s, r->job.id};
        r->sealed = false; /* killed here: a draft that is flushed and not sealed is submitted at the next start */
        r->job.flushed = true;
        store_job_save(s->store, r, SAVE_QUEUE);
        rc = spool_spec(s->spool, (struct spool_name){r->job.id, BODY_SPEC, b.file}, r->job.uid, r->job.name,
                        spool_was_read, p);
        if (rc != -EINPROGRESS) {
            ids_remove(&s->jobs->submitting, r->job.id);
            free(p);
        }
        return rc == -EINPROGRESS ? 0 : rc;
    }
    int64_t n = store_body_read(s->store, r->job.id, BODY_SPEC, s->scratch, INLINE_MAX, 0);
    struct options *own = options_create();
    if (n < 0 || !own) {
        options_destroy(own);
        return n < 0 ? sched_check(s, (int)n) : -ENOMEM;
    }
    rc = spec_read(r->job.name, s->scratch, (size_t)n, &kind, own, why);
    rc = rc == -ENOMEM ? rc : admit(s, r, rc, kind, own, why);
    options_destroy(own);
    return rc;
}
