/* Drafts: job files that are being written (closing: draft_close.c). A small draft is stored in its row; one that
 * exceeds the limit, or is written in many pieces, is moved once to a spool file by the disk thread. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/clock.h"
#include "sched/jobs/job_files.h"
#include "sched/jobs/state.h"

/* bytes of a row that a further write may rewrite; a larger draft moves to a file, where a write costs its own size */
#define REWRITE_MAX 4096u

/* A write in the disk thread, with fs's done function. */
struct pending {
    struct sched *s;
    uint64_t job;
    bool convert; /* the row is to be marked: its bytes are in a file now */
    bool fresh;   /* the draft was made for this write */
    sched_done *done;
    void *arg;
};

static struct spool_name spec_name(uint64_t job) {
    return (struct spool_name){job, BODY_SPEC, SPEC_FILE};
}

/* --- making and opening ------------------------------------------------------------------------------------------ */

static int check_name(const char *name) {
    size_t n = strlen(name);
    if (n > JOB_NAME_MAX)
        return -ENAMETOOLONG;
    return n == 0 || strchr(name, '/') ? -EINVAL : 0;
}

/* The directory of the job whose file is being copied, malloc'd; *out NULL: none. Another user's directory is not used:
 * its owner chose the files that the copied program would find there. */
static int copied_directory(struct sched *s, const struct writer *w, char **out) {
    struct job_row from;
    int rc = w->copies ? store_job_get(s->store, w->copies, &from) : -ENOENT;
    *out = NULL;
    if (rc == 0 && from.job.uid == w->uid)
        rc = store_job_texts(s->store, w->copies, NULL, out);
    return rc == -ENOENT ? 0 : rc;
}

static int insert_draft(struct sched *s, uint64_t group, const char *name, const struct writer *w, struct job_row *r) {
    char cwd[4096], *copied = NULL;
    *r = (struct job_row){.job = {.id = store_next_id(s->store),
                                  .group = group,
                                  .state = JOB_DRAFT,
                                  .shelf = SHELF_JOBS,
                                  .draft = true,
                                  .temporary = w->temporary && name_is_random(name),
                                  .uid = w->uid,
                                  .gid = w->gid,
                                  .mode = w->mode & 0777,
                                  .cpus = 1,
                                  .created = clock_wall_us(),
                                  .request = w->request}};
    int rc = r->job.id ? quota_draft(s, w->uid) : sched_check(s, -EIO);
    if (rc < 0)
        return rc;
    strcpy(r->job.name, name);
    rc = copied_directory(s, w, &copied);
    if (rc < 0)
        return sched_check(s, rc);
    if (!copied)
        writer_directory(w->pid, cwd, sizeof cwd);
    sched_note(s, r->job.id);
    rc = store_job_insert(s->store, r, copied ? copied : cwd);
    free(copied);
    return rc;
}

int sched_create_draft(struct sched *s, uint64_t group, const char *name, bool exclusive, const struct writer *w,
                       struct job *out) {
    struct job_row r;
    struct group g;
    int rc = sched_may_begin(s);
    if (rc == 0)
        rc = check_name(name);
    if (rc == 0)
        rc = store_group_get(s->store, group, &g);
    if (rc < 0)
        return rc;
    if (store_group_find(s->store, group, name, &(struct group){0}) == 0)
        return -EISDIR;
    if (!array_may_take(&g, NULL, name) && strcmp(name, ".options") != 0)
        return -EPERM;
    if (strcmp(name, ".options") == 0 && (rc = sched_may_set_options(s, group, w->uid)) < 0)
        return rc; /* refused here and not at the write, because the open draft would keep the owner from writing one */
    rc = store_job_find(s->store, group, name, false, &r);
    if (rc == 0 && w->uid != 0 && r.job.uid != w->uid)
        return -EACCES; /* another user's job or result has the name and would be lost */
    if (rc == 0 && r.job.state == JOB_RUNNING)
        return exclusive ? -EEXIST : -ETXTBSY;
    if (rc == 0 && exclusive && r.job.state != JOB_CANCELLED)
        return -EEXIST;
    rc = store_job_find(s->store, group, name, true, &r);
    if (rc == 0 && exclusive && r.job.request != w->request)
        return -EEXIST;
    if (rc == 0 && r.job.uid != w->uid)
        return -EACCES; /* root, too: it would run as that user, who may have it open */
    if (rc == -ENOENT) {
        rc = insert_draft(s, group, name, w, &r);
        if (rc == 0 && g.hidden) {
            g.hidden = false;
            rc = store_group_save(s->store, &g);
        }
    }
    if (rc == 0)
        *out = r.job;
    return rc;
}

