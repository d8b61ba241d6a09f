#include "fs/tree/results.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "fs/session/body.h"
#include "fs/session/cache.h"
#include "fs/handles/handle.h"
#include "fs/tree/attr.h"
#include "fs/tree/jobs.h"
#include "fs/session/reply.h"
#include "fs/tree/tree.h"
#include "fs/session/wait.h"

#define STDERR_SHOWN (64u * 1024u)

int results_newest(struct fs *fs, uint64_t id, struct job *job) {
    return sched_newest(fs->sched, id, fs->now.uid, fs->now.gid, job);
}

int results_find(struct fs *fs, fuse_ino_t dir, const char *name, struct job *job) {
    uint64_t group = ino_id(dir);
    int rc = sched_find(fs->sched, group, name, false, job);
    if (rc == -ENOENT)
        rc = sched_find_element(fs->sched, group, name, job);
    if (rc == -ENOENT && (ino_kind(dir) == KIND_INFO || !sched_name_is_draft(fs->sched, group, name)))
        rc = sched_find(fs->sched, group, name, true, job);
    return rc;
}

static int job_error(const struct job *j) {
    if (j->state == JOB_DONE)
        return 0;
    if (j->error > 0)
        return -j->error;
    return j->state == JOB_CANCELLED ? -ECANCELED : -EIO;
}

int results_attr(struct fs *fs, fuse_ino_t ino, struct stat *st, double *timeout) {
    struct job j;
    int rc = sched_job(fs->sched, ino_id(ino), &j); /* a forgotten job is found for its open readers */
    /* such a job has no reader of its result */
    if (rc == -ENOENT || (rc == 0 && j.shelf == SHELF_ORPHAN && j.state != JOB_DONE))
        rc = results_newest(fs, ino_id(ino), &j);
    if (rc == 0 && j.shelf == SHELF_ORPHAN && j.state != JOB_DONE)
        rc = -ENOENT;
    if (rc == 0 && job_ended(j.state))
        rc = job_error(&j);
    if (rc)
        return rc;
    bool done = j.state == JOB_DONE;
    tree_stat(st, j.mode & 0444, j.uid, j.gid, done ? body_size(fs, j.id, job_result_body(j.kind)) : 0,
              j.ended ? j.ended : j.created);
    if (done && j.id == ino_id(ino))
        *timeout = cache_timeout(fs, ino);
    return 0;
}

/* A stream's answers are read while they come. */
static bool grows(const struct job *j) {
    return job_is_stream(j) && !job_ended(j->state);
}

/* ino: the job that has the name now; off: 1 if that is not the one looked up. After ESTALE the kernel looks a name up
 * again only once, so a name that was written again is opened here as its new job. */
static bool open_retry(struct fs *fs, fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
                       struct fuse_file_info *fi) {
    struct job j;
    int rc = results_newest(fs, ino_id(ino), &j);
    bool other = off || (rc == 0 && j.id != ino_id(ino));
    if (rc == 0 && !job_ended(j.state) && !(fi->flags & O_NONBLOCK) && !grows(&j)) {
        if (j.id != ino_id(ino))
            wait_move(fs, (struct wait_key){.id = j.id}, ino_make(j.id, KIND_RESULT), 1);
        return false;
    }
    if (rc == -ENOENT || (rc == 0 && j.shelf == SHELF_ORPHAN))
        rc = -ESTALE;
    if (rc == 0 && job_ended(j.state))
        rc = job_error(&j);
    bool pending = rc == 0 && !job_ended(j.state);
    bool live = pending && grows(&j);
    unsigned flags = pending && !live ? HANDLE_NONBLOCK : 0;
    if (rc == 0)
        rc = handle_open(fs, req, fi, fi->fh, ino, j.id, live ? HANDLE_LIVE : flags);
    if (rc) {
        handle_close(fs, fi->fh);
        reply_err(fs, req, rc);
        return true;
    }
    fi->noflush = 1;
    fi->nonseekable = live;
    fi->direct_io = pending || other; /* the kernel's pages of the inode are those of the job that was looked up */
    fi->keep_cache = !fi->direct_io;
    reply_open(fs, req, fi);
    return true;
}

void results_open(struct fs *fs, fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi) {
    fi->fh = fs->now.unique; /* for handle_open, which may come much later */
    struct job j;
    uint64_t id = results_newest(fs, ino_id(ino), &j) == 0 ? j.id : ino_id(ino);
    wait_until(fs, req, (struct wait_key){.id = id}, open_retry, ino_make(id, KIND_RESULT), 0, id != ino_id(ino), fi);
}

