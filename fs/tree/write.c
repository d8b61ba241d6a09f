#include "fs/tree/write.h"

#include <errno.h>

#include "fs/tree/copies.h"
#include "fs/tree/feed.h"
#include "fs/handles/handle.h"
#include "fs/session/loop.h"
#include "fs/session/pending.h"
#include "fs/session/reply.h"

static void written(struct pending *p, int rc) {
    struct handle *x = handles_find(p->fs->handles, p->fi.fh);
    if (rc < 0) {
        handle_write_failed(p->fs, p->fi.fh, p->off, -rc);
        reply_err(p->fs, p->req, stale(rc));
    } else {
        if (x)
            handle_write_repeated(x, p->off, p->size);
        reply_write(p->fs, p->req, p->size, p->fi.fh, p->off);
    }
}

void write_bytes(struct fs *fs, fuse_req_t req, fuse_ino_t ino, const char *bytes, size_t size, off_t off,
                 const struct fuse_file_info *fi) {
    struct handle *x;
    int rc = off < 0 ? -EINVAL : handle_writer(fs, ino, fi, true, &x);
    if (rc) {
        reply_err(fs, req, rc);
        return;
    }
    struct pending *p = pending_create(fs, req, ino, fi, written);
    if (!p)
        return;
    p->size = size;
    p->off = (uint64_t)off;
    rc = (fs->now.again ? sched_write_again : sched_write)(fs->sched, x->job, bytes, size, (uint64_t)off, pending_done,
                                                           p);
    if (rc == -EINPROGRESS)
        p->kept = loop_keep(fs);
    pending_result(p, rc);
}

static void flushed(struct pending *p, int rc) {
    if (rc < 0 && rc != -EINVAL && rc != -EPERM) /* the close stands; its RELEASE decides what becomes of the draft */
        handle_close_failed(p->fs, p->fi.fh, -rc);
    if (rc == 0)
        reply_close(p->fs, p->req, p->fi.fh);
    else
        reply_err(p->fs, p->req, stale(rc));
}

void write_flush(struct fs *fs, fuse_req_t req, fuse_ino_t ino, bool sync, const struct fuse_file_info *fi) {
    struct handle *x = NULL;
    int error = 0;
    if (handle_writer(fs, ino, fi, false, &x) == 0) {
        handle_close_repeated(x); /* a refused close may be repeated; a refused write must be repeated by the writer */
        error = handle_error(fs, x);
    }
    if (!x || error) {
        reply_err(fs, req, -error);
        return;
    }
    struct pending *p = pending_create(fs, req, ino, fi, flushed);
    if (!p)
        return;
    pid_t pid = fuse_req_ctx(req)->pid;
    bool opener = pid > 0 && x->opener == (uint32_t)pid;
    pending_result(p, sched_flush(fs->sched, x->job, pid, opener, sync, pending_done, p));
}

void write_release(struct fs *fs, fuse_req_t req, const struct fuse_file_info *fi) {
    copies_closed(fs, fi->fh);
    feed_close(fs, fi->fh);
    handle_close(fs, fi->fh);
    reply_err(fs, req, 0);
}
