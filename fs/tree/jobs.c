#include "fs/tree/jobs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "fs/session/body.h"
#include "fs/tree/attr.h"
#include "fs/tree/copies.h"
#include "fs/handles/handle.h"
#include "fs/session/pending.h"
#include "fs/tree/renames.h"
#include "fs/session/reply.h"
#include "fs/tree/tree.h"

/* --- groups, on four sides ------------------------------------------------------------------------------------- */
bool jobs_group_shows(struct fs *fs, enum kind side, const struct group *g) {
    struct tally t;
    if (side == KIND_JOBS || (side == KIND_INFO && !g->hidden))
        return !g->hidden;
    if (sched_tally(fs->sched, g->id, &t) != 0)
        return false;
    switch (side) {
    case KIND_RESULTS: return t.done > 0;
    case KIND_FAILURES: return t.failed > 0;
    default: return t.done + t.failed + t.cancelled + t.active > 0;
    }
}

/* An empty group is not listed but still found, so that `rm -r results/G` can remove the directory after its last
 * file. */
static bool is_there(fuse_ino_t dir, const struct group *g) {
    return ino_kind(dir) != KIND_JOBS || !g->hidden;
}

int jobs_find_group(struct fs *fs, fuse_ino_t dir, const char *name, struct group *g) {
    int rc = sched_find_group(fs->sched, ino_id(dir), name, g);
    return rc == 0 && !is_there(dir, g) ? -ENOENT : rc;
}

int jobs_dir_attr(struct fs *fs, fuse_ino_t ino, struct stat *st, double *timeout) {
    if (!ino_id(ino)) { /* where everyone may submit, each user removes only their own */
        tree_stat(st, fs->everyone ? 01777 : 0755, fs->uid, fs->gid, 0, fs->started);
        *timeout = 1;
        return 0;
    }
    struct group g;
    int rc = sched_group(fs->sched, ino_id(ino), &g);
    if (rc)
        return rc;
    if (!is_there(ino, &g))
        return -ENOENT;
    tree_stat(st, g.mode & 07777, g.uid, g.gid, 0, g.created ? g.created : fs->started);
    return 0;
}

int jobs_rmdir(struct fs *fs, fuse_ino_t dir, const char *name) {
    static const enum job_shelf side[KINDS] = {[KIND_JOBS] = SHELF_JOBS,
                                               [KIND_RESULTS] = SHELF_RESULTS,
                                               [KIND_FAILURES] = SHELF_FAILURES,
                                               [KIND_INFO] = SHELF_GONE};
    struct group g;
    fuse_ino_t ino;
    int rc = jobs_find_group(fs, dir, name, &g);
    if (rc == -ENOENT && tree_lookup(fs, dir, name, &ino) == 0)
        return -ENOTDIR;
    if (rc == 0 && g.array && ino_kind(dir) == KIND_JOBS) /* what has not ended in it is cancelled */
        rc = attr_may_remove(fs, &(struct job){.uid = g.uid, .group = g.parent});
    return rc ? rc : sched_rmgroup(fs->sched, g.id, side[ino_kind(dir)]);
}

/* --- names ----------------------------------------------------------------------------------------------------- */
/* What jobs/NAME is: the draft, else the current job while it has not ended. */
int jobs_find(struct fs *fs, fuse_ino_t dir, const char *name, struct job *job) {
    int rc = sched_find(fs->sched, ino_id(dir), name, true, job);
    if (rc == -ENOENT)
        rc = sched_find(fs->sched, ino_id(dir), name, false, job);
    return rc == 0 && job->shelf != SHELF_JOBS ? -ENOENT : rc;
}

int jobs_lookup(struct fs *fs, fuse_ino_t dir, const char *name, fuse_ino_t *out) {
    const struct kind_ops *k = tree_kind(fs, dir);
    struct group g;
    struct job job;
    if (jobs_find_group(fs, dir, name, &g) == 0) {
        *out = ino_make(g.id, ino_kind(dir));
        return 0;
    }
    int rc = k->find(fs, dir, name, &job);
    if (rc == 0)
        *out = ino_make(job.id, k->leaf);
    return rc;
}