/* The draft is being written again, so an earlier close() no longer counts. changes: its bytes change; an incomplete
 * draft does not become complete by an open and a close. */
static int reopen(struct sched *s, struct job_row *r, bool changes) {
    if (ids_has(&s->jobs->submitting, r->job.id)) {
        ids_remove(&s->jobs->submitting, r->job.id);
        store_tally_touch(s->store, r->job.group);
    }
    if (!r->job.flushed && !((r->job.cut || r->copy) && changes) && !r->sealed)
        return 0;
    r->job.flushed = r->sealed = false;
    if (changes) {
        r->copy = false;
        r->job.cut = false;
        r->job.why[0] = 0;
    }
    return store_job_save(s->store, r, SAVE_QUEUE);
}

static void pending_done(void *arg, int rc) {
    struct pending *p = arg;
    struct sched *s = p->s;
    struct job_row r;
    if (p->convert) {
        ids_remove(&s->jobs->converting, p->job);
        struct spool_name n = spec_name(p->job);
        if (store_job_get(s->store, p->job, &r) < 0) /* removed meanwhile */
            spool_unlink(s->spool, n);
        else if (rc < 0 && p->fresh) /* else an empty draft would hide the job that was to be copied */
            sched_remove(s, &r);
        else if (rc == 0)
            rc = store_body_put_file(s->store, p->job, BODY_SPEC, spool_size(s->spool, n), SPEC_FILE, NULL);
    }
    sched_note(s, p->job);
    p->done(p->arg, rc);
    free(p);
}

static struct pending *pending_create(struct sched *s, uint64_t job, bool convert, sched_done *done, void *arg) {
    struct pending *p = malloc(sizeof *p);
    if (!p || (convert && ids_add(&s->jobs->converting, job) < 0)) {
        free(p);
        return NULL;
    }
    *p = (struct pending){.s = s, .job = job, .convert = convert, .done = done, .arg = arg};
    return p;
}

/* The result of handing a task to the disk thread: on failure the pending answer is dropped. */
static int pending_sent(struct pending *p, int rc) {
    if (rc != -EINPROGRESS) {
        if (p->convert)
            ids_remove(&p->s->jobs->converting, p->job);
        free(p);
    }
    return rc;
}

/* The new draft begins as a copy of the job that it replaces. */
static int copy_spec(struct sched *s, uint64_t from, uint64_t to, sched_done *done, void *arg) {
    struct body b;
    int rc = draft_spec(s, from, &b);
    if (rc == -ENOENT)
        return 0;
    if (rc == 0 && !b.file) {
        int64_t n = store_body_read(s->store, from, BODY_SPEC, s->scratch, INLINE_MAX, 0);
        return n < 0 ? (int)n : store_body_put(s->store, to, BODY_SPEC, s->scratch, (size_t)n);
    }
    if (rc < 0)
        return rc;
    struct pending *p = pending_create(s, to, true, done, arg);
    if (p)
        p->fresh = true;
    return p ? pending_sent(p, spool_copy(s->spool, (struct spool_name){from, BODY_SPEC, b.file}, spec_name(to),
                                          pending_done, p))
             : -ENOMEM;
}

static int may_copy(struct sched *s, uid_t uid, uint64_t job) {
    struct body b;
    int rc = s->c.quotas ? draft_spec(s, job, &b) : -ENOENT;
    if (rc < 0)
        return rc == -ENOENT ? 0 : rc;
    return quota_bytes(s, uid, b.size);
}

