#include "fs/tree/attr.h"

#include <errno.h>
#include <stdlib.h>

#include "fs/handles/handle.h"
#include "fs/session/body.h"
#include "fs/session/pending.h"
#include "fs/session/reply.h"
#include "fs/tree/renames.h"
#include "fs/tree/results.h"
#include "fs/tree/tree.h"

int attr_may_remove(struct fs *fs, const struct job *j) {
    struct group g;
    uid_t uid = fs->now.uid;
    if (job_is_options(j))
        return sched_may_set_options(fs->sched, j->group, uid);
    if (uid == 0 || uid == j->uid)
        return 0;
    if (j->group == 0)
        return fs->everyone ? -EPERM : 0;
    int rc = sched_group(fs->sched, j->group, &g);
    return rc == 0 && (g.mode & S_ISVTX) && uid != g.uid ? -EPERM : rc;
}

/* The time is that of creation: editors take a changed time for another writer's work. */
static void job_stat(struct fs *fs, const struct job *j, struct stat *st) {
    tree_stat(st, j->mode & 0777, j->uid, j->gid, body_size(fs, j->id, BODY_SPEC), j->created);
}

bool attr_is_there_for(struct fs *fs, fuse_req_t req, const struct job *j) {
    return (j->shelf == SHELF_RESULTS || j->shelf == SHELF_FAILURES) &&
           renames_has(fs, fuse_req_ctx(req)->pid, j->group, j->name);
}

void attr_stat(struct fs *fs, const struct job *j, fuse_ino_t ino, struct stat *st) {
    *st = (struct stat){0};
    job_stat(fs, j, st);
    st->st_ino = ino;
    st->st_mode |= S_IFREG;
    st->st_blocks = (st->st_size + 511) / 512;
}

int attr_lookup_renamed(struct fs *fs, fuse_req_t req, fuse_ino_t dir, const char *name, struct fuse_entry_param *e) {
    struct job job;
    if (ino_kind(dir) != KIND_JOBS || sched_find(fs->sched, ino_id(dir), name, false, &job) < 0 ||
        !attr_is_there_for(fs, req, &job))
        return -ENOENT;
    /* not to be cached by the kernel, for it holds for one process */
    *e = (struct fuse_entry_param){.ino = ino_make(job.id, KIND_JOB)};
    attr_stat(fs, &job, e->ino, &e->attr);
    return 0;
}

int attr_job(struct fs *fs, fuse_ino_t ino, struct stat *st, double *timeout) {
    struct job job;
    /* of the job that took its name, for a process that opened that by O_PATH */
    int rc = results_newest(fs, ino_id(ino), &job);
    if (rc == 0 && job.shelf != SHELF_JOBS)
        rc = -ENOENT;
    if (rc == 0)
        job_stat(fs, &job, st);
    return rc;
}

/* Through an open file, or right after chmod or chown, an ended job has attributes too. */
static void reply_job(struct fs *fs, fuse_req_t req, fuse_ino_t ino, uint64_t id) {
    struct job job;
    struct stat st;
    int rc = sched_job(fs->sched, id, &job);
    if (rc) {
        reply_err(fs, req, stale(rc));
        return;
    }
    attr_stat(fs, &job, ino, &st);
    reply_attr(fs, req, &st, 0);
}

void attr_get(struct fs *fs, fuse_req_t req, fuse_ino_t ino, const struct fuse_file_info *fi) {
    struct handle *x = fi && ino_kind(ino) == KIND_JOB ? handles_find(fs->handles, fi->fh) : NULL;
    if (x) {
        reply_job(fs, req, ino, x->job);
        return;
    }
    struct job job;
    if (ino_kind(ino) == KIND_JOB && sched_job(fs->sched, ino_id(ino), &job) == 0 && attr_is_there_for(fs, req, &job)) {
        renames_found(fs, fuse_req_ctx(req)->pid);
        reply_job(fs, req, ino, job.id);
        return;
    }
    struct stat st;
    double timeout;
    int rc = tree_attr(fs, ino, &st, &timeout);
    if (rc)
        reply_err(fs, req, rc);
    else
        reply_attr(fs, req, &st, timeout);
}

/* --- SETATTR ---------------------------------------------------------------------------------------------------- */
struct owner { /* what of it is to be set */
    const uid_t *uid;
    const gid_t *gid;
    const mode_t *mode;
    bool any;
};

