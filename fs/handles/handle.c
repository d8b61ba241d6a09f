#include "fs/handles/handle.h"

#include <errno.h>
#include <linux/fuse.h>
#include <stdlib.h>
#include <unistd.h>

int handle_room(const struct fs *fs, fuse_req_t req) {
    uint32_t uid = fuse_req_ctx(req)->uid;
    if (handles_room(fs->handles, uid))
        return 0;
    return handles_room(fs->handles, UINT32_MAX) ? -EMFILE : -ENFILE;
}

int handle_open(struct fs *fs, fuse_req_t req, struct fuse_file_info *fi, uint64_t unique, fuse_ino_t ino, uint64_t job,
                unsigned flags) {
    int rc = handle_room(fs, req);
    struct handle *x = rc == 0 ? handles_put(fs->handles, unique, ino, job, flags) : NULL;
    fi->fh = unique;
    if (x) {
        handles_own(fs->handles, x, fuse_req_ctx(req)->uid);
        x->opener = (uint32_t)fuse_req_ctx(req)->pid & INT32_MAX;
    }
    return rc == 0 && !x ? -ENFILE : rc;
}

void handle_write_failed(struct fs *fs, uint64_t fh, uint64_t off, int error) {
    struct handle *x = fh ? handles_find(fs->handles, fh) : NULL;
    if (!x || (x->error && x->failed_at <= off))
        return;
    x->failed_at = off;
    x->error = (uint32_t)error;
}

#define ITS_CLOSE UINT64_MAX /* failed_at: the close was refused, not a write */

void handle_close_failed(struct fs *fs, uint64_t fh, int error) {
    handle_write_failed(fs, fh, ITS_CLOSE, error);
}

void handle_close_repeated(struct handle *x) {
    if (x->failed_at == ITS_CLOSE)
        x->error = 0;
}

void handle_write_repeated(struct handle *x, uint64_t off, uint64_t size) {
    if (x->error && off <= x->failed_at && x->failed_at - off < size)
        x->error = 0;
}

int handle_error(struct fs *fs, const struct handle *x) {
    struct job job;
    return x->error && sched_job(fs->sched, x->job, &job) == 0 && job.draft ? (int)x->error : 0;
}

void handle_close(struct fs *fs, uint64_t fh) {
    struct handle *x = handles_find(fs->handles, fh);
    if (!x)
        return;
    uint64_t id = x->job;
    bool writer = x->flags & HANDLE_WRITER;
    int error = writer ? handle_error(fs, x) : 0;
    handles_remove(fs->handles, fh);
    if (error)
        sched_give_up(fs->sched, id, error);
    if (writer) {
        if (!error && !handles_count(fs->handles, id, HANDLE_WRITER))
            sched_release(fs->sched, id);
        return;
    }
    struct job job;
    if (!handles_first(fs->handles, id) && sched_job(fs->sched, id, &job) == 0 && job.shelf == SHELF_ORPHAN)
        sched_drop(fs->sched, id);
}

int handle_writer(struct fs *fs, fuse_ino_t ino, const struct fuse_file_info *fi, bool writes, struct handle **out) {
    struct handle *x = handles_find(fs->handles, fi->fh);
    struct job job;
    if (!x && writes && ino_kind(ino) == KIND_JOB && sched_job(fs->sched, ino_id(ino), &job) == 0 && job.draft)
        x = handles_put(fs->handles, fi->fh, ino, job.id, HANDLE_WRITER | HANDLE_CONFIRMED);
    if (!x || !(x->flags & HANDLE_WRITER))
        return -EBADF;
    *out = x;
    return 0;
}

uint64_t handle_job(struct fs *fs, fuse_ino_t ino, const struct fuse_file_info *fi) {
    const struct handle *x = handles_find(fs->handles, fi->fh);
    return x ? x->job : ino_id(ino);
}

/* libfuse's own call wants a struct that dies with the daemon; the kernel's handle does not. */
static void wake(void *arg, struct handle *x) {
    struct fs *fs = arg;
    if (!x->poll)
        return;
    struct {
        struct fuse_out_header head;
        struct fuse_notify_poll_wakeup_out out;
    } note = {{.len = sizeof note, .error = FUSE_NOTIFY_POLL}, {.kh = x->poll}};
    x->poll = 0;
    if (write(fuse_session_fd(fs->session), &note, sizeof note) < 0)
        return; /* the handle was closed meanwhile: nobody to wake */
}

void handle_wake(struct fs *fs, uint64_t job) {
    for (struct handle *x = handles_first(fs->handles, job); x; x = handles_next(fs->handles, x))
        wake(fs, x);
}

void handle_wake_all(struct fs *fs) {
    handles_each(fs->handles, wake, fs);
}

bool handle_is_open(void *arg, uint64_t id, bool for_writing) {
    struct fs *fs = arg;
    return for_writing ? handles_count(fs->handles, id, HANDLE_WRITER) : handles_first(fs->handles, id) != NULL;
}