int sched_open_draft(struct sched *s, uint64_t job, bool truncate, const struct writer *w, struct job *out,
                     sched_done *done, void *arg) {
    struct job_row r, d;
    int rc = sched_may_begin(s);
    if (rc == 0)
        rc = store_job_get(s->store, job, &r);
    if (rc < 0)
        return rc;
    if (job_ended(r.job.state) || r.job.shelf == SHELF_ORPHAN)
        return -ESTALE;
    if (job_is_options(&r.job))
        rc = sched_may_set_options(s, r.job.group, w->uid);
    else if (w->uid != r.job.uid && (w->uid != 0 || r.job.draft))
        rc = -EACCES;
    else if (r.array && r.array != r.job.id)
        rc = -EPERM; /* its file is that of the others, too */
    if (rc < 0)      /* whatever its mode: it runs as its owner, who may have it open and could read root's bytes */
        return rc;
    if (!r.job.draft && job_is_stream(&r.job) && w->append && !truncate) {
        *out = r.job; /* one more writer, which appends */
        return s->ops->stream.opened(s, &r);
    }
    if (r.job.state == JOB_RUNNING || (!r.job.draft && job_is_stream(&r.job) && !truncate))
        return -ETXTBSY;
    d = r;
    if (!r.job.draft)
        rc = store_job_find(s->store, r.job.group, r.job.name, true, &d);
    bool fresh = rc == -ENOENT;
    if (rc == 0 && w->uid != d.job.uid && !job_is_options(&d.job))
        return -EACCES;
    if (fresh) {
        struct writer as = *w;
        if (!truncate) /* bytes of another user must not run as root, who appends to them */
            as.uid = r.job.uid, as.gid = r.job.gid, as.copies = w->uid == r.job.uid ? w->copies : job;
        as.mode = r.job.mode;
        rc = truncate ? 0 : may_copy(s, as.uid, job);
        if (rc == 0)
            rc = insert_draft(s, r.job.group, r.job.name, &as, &d);
        d.copy = !truncate;
        if (rc == 0 && d.copy)
            rc = store_job_save(s->store, &d, SAVE_QUEUE);
    }
    if (rc == 0)
        rc = reopen(s, &d, truncate);
    if (rc < 0)
        return rc;
    *out = d.job;
    if (truncate)
        return sched_drop_bodies(s, d.job.id, true);
    rc = fresh ? copy_spec(s, r.job.id, d.job.id, done, arg) : 0;
    return rc == -EINPROGRESS ? rc : sched_check(s, rc); /* an empty draft would hide the job */
}

/* --- bytes ------------------------------------------------------------------------------------------------------- */

/* Whether the first bytes make the draft a stream: not under a draft's name, which is not to be queued yet. */
static bool begins_stream(struct sched *s, const struct job_row *r, const void *bytes, size_t size, uint64_t offset,
                          enum work_kind *kind) {
    struct group g;
    struct body b;
    return offset == 0 && !draft_stays(s, &r->job) && spec_is_stream(r->job.name, bytes, size, kind) &&
           draft_spec(s, r->job.id, &b) == -ENOENT && store_group_get(s->store, r->job.group, &g) == 0 && !g.dotted;
}

static int get_draft(struct sched *s, uint64_t job, struct job_row *r) {
    int rc = store_job_get(s->store, job, r);
    if (rc == 0 && !r->job.draft)
        rc = r->job.state == JOB_RUNNING ? -ETXTBSY : -ESTALE; /* submitted in another way meanwhile */
    return rc == 0 ? reopen(s, r, true) : rc;
}

/* Moves the row's bytes to a file of at least size bytes, and adds the bytes of this write. */
static int convert(struct sched *s, uint64_t job, size_t have, const void *bytes, size_t size, uint64_t offset,
                   sched_done *done, void *arg) {
    struct pending *p = pending_create(s, job, true, done, arg);
    struct spool_name n = spec_name(job);
    if (!p)
        return -ENOMEM;
    /* An existing file of this name was left by an earlier daemon, so it is truncated first. The tasks run in order in
     * one thread; the last one answers. */
    int rc = spool_truncate(s->spool, n, 0, NULL, NULL);
    if (rc == -EINPROGRESS && have)
        rc = spool_write_copy(s->spool, n, s->scratch, have, 0, NULL, NULL, NULL);
    if (rc == -EINPROGRESS)
        rc = bytes ? spool_write(s->spool, n, bytes, size, offset, NULL, pending_done, p)
                   : spool_truncate(s->spool, n, offset, pending_done, p);
    return pending_sent(p, rc);
}

static int64_t read_row(struct sched *s, uint64_t job) {
    int64_t n = store_body_read(s->store, job, BODY_SPEC, s->scratch, INLINE_MAX, 0);
    return n == -ENOENT ? 0 : n;
}

/* Combines the row's bytes and those of a write in scratch. Returns their number. */
static size_t laid_over(struct sched *s, size_t have, const void *bytes, size_t size, uint64_t offset) {
    if (offset > have)
        memset(s->scratch + have, 0, offset - have);
    memcpy(s->scratch + offset, bytes, size);
    return offset + size > have ? offset + size : have;
}

