#include "fs/tree/info.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <string.h>

#include "fs/session/body.h"
#include "fs/session/cache.h"
#include "fs/tree/copies.h"
#include "fs/handles/handle.h"
#include "fs/tree/attr.h"
#include "fs/tree/jobs.h"
#include "fs/session/reply.h"
#include "fs/tree/results.h"
#include "fs/tree/text.h"
#include "fs/tree/tree.h"
#include "fs/session/wait.h"
#include "net/printable.h"

static enum job_body body_of(enum kind k) {
    switch (k) {
    case KIND_STDOUT: return BODY_STDOUT;
    case KIND_STDERR: return BODY_STDERR;
    default: return BODY_SPEC;
    }
}

static bool has_body(enum kind k) {
    return k == KIND_STDOUT || k == KIND_STDERR || k == KIND_SPEC;
}

/* Whether the file may still grow, so that its readers wait at the present end. */
static bool is_live(struct fs *fs, enum kind k, const struct job *j) {
    return k != KIND_SPEC && (!job_ended(j->state) || sched_ending(fs->sched, j));
}

/* The job that has the name now: it may have been written again since the kernel looked it up. */
static int find(struct fs *fs, fuse_ino_t ino, struct job *out) {
    int rc = results_newest(fs, ino_id(ino), out);
    return rc == 0 && out->shelf == SHELF_ORPHAN ? -ENOENT : rc;
}

int info_attr(struct fs *fs, fuse_ino_t ino, struct stat *st, double *timeout) {
    enum kind k = ino_kind(ino);
    struct job j;
    int rc = sched_job(fs->sched, ino_id(ino), &j);
    /* those with a body stay for readers that have them open */
    if (rc == -ENOENT || (rc == 0 && j.shelf == SHELF_ORPHAN && !has_body(k)))
        rc = find(fs, ino, &j);
    if (rc)
        return rc;
    mode_t mode = j.mode & 0444;
    if (k == KIND_INFO_JOB)
        mode |= mode >> 2 | 0700;
    if (k == KIND_PRIORITY || k == KIND_HOLD)
        mode |= 0200;
    uint64_t size = has_body(k) ? body_size(fs, j.id, body_of(k)) : 0;
    tree_stat(st, mode, j.uid, j.gid, size, j.ended ? j.ended : j.created);
    if (j.id != ino_id(ino))
        return 0;
    if (job_ended(j.state) && k == KIND_INFO_JOB)
        *timeout = cache_timeout(fs, ino);
    else if (job_ended(j.state) && !sched_ending(fs->sched, &j) && !tree_kind(fs, ino)->set)
        *timeout = 1; /* the values stay; the directory's mode says who may see them */
    return 0;
}

/* rm -r removes the files of a directory before the directory, and only the latter forgets the job. So removing a file
 * succeeds, and changes nothing, if the job may be forgotten. */
static int group_may_go(struct fs *fs, uint64_t group) {
    struct tally t;
    int rc = group ? sched_tally(fs->sched, group, &t) : -EPERM;
    return rc == 0 && t.active ? -EBUSY : rc;
}

int info_unlink(struct fs *fs, fuse_ino_t dir, const char *name) {
    struct job job;
    int rc = sched_job(fs->sched, ino_id(dir), &job);
    if (rc == 0 && job_is_options(&job))
        return group_may_go(fs, job.group);
    return rc == 0 && !job_ended(job.state) ? -EBUSY : rc;
}

/* No other name in a group's directory is a file. */
int info_group_unlink(struct fs *fs, fuse_ino_t dir, const char *name) {
    return group_may_go(fs, ino_id(dir));
}

int info_rmdir(struct fs *fs, fuse_ino_t dir, const char *name) {
    struct job job;
    int rc = jobs_rmdir(fs, dir, name);
    if (rc != -ENOTDIR)
        return rc;
    rc = results_find(fs, dir, name, &job);
    if (rc)
        return rc == -ENOENT ? -ENOTDIR : rc;
    rc = attr_may_remove(fs, &job);
    if (rc == 0 && job_is_options(&job)) /* with the other ended jobs of its group */
        rc = group_may_go(fs, job.group);
    if (rc)
        return rc;
    if (job_is_options(&job))
        return sched_cancel(fs->sched, job.id, fs->now.uid);
    return job_ended(job.state) ? results_forget(fs, &job) : -EBUSY;
}