int jobs_unlink(struct fs *fs, fuse_ino_t dir, const char *name) {
    struct group g;
    struct job job;
    int rc = jobs_find(fs, dir, name, &job);
    if (rc == -ENOENT && jobs_find_group(fs, dir, name, &g) == 0)
        return -EISDIR;
    if (rc == 0)
        rc = attr_may_remove(fs, &job);
    return rc ? rc : sched_cancel(fs->sched, job.id, fs->now.uid);
}

/* The owner of a directory may move the drafts of others in it, but not submit them. */
static int may_rename(struct fs *fs, fuse_ino_t dir, const char *name, fuse_ino_t to_dir, const char *to_name) {
    struct job job;
    int rc = strcmp(to_name, ".options") ? 0 : sched_may_set_options(fs->sched, ino_id(to_dir), fs->now.uid);
    if (rc)
        return rc;
    if (sched_find(fs->sched, ino_id(dir), name, true, &job) < 0)
        return sched_find(fs->sched, ino_id(dir), name, false, &job) < 0 ? 0 : attr_may_remove(fs, &job);
    if (fs->now.uid != 0 && fs->now.uid != job.uid && !sched_name_is_draft(fs->sched, ino_id(to_dir), to_name))
        return -EPERM;
    return attr_may_remove(fs, &job);
}

/* Whether something may be made by that name: not what is a file of ppfs's own in each group's info/, and .options is
 * no directory. */
static int name_allowed(struct fs *fs, const char *name, bool directory) {
    bool own = directory && strcmp(name, ".options") == 0;
    for (unsigned k = 1; k < KINDS && !own; k++)
        own = fs->kinds[k].parent == KIND_INFO && fs->kinds[k].name && strcmp(fs->kinds[k].name, name) == 0;
    return own ? -EPERM : 0; /* mv(1) takes EINVAL for a directory moved into itself */
}

static void renamed(struct pending *p, int rc) {
    if (rc)
        renames_end(p->fs, fuse_req_ctx(p->req)->pid);
    reply_err(p->fs, p->req, rc);
}

/* mv failures/x jobs/x. It never fails with EXDEV, because mv would then copy the text of the failure. */
static int run_again(struct pending *p, uid_t uid, uint64_t group, const char *name, const char *to_name,
                     unsigned flags) {
    struct fs *fs = p->fs;
    struct group g;
    struct job job;
    if ((flags & ~(unsigned)RENAME_NOREPLACE) || strlen(to_name) > JOB_NAME_MAX)
        return flags & ~(unsigned)RENAME_NOREPLACE ? -EINVAL : -ENAMETOOLONG;
    if ((fs->uid != 0 && uid != fs->uid) || sched_find_group(fs->sched, group, name, &g) == 0)
        return -EPERM;
    int rc = sched_find(fs->sched, group, name, false, &job);
    if (rc == 0 && uid != 0 && uid != job.uid)
        rc = -EPERM; /* it would run as its writer, who did not ask for that */
    if (rc == 0)
        rc = sched_run_again(fs->sched, job.id, ino_id(p->ino), to_name, flags & RENAME_NOREPLACE, pending_done, p);
    return rc;
}

static int rename_group(struct pending *p, const struct group *g, const char *to_name, unsigned flags) {
    fuse_ino_t ino;
    if ((flags & RENAME_NOREPLACE) && tree_lookup(p->fs, p->ino, to_name, &ino) == 0)
        return -EEXIST;
    return sched_rename_group(p->fs->sched, g->id, ino_id(p->ino), to_name, p->fs->now.uid, pending_done, p);
}