/* Invalid bytes of a .options file are refused at the write, where every program checks for errors. */
static int check_options(struct sched *s, const struct job *j, const void *bytes, size_t size, uint64_t offset) {
    int64_t have = read_row(s, j->id);
    if (have < 0 || offset + size > INLINE_MAX)
        return have < 0 ? (int)have : -EFBIG;
    return options_file_write(s, j, s->scratch, laid_over(s, (size_t)have, bytes, size, offset));
}

static int write_draft(struct sched *s, uint64_t job, const void *bytes, size_t size, uint64_t offset, bool again,
                       sched_done *done, void *arg) {
    struct job_row r;
    struct body b = {0};
    enum work_kind kind;
    int rc = sched_may_begin(s);
    if (rc == 0)
        rc = store_job_get(s->store, job, &r);
    if (rc < 0 || size == 0)
        return rc;
    if (r.job.draft && begins_stream(s, &r, bytes, size, offset, &kind) && (rc = quota_job(s, r.job.uid, 1)) == 0)
        rc = s->ops->stream.begin(s, &r, kind);
    if (rc == 0 && r.job.state == JOB_FAILED) /* failed when it was submitted: failures/ has the reason */
        return -EPERM;
    if (rc == 0 && !r.job.draft && job_is_stream(&r.job))
        return s->ops->stream.write(s, &r, bytes, size, offset, again, done, arg);
    bool options = rc == 0 && job_is_options(&r.job);
    if (options)
        rc = check_options(s, &r.job, bytes, size, offset);
    if (rc == 0)
        rc = get_draft(s, job, &r);
    if (rc == 0)
        rc = quota_grows(s, &r.job, offset + size);
    if (rc < 0)
        return rc;
    sched_note(s, job);
    rc = draft_spec(s, job, &b);
    if (rc == 0 && b.file) {
        struct pending *p = pending_create(s, job, false, done, arg);
        return p ? pending_sent(p, spool_write(s->spool, spec_name(job), bytes, size, offset, NULL, pending_done, p))
                 : -ENOMEM;
    }
    if (rc == -ENOENT && offset == 0 && size <= INLINE_MAX)
        return store_body_put(s->store, job, BODY_SPEC, bytes, size);
    int64_t have = read_row(s, job);
    if (have < 0)
        return (int)have;
    if (offset + size > (options ? INLINE_MAX : REWRITE_MAX))
        return convert(s, job, (size_t)have, bytes, size, offset, done, arg);
    size_t total = laid_over(s, (size_t)have, bytes, size, offset);
    return store_body_put(s->store, job, BODY_SPEC, s->scratch, total);
}

int sched_write(struct sched *s, uint64_t job, const void *bytes, size_t size, uint64_t offset, sched_done *done,
                void *arg) {
    return write_draft(s, job, bytes, size, offset, false, done, arg);
}

int sched_write_again(struct sched *s, uint64_t job, const void *bytes, size_t size, uint64_t offset, sched_done *done,
                      void *arg) {
    return write_draft(s, job, bytes, size, offset, true, done, arg);
}

int sched_truncate(struct sched *s, uint64_t job, uint64_t size, sched_done *done, void *arg) {
    struct job_row r;
    struct body b = {0};
    int rc = get_draft(s, job, &r);
    if (rc == 0)
        rc = quota_grows(s, &r.job, size);
    if (rc < 0)
        return rc;
    sched_note(s, job);
    rc = draft_spec(s, job, &b);
    if (rc == -ENOENT && size == 0)
        return 0;
    if (rc == 0 && b.file) {
        struct pending *p = pending_create(s, job, false, done, arg);
        return p ? pending_sent(p, spool_truncate(s->spool, spec_name(job), size, pending_done, p)) : -ENOMEM;
    }
    if (size == 0)
        return sched_drop_bodies(s, job, true);
    int64_t have = read_row(s, job);
    if (have < 0)
        return (int)have;
    if (size > INLINE_MAX)
        return convert(s, job, (size_t)have, NULL, 0, size, done, arg);
    if (size > (uint64_t)have)
        memset(s->scratch + have, 0, size - (uint64_t)have);
    return store_body_put(s->store, job, BODY_SPEC, s->scratch, size);
}