/* --- values ---------------------------------------------------------------------------------------------------- */
static void print_time(FILE *out, const char *name, int64_t us) {
    if (!us)
        return;
    fprintf(out, "%s ", name);
    text_time(out, us);
}

static void print_exit(FILE *out, const struct job *j) {
    if (!job_ended(j->state) || !j->started)
        return;
    if (j->state == JOB_CANCELLED && !j->exit_signal && !j->exit_status)
        return; /* its exit status was never collected */
    const char *name = j->exit_signal ? sigabbrev_np(j->exit_signal) : NULL;
    if (name)
        fprintf(out, "SIG%s\n", name);
    else
        fprintf(out, j->exit_signal ? "signal %d\n" : "%d\n", j->exit_signal ? j->exit_signal : j->exit_status);
}

int info_text(struct fs *fs, fuse_ino_t ino, FILE *out) {
    char why[JOB_WHY_MAX + 512] = "";
    struct job j;
    int rc = find(fs, ino, &j);
    if (rc)
        return rc;
    switch (ino_kind(ino)) {
    case KIND_STATE: fprintf(out, "%s\n", job_state_name(j.state)); break;
    case KIND_WHY:
        sched_why(fs->sched, &j, why, sizeof why);
        sched_why_more(fs->sched, &j, why, sizeof why);
        if (why[0])
            fprintf(out, "%s\n", why);
        break;
    case KIND_EXIT: print_exit(out, &j); break;
    case KIND_ATTEMPT: fprintf(out, "%" PRIu32 "\n", j.attempt); break;
    case KIND_NODE_OF:
        snprintf(why, sizeof why, "%s", sched_node_of(fs->sched, &j));
        printable(why, sizeof why);
        if (why[0])
            fprintf(out, "%s\n", why);
        break;
    case KIND_TIMES:
        print_time(out, "created", j.created);
        print_time(out, "queued", j.queued);
        print_time(out, "started", j.started);
        print_time(out, "ended", j.ended);
        break;
    case KIND_USAGE:
        if (!job_is_stream(&j)) /* its calls run in workers that run others, too */
            fprintf(out, "user %.6f\nsystem %.6f\nmaxrss %" PRId64 " KiB\n", (double)j.user_us / 1e6,
                    (double)j.system_us / 1e6, j.maxrss_kib);
        break;
    case KIND_PRIORITY: fprintf(out, "%d\n", j.priority); break;
    case KIND_HOLD: fprintf(out, "%d\n", j.state == JOB_HELD); break;
    default: return -EINVAL;
    }
    return 0;
}

int info_set(struct fs *fs, fuse_ino_t ino, const char *value) {
    long n;
    struct job j;
    int rc = text_number(value, &n);
    if (rc == 0)
        rc = find(fs, ino, &j);
    if (rc)
        return rc;
    if (ino_kind(ino) == KIND_HOLD)
        rc = n != 0 && n != 1 ? -EINVAL : sched_set_hold(fs->sched, j.id, n);
    else
        rc = n < INT_MIN || n > INT_MAX ? -EINVAL : sched_set_priority(fs->sched, j.id, (int)n);
    return rc;
}

/* --- live files ------------------------------------------------------------------------------------------------ */
static bool is_output(enum kind k) {
    return k == KIND_STDOUT || k == KIND_STDERR;
}

/* off: 1 if ino is that of a job that took the name after the look-up. Output has its present size, and the open waits
 * for its first byte, so that tail(1) shows the last lines and follows instead of reading to the end first. */
static bool open_retry(struct fs *fs, fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
                       struct fuse_file_info *fi) {
    struct job j;
    enum kind k = ino_kind(ino);
    int rc = find(fs, ino, &j);
    bool live = rc == 0 && (k == KIND_WAIT || is_live(fs, k, &j));
    bool other = off || (rc == 0 && j.id != ino_id(ino));
    if (live && is_output(k) && !(fi->flags & O_NONBLOCK) && !body_size(fs, j.id, body_of(k))) {
        if (j.id != ino_id(ino))
            wait_move(fs, (struct wait_key){.id = j.id}, ino_make(j.id, k), 1);
        return false;
    }
    if (rc == 0)
        rc = handle_open(fs, req, fi, fi->fh, ino, j.id, live ? HANDLE_LIVE : 0);
    if (rc) {
        handle_close(fs, fi->fh);
        reply_err(fs, req, stale(rc));
        return true;
    }
    if (k == KIND_SPEC)
        copies_opened(fs, fuse_req_ctx(req)->pid, fi->fh, j.id);
    fi->nonseekable = live && !is_output(k);
    fi->direct_io = live || other; /* the kernel's pages of the inode are those of the job that was looked up */
    fi->keep_cache = !fi->direct_io && job_ended(j.state);
    reply_open(fs, req, fi);
    return true;
}