void jobs_rename(struct fs *fs, fuse_req_t req, fuse_ino_t dir, const char *name, fuse_ino_t to_dir,
                 const char *to_name, unsigned flags) {
    struct pending *p = pending_create(fs, req, to_dir, NULL, renamed);
    struct group g;
    fuse_ino_t ino;
    int rc;
    if (!p)
        return;
    renames_note(fs, fuse_req_ctx(req)->pid, ino_id(to_dir), to_name);
    bool group = jobs_find_group(fs, dir, name, &g) == 0;
    if (ino_kind(dir) == KIND_FAILURES && ino_kind(to_dir) == KIND_JOBS)
        rc = run_again(p, fuse_req_ctx(req)->uid, ino_id(dir), name, to_name, flags);
    else if (ino_kind(dir) != ino_kind(to_dir))
        rc = -EXDEV;
    else if (ino_kind(dir) != KIND_JOBS)
        rc = -EPERM;
    else if (flags & ~(unsigned)RENAME_NOREPLACE)
        rc = -EINVAL;
    else if (strlen(to_name) > JOB_NAME_MAX)
        rc = -ENAMETOOLONG;
    else if ((rc = name_allowed(fs, to_name, group)) < 0)
        ;
    else if (group)
        rc = rename_group(p, &g, to_name, flags);
    else if ((rc = may_rename(fs, dir, name, to_dir, to_name)) == 0)
        rc = sched_rename(fs->sched, ino_id(dir), name, ino_id(to_dir), to_name, flags & RENAME_NOREPLACE,
                          fs->now.again, pending_done, p);
    if (rc == -ENOENT && fs->now.again && tree_lookup(fs, to_dir, to_name, &ino) == 0)
        rc = 0; /* an earlier daemon did it */
    pending_result(p, rc);
}

/* --- making and opening ---------------------------------------------------------------------------------------- */
/* Jobs run as their writer only if the daemon is root; otherwise only the daemon's own user may submit. */
static int writer_of(struct fs *fs, fuse_req_t req, fuse_ino_t dir, const char *name, mode_t mode, struct writer *w) {
    const struct fuse_ctx *c = fuse_req_ctx(req);
    if (ino_kind(dir) != KIND_JOBS || (fs->uid != 0 && c->uid != fs->uid))
        return -EPERM;
    if (name && strlen(name) > JOB_NAME_MAX)
        return -ENAMETOOLONG;
    *w = (struct writer){.uid = c->uid,
                         .gid = c->gid,
                         .pid = c->pid,
                         .mode = mode & ~c->umask & 0777, /* the kernel leaves it to us, see op_init */
                         .request = fs->now.unique,
                         .again = fs->now.again,
                         .copies = copies_of(fs, c->pid)};
    int rc = name ? name_allowed(fs, name, S_ISDIR(mode)) : 0;
    return rc == 0 && fs->uid == 0 ? sched_own_group(c->pid, w->uid, &w->gid) : rc;
}

static void created(struct pending *p, int rc) {
    /* Until its writer closes the draft, every change of it goes through the kernel, so its attributes may be cached,
     * which saves a GETATTR before the WRITE. Its name may not: a file with array= becomes a directory. */
    struct fuse_entry_param e = {.attr_timeout = 1};
    if (rc == 0) {
        e.ino = ino_make(p->job->id, KIND_JOB);
        rc = handle_open(p->fs, p->req, &p->fi, p->unique, e.ino, p->job->id, HANDLE_WRITER);
    }
    if (rc) {
        handle_close(p->fs, p->unique);
        reply_err(p->fs, p->req, rc);
        return;
    }
    attr_stat(p->fs, p->job, e.ino, &e.attr);
    reply_create(p->fs, p->req, &e, &p->fi);
}

/* With O_EXCL a name that has had its job is refused, so that a repeated submission runs once. This is meant for
 * programs that make a new file: they ask for mode 0666 or 0777 (a shell with set -C, open(x, "x")), or for a mode that
 * nobody can read yet (the package ppfs). Any other mode is taken as that of a copied or unpacked file: cp, mv, install
 * and tar use O_EXCL for every name that does not exist, so for them a name that has left jobs/ is written again. */
static bool brings_mode(mode_t mode) {
    return (mode & 0777) != 0666 && (mode & 0777) != 0777 && (mode & 0444);
}