static void size_set(struct pending *p, int rc) {
    struct handle *x = p->fi.fh ? handles_find(p->fs->handles, p->fi.fh) : NULL;
    if (rc) {
        reply_err(p->fs, p->req, stale(rc));
        return;
    }
    if (x)
        handle_write_repeated(x, p->size, UINT64_MAX);
    if (!handles_count(p->fs->handles, p->job->id, HANDLE_WRITER))
        sched_release(p->fs->sched, p->job->id); /* truncated by name: there is no close */
    reply_job(p->fs, p->req, p->ino, p->job->id);
}

/* Whether a user other than root and uid has it open for writing: those bytes would run as uid. */
static bool others_write(struct fs *fs, uint64_t job, uid_t uid) {
    const struct handle *x = handles_first(fs->handles, job);
    while (x && (!(x->flags & HANDLE_WRITER) || x->uid == 0 || x->uid == uid))
        x = handles_next(fs->handles, x);
    return x;
}

/* Truncating by name needs the owner, whatever the mode, because the rest runs as its owner. For an open file this was
 * checked at the open. */
static int may_cut(struct fs *fs, const struct job *j) {
    if (job_is_options(j))
        return attr_may_remove(fs, j);
    return fs->now.uid != 0 && fs->now.uid != j->uid ? -EACCES : 0;
}

/* Whether the caller has the group only from a set-group-ID bit: the job would run with it. */
static bool is_lent(fuse_req_t req, gid_t gid) {
    const struct fuse_ctx *c = fuse_req_ctx(req);
    gid_t own = c->gid;
    return gid == c->gid && c->uid != 0 && (sched_own_group(c->pid, c->uid, &own) < 0 || own != gid);
}

/* Of a group: its owner and mode. */
static void set_group(struct fs *fs, fuse_req_t req, fuse_ino_t ino, const struct owner *o) {
    int rc = 0;
    if (o->any)
        rc = ino_id(ino) ? sched_set_group_owner(fs->sched, ino_id(ino), o->uid, o->gid, o->mode) : -EPERM;
    if (rc)
        reply_err(fs, req, rc);
    else
        attr_get(fs, req, ino, NULL);
}

/* A queued or running job is truncated only by an open with O_TRUNC, which makes a draft. */
static int may_set_size(struct fs *fs, const struct job *j, const struct handle *x, off_t size) {
    if (job_ended(j->state))
        return -ESTALE;
    if (!j->draft)
        return -ETXTBSY;
    if (size < 0)
        return -EINVAL;
    return x ? 0 : may_cut(fs, j);
}

static void set_size(struct fs *fs, fuse_req_t req, fuse_ino_t ino, const struct job *job, const struct handle *x,
                     off_t size, const struct fuse_file_info *fi) {
    struct pending *p = pending_create(fs, req, ino, fi, size_set);
    if (!p)
        return;
    int rc = (p->job = malloc(sizeof *p->job)) ? 0 : -ENOMEM;
    if (rc == 0) {
        *p->job = *job;
        p->size = (size_t)size;
        rc = may_set_size(fs, job, x, size);
    }
    pending_result(p, rc ? rc : sched_truncate(fs->sched, job->id, (uint64_t)size, pending_done, p));
}

void attr_set(struct fs *fs, fuse_req_t req, fuse_ino_t ino, const struct stat *attr, int to_set,
              const struct fuse_file_info *fi) {
    const struct owner o = {.uid = to_set & FUSE_SET_ATTR_UID ? &attr->st_uid : NULL,
                            .gid = to_set & FUSE_SET_ATTR_GID ? &attr->st_gid : NULL,
                            .mode = to_set & FUSE_SET_ATTR_MODE ? &attr->st_mode : NULL,
                            .any = to_set & (FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID | FUSE_SET_ATTR_MODE)};
    if (ino_kind(ino) == KIND_JOBS) {
        set_group(fs, req, ino, &o);
        return;
    }
    const struct handle *x = fi ? handles_find(fs->handles, fi->fh) : NULL;
    struct job job;
    uint64_t id = x ? x->job : ino_id(ino);
    int rc = sched_job(fs->sched, id, &job);
    if (rc == 0 && o.uid && *o.uid != job.uid && others_write(fs, id, *o.uid))
        rc = -ETXTBSY;
    if (rc == 0 && o.gid && *o.gid != job.gid && is_lent(req, *o.gid))
        rc = -EPERM;
    if (rc == 0 && o.any)
        rc = sched_set_owner(fs->sched, id, o.uid, o.gid, o.mode);
    if (rc)
        reply_err(fs, req, stale(rc));
    else if (to_set & FUSE_SET_ATTR_SIZE)
        set_size(fs, req, ino, &job, x, attr->st_size, fi);
    else
        reply_job(fs, req, ino, id);
}