void info_open(struct fs *fs, fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi) {
    enum kind k = ino_kind(ino);
    fi->noflush = 1;
    fi->fh = fs->now.unique;
    struct job j;
    bool found = find(fs, ino, &j) == 0;
    uint64_t id = found ? j.id : ino_id(ino);
    if (found && k == KIND_SPEC && j.state == JOB_CANCELLED && job_is_stream(&j)) { /* sched_cancel has freed it */
        reply_err(fs, req, -ENODATA);
        return;
    }
    wait_until(fs, req, (struct wait_key){.id = id}, open_retry, ino_make(id, k), 0, id != ino_id(ino), fi);
}

/* The job that an open file reads: if its name was written again before the reader has read a byte, the new job from
 * here on. -ESTALE: it has gone. */
static int reads(struct fs *fs, fuse_ino_t ino, off_t off, const struct fuse_file_info *fi, struct job *j) {
    uint64_t id = handle_job(fs, ino, fi);
    int rc = sched_job(fs->sched, id, j);
    if (rc == -ENOENT && off == 0 && find(fs, ino_make(id, ino_kind(ino)), j) == 0) {
        const struct handle *old = handles_find(fs->handles, fi->fh);
        uint32_t uid = old ? old->uid : fs->uid;
        struct handle *x = handles_put(fs->handles, fi->fh, ino, j->id, HANDLE_LIVE | HANDLE_CONFIRMED);
        rc = x ? 0 : -ENFILE;
        if (x)
            handles_own(fs->handles, x, uid);
        wait_move(fs, (struct wait_key){.id = j->id}, ino, 0);
    }
    return stale(rc);
}

static bool read_retry(struct fs *fs, fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
                       struct fuse_file_info *fi) {
    struct job j;
    enum job_body body = body_of(ino_kind(ino));
    int rc = reads(fs, ino, off, fi, &j);
    if (rc) {
        reply_err(fs, req, rc);
        return true;
    }
    uint64_t have = body_size(fs, j.id, body), at = (uint64_t)off, left = at < have ? have - at : 0;
    if (!left && is_live(fs, ino_kind(ino), &j)) {
        if (!(fi->flags & O_NONBLOCK))
            return false;
        reply_err(fs, req, -EAGAIN);
        return true;
    }
    struct handle *x = handles_find(fs->handles, fi->fh);
    if (x)
        x->seen = at + (size < left ? size : left);
    body_read(fs, req, &(struct body_part){.job = j.id, .body = body}, size, off);
    return true;
}

void info_read(struct fs *fs, fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi) {
    struct job j;
    const struct handle *x = handles_find(fs->handles, fi->fh);
    /* sendfile(2) and mappings end at the present size, unlike read(2) */
    if (x && (x->flags & HANDLE_LIVE) && !fi->lock_owner) {
        reply_err(fs, req, -EINVAL);
        return;
    }
    uint64_t id = reads(fs, ino, off, fi, &j) == 0 ? j.id : ino_id(ino);
    wait_until(fs, req, (struct wait_key){.id = id}, read_retry, ino, size, off, fi);
}

static bool wait_retry_job(struct fs *fs, fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
                           struct fuse_file_info *fi) {
    struct job j;
    char *text = NULL;
    int rc = reads(fs, ino, 0, fi, &j);
    if (rc == 0 && is_live(fs, KIND_WAIT, &j)) {
        if (!(fi->flags & O_NONBLOCK))
            return false;
        rc = -EAGAIN;
    }
    int n = rc ? 0 : asprintf(&text, "%s\n", job_state_name(j.state));
    if (rc || n < 0)
        reply_err(fs, req, rc ? rc : -ENOMEM);
    else
        text_answer(fs, req, fi->fh, text, (size_t)n, size, off);
    return true;
}

void info_wait(struct fs *fs, fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi) {
    struct job j;
    uint64_t id = reads(fs, ino, 0, fi, &j) == 0 ? j.id : ino_id(ino);
    wait_until(fs, req, (struct wait_key){.id = id}, wait_retry_job, ino, size, off, fi);
}