static bool read_retry(struct fs *fs, fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
                       struct fuse_file_info *fi) {
    struct job j;
    int rc = sched_job(fs->sched, ino_id(ino), &j);
    uint64_t have = rc == 0 && job_is_stream(&j) ? body_size(fs, j.id, BODY_RESULT) : 0, at = (uint64_t)off;
    bool more = at < have; /* also for a cancelled stream: its answers until then */
    if (rc == 0 && !more)
        rc = job_ended(j.state) ? job_error(&j) : -EAGAIN;
    if (rc == -EAGAIN && grows(&j) && !(fi->flags & O_NONBLOCK))
        return false;
    struct handle *x = more ? handles_find(fs->handles, fi->fh) : NULL;
    if (x)
        x->seen = size < have - at ? at + size : have;
    if (rc)
        reply_err(fs, req, stale(rc));
    else
        body_read(fs, req, &(struct body_part){.job = j.id, .body = job_result_body(j.kind)}, size, off);
    return true;
}

void results_read(struct fs *fs, fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi) {
    uint64_t id = handle_job(fs, ino, fi);
    wait_until(fs, req, (struct wait_key){.id = id}, read_retry, ino_make(id, KIND_RESULT), size, off, fi);
}

bool results_ready(struct fs *fs, const struct handle *h) {
    struct job j;
    return sched_job(fs->sched, h->job, &j) != 0 || job_ended(j.state) ||
           (grows(&j) && h->seen < body_size(fs, j.id, BODY_RESULT));
}

int results_forget(struct fs *fs, const struct job *job) {
    return sched_forget(fs->sched, job->id, handles_first(fs->handles, job->id) != NULL);
}

int results_unlink(struct fs *fs, fuse_ino_t dir, const char *name) {
    struct group g;
    struct job job;
    if (jobs_find_group(fs, dir, name, &g) == 0)
        return -EISDIR;
    int rc = sched_find(fs->sched, ino_id(dir), name, false, &job);
    if (rc == 0 && ino_kind(dir) == KIND_FAILURES && job.shelf != SHELF_FAILURES)
        rc = -ENOENT;
    if (rc == 0)
        rc = attr_may_remove(fs, &job);
    return rc ? rc : results_forget(fs, &job);
}

/* --- failures/ ------------------------------------------------------------------------------------------------- */
struct failure { /* a failures/ file: the reason, then the traceback or the end of stderr */
    char why[JOB_WHY_MAX + 512];
    struct body_part part;
    uint64_t size;
};

static int failure_read(struct fs *fs, fuse_ino_t ino, struct job *j, struct failure *f) {
    int rc = sched_job(fs->sched, ino_id(ino), j);
    if (rc == -ENOENT)
        rc = results_newest(fs, ino_id(ino), j);
    if (rc == 0 && j->state != JOB_FAILED)
        rc = -ENOENT;
    if (rc)
        return rc;
    sched_why(fs->sched, j, f->why, sizeof f->why - 2);
    strcat(f->why, "\n");
    uint64_t trace = body_size(fs, j->id, BODY_TRACE), rest = trace ? trace : body_size(fs, j->id, BODY_STDERR);
    uint64_t skip = !trace && rest > STDERR_SHOWN ? rest - STDERR_SHOWN : 0;
    if (rest)
        strcat(f->why, "\n");
    f->part = (struct body_part){.job = j->id,
                                 .body = trace ? BODY_TRACE : BODY_STDERR,
                                 .prefix = f->why,
                                 .prefix_size = strlen(f->why),
                                 .base = skip};
    f->size = f->part.prefix_size + rest - skip;
    return 0;
}

int failures_find(struct fs *fs, fuse_ino_t dir, const char *name, struct job *job) {
    int rc = sched_find(fs->sched, ino_id(dir), name, false, job);
    return rc == 0 && job->shelf != SHELF_FAILURES ? -ENOENT : rc;
}

int failures_attr(struct fs *fs, fuse_ino_t ino, struct stat *st, double *timeout) {
    struct failure f;
    struct job j;
    int rc = failure_read(fs, ino, &j, &f);
    if (rc)
        return rc;
    tree_stat(st, j.mode & 0444, j.uid, j.gid, f.size, j.ended);
    if (j.id == ino_id(ino))
        *timeout = cache_timeout(fs, ino);
    return 0;
}

void failures_open(struct fs *fs, fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi) {
    struct job j;
    int rc = results_newest(fs, ino_id(ino), &j);
    if (rc == 0 && j.shelf != SHELF_FAILURES)
        rc = -ENOENT;
    if (rc == 0)
        rc = handle_open(fs, req, fi, fs->now.unique, ino, j.id, 0);
    if (rc) {
        reply_err(fs, req, stale(rc));
        return;
    }
    fi->noflush = 1;
    fi->direct_io = j.id != ino_id(ino); /* see open_retry */
    fi->keep_cache = !fi->direct_io;
    reply_open(fs, req, fi);
}

void failures_read(struct fs *fs, fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi) {
    struct failure f;
    struct job j;
    int rc = failure_read(fs, ino_make(handle_job(fs, ino, fi), KIND_FAILURE), &j, &f);
    if (rc)
        reply_err(fs, req, stale(rc));
    else
        body_read(fs, req, &f.part, size, off);
}