void jobs_create(struct fs *fs, fuse_req_t req, fuse_ino_t dir, const char *name, mode_t mode,
                 struct fuse_file_info *fi) {
    struct pending *p = pending_create(fs, req, dir, fi, created);
    struct writer w;
    if (!p)
        return;
    p->job = calloc(1, sizeof *p->job);
    int rc = p->job ? writer_of(fs, req, dir, name, mode, &w) : -ENOMEM;
    w.temporary = rc == 0 && (fi->flags & (O_EXCL | O_ACCMODE)) == (O_EXCL | O_RDWR) && (mode & 0777) == 0600;
    if (rc == 0)
        rc = handle_room(fs, req); /* before a draft is made that could not be written */
    if (rc == 0)
        rc = sched_create_draft(fs->sched, ino_id(dir), name, fi->flags & O_EXCL, &w, p->job);
    struct job there;
    if (rc == -EEXIST && (fi->flags & O_EXCL) && brings_mode(mode) && jobs_find(fs, dir, name, &there) == -ENOENT)
        rc = sched_create_draft(fs->sched, ino_id(dir), name, false, &w, p->job);
    if (rc == 0 && brings_mode(mode)) /* install(1) then looks the name up and sets its mode */
        renames_note(fs, fuse_req_ctx(req)->pid, ino_id(dir), name);
    if (rc == 0 && (fi->flags & O_TRUNC) && body_size(fs, p->job->id, BODY_SPEC))
        rc = sched_truncate(fs->sched, p->job->id, 0, pending_done, p);
    pending_result(p, rc);
}

void jobs_mknod(struct fs *fs, fuse_req_t req, fuse_ino_t dir, const char *name, mode_t mode) {
    struct writer w;
    struct job job;
    int rc = S_ISREG(mode) ? writer_of(fs, req, dir, name, mode, &w) : -EPERM;
    if (rc == 0)
        rc = sched_create_draft(fs->sched, ino_id(dir), name, true, &w, &job);
    tree_reply(fs, req, rc, ino_make(rc ? 0 : job.id, KIND_JOB));
}

void jobs_mkdir(struct fs *fs, fuse_req_t req, fuse_ino_t dir, const char *name, mode_t mode) {
    struct writer w;
    struct group g;
    int rc = writer_of(fs, req, dir, name, mode | S_IFDIR, &w);
    if (rc == 0) {
        w.mode = mode & ~fuse_req_ctx(req)->umask & 07777;
        rc = sched_mkgroup(fs->sched, ino_id(dir), name, &w, &g);
    }
    tree_reply(fs, req, rc, ino_make(rc ? 0 : g.id, KIND_JOBS));
}

/* The draft may be another job than the opened one, which stays queued until the draft is released. */
static void opened(struct pending *p, int rc) {
    if (rc == 0)
        rc = handle_open(p->fs, p->req, &p->fi, p->unique, p->ino, p->job->id, HANDLE_WRITER);
    if (rc) {
        handle_close(p->fs, p->unique);
        reply_err(p->fs, p->req, stale(rc));
    } else {
        reply_open(p->fs, p->req, &p->fi);
    }
}

void jobs_open(struct fs *fs, fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi) {
    struct job job;
    int rc = sched_job(fs->sched, ino_id(ino), &job);
    bool reads = (fi->flags & O_ACCMODE) == O_RDONLY;
    if (rc == 0 && job.shelf != SHELF_JOBS && !(reads && attr_is_there_for(fs, req, &job)))
        rc = -ENOENT;
    if (rc) {
        renames_end(fs, fuse_req_ctx(req)->pid); /* the bytes written there now are a new job's */
        reply_err(fs, req, stale(rc));
        return;
    }
    if (reads) {
        fi->fh = fs->now.unique;
        fi->noflush = 1;
        reply_open(fs, req, fi);
        return;
    }
    struct writer w;
    struct pending *p = pending_create(fs, req, ino, fi, opened);
    if (!p)
        return;
    p->job = calloc(1, sizeof *p->job);
    rc = p->job ? writer_of(fs, req, ino_make(0, KIND_JOBS), NULL, job.mode, &w) : -ENOMEM;
    w.append = fi->flags & O_APPEND;
    if (rc == 0)
        rc = handle_room(fs, req);
    pending_result(p, rc ? rc : sched_open_draft(fs->sched, job.id, fi->flags & O_TRUNC, &w, p->job, pending_done, p));
}

void jobs_read(struct fs *fs, fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi) {
    body_read(fs, req, &(struct body_part){.job = handle_job(fs, ino, fi), .body = BODY_SPEC}, size, off);
}