bool info_ready(struct fs *fs, const struct handle *h) {
    struct job j;
    enum kind k = ino_kind(h->ino);
    return sched_job(fs->sched, h->job, &j) != 0 || !is_live(fs, KIND_WAIT, &j) ||
           (has_body(k) && h->seen < body_size(fs, j.id, body_of(k)));
}

/* --- groups ---------------------------------------------------------------------------------------------------- */
int info_group_attr(struct fs *fs, fuse_ino_t ino, struct stat *st, double *timeout) {
    int rc = jobs_dir_attr(fs, ino_make(ino_id(ino), KIND_INFO), st, timeout);
    st->st_mode = tree_kind(fs, ino)->set ? 0666 : 0444; /* everybody may write, each about his own */
    *timeout = 0;
    return rc;
}

/* At the end, and only if some were cancelled, so that programs find the other numbers in their places. */
static const char *cancelled_text(const struct tally *t, char buf[48]) {
    buf[0] = 0;
    if (t->cancelled)
        snprintf(buf, 48, " cancelled %" PRIu64, t->cancelled);
    return buf;
}

static bool not_ok(fuse_ino_t ino, const struct tally *t) {
    return ino_kind(ino) == KIND_GROUP_OK && (t->failed || t->cancelled);
}

/* .ok waits here, .wait when it is read. */
static bool open_retry_group(struct fs *fs, fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
                             struct fuse_file_info *fi) {
    struct group g;
    struct tally t = {0};
    int rc = sched_group(fs->sched, ino_id(ino), &g);
    if (rc == 0)
        rc = sched_tally(fs->sched, g.id, &t);
    if (rc == 0 && t.active && ino_kind(ino) == KIND_GROUP_OK && !(fi->flags & O_NONBLOCK))
        return false;
    if (rc == 0 && !t.active && not_ok(ino, &t))
        rc = -EIO;
    if (rc == 0)
        rc = handle_open(fs, req, fi, fi->fh, ino, g.id, HANDLE_LIVE);
    if (rc)
        reply_err(fs, req, stale(rc));
    else
        reply_open(fs, req, fi);
    return true;
}

void info_group_open(struct fs *fs, fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi) {
    fi->noflush = fi->direct_io = fi->nonseekable = 1;
    fi->fh = fs->now.unique;
    wait_until(fs, req, (struct wait_key){.id = ino_id(ino), .group = true}, open_retry_group, ino, 0, 0, fi);
}

static bool wait_retry_group(struct fs *fs, fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
                             struct fuse_file_info *fi) {
    struct tally t;
    char *text = NULL, cancelled[48];
    int rc = sched_tally(fs->sched, ino_id(ino), &t);
    if (rc == 0 && t.active) {
        if (!(fi->flags & O_NONBLOCK))
            return false;
        rc = -EAGAIN;
    }
    int n = 0;
    if (rc == 0 && not_ok(ino, &t))
        rc = -EIO;
    if (rc == 0)
        n = asprintf(&text, "done %" PRIu64 " failed %" PRIu64 "%s\n", t.done, t.failed, cancelled_text(&t, cancelled));
    if (n < 0)
        rc = -ENOMEM;
    if (rc)
        reply_err(fs, req, stale(rc));
    else
        text_answer(fs, req, fi->fh, text, (size_t)n, size, off);
    return true;
}

void info_group_wait(struct fs *fs, fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi) {
    if (off > 0 && text_answer_kept(fs, req, fi->fh, size, off))
        return;
    wait_until(fs, req, (struct wait_key){.id = ino_id(ino), .group = true}, wait_retry_group, ino, size, off, fi);
}

bool info_group_ready(struct fs *fs, const struct handle *h) {
    struct tally t;
    return sched_tally(fs->sched, h->job, &t) != 0 || !t.active;
}

int info_group_progress(struct fs *fs, fuse_ino_t ino, FILE *out) {
    struct tally t;
    char cancelled[48];
    int rc = sched_tally(fs->sched, ino_id(ino), &t);
    if (rc)
        return rc;
    fprintf(out, "done %" PRIu64 " failed %" PRIu64 " running %" PRIu64 " waiting %" PRIu64 " of %" PRIu64 "%s\n",
            t.done, t.failed, t.running, t.active - t.running, t.done + t.failed + t.cancelled + t.active,
            cancelled_text(&t, cancelled));
    return 0;
}
