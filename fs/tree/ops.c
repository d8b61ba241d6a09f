#include "fs/tree/ops.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <string.h>

#include "fs/session/journal.h"
#include "fs/handles/handle.h"
#include "fs/tree/attr.h"
#include "fs/tree/jobs.h"
#include "fs/tree/list.h"
#include "fs/tree/renames.h"
#include "fs/session/reply.h"
#include "fs/tree/text.h"
#include "fs/tree/tree.h"
#include "fs/tree/write.h"

static void op_init(void *userdata, struct fuse_conn_info *conn) {
    struct fs *fs = userdata;
    conn->want &=
        ~(unsigned)(FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE | FUSE_CAP_WRITEBACK_CACHE);
    /* the mode that a writer asks for tells a copy from a new file (jobs.c) */
    conn->want |= conn->capable & FUSE_CAP_DONT_MASK;
    conn->max_background = 65535; /* so that RELEASE is never held back */
    conn->congestion_threshold = 65535;
    conn->time_gran = 1000;
    journal_begin(fs, conn->proto_minor, fs->no_resend);
}

static void op_lookup(fuse_req_t req, fuse_ino_t dir, const char *name) {
    struct fs *fs = fs_of(req);
    struct fuse_entry_param e;
    fuse_ino_t ino;
    int rc = tree_lookup(fs, dir, name, &ino);
    if (rc == 0)
        rc = tree_entry(fs, ino, &e);
    if (rc == -ENOENT || rc == -ESTALE)
        rc = attr_lookup_renamed(fs, req, dir, name, &e);
    /* a directory that has gone may have been made again: the kernel looks it up */
    if (rc == -ENOENT || rc == -ESTALE)
        rc = tree_attr(fs, dir, &e.attr, &e.attr_timeout) == -ESTALE ? -ESTALE : -ENOENT;
    if (rc)
        reply_err(fs, req, rc);
    else
        reply_entry(fs, req, &e);
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi) {
    attr_get(fs_of(req), req, ino, fi);
}

static void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set, struct fuse_file_info *fi) {
    struct fs *fs = fs_of(req);
    const struct kind_ops *k = tree_kind(fs, ino);
    int owner = FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID;
    int times = FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_ATIME_NOW | FUSE_SET_ATTR_MTIME_NOW;
    if (ino_kind(ino) == KIND_JOB || ino_kind(ino) == KIND_JOBS)
        attr_set(fs, req, ino, attr, to_set, fi);
    else if (!k || (to_set & (owner | times)) || ((to_set & FUSE_SET_ATTR_SIZE) && !k->set))
        reply_err(fs, req, k ? -EPERM : -ESTALE);
    else if ((to_set & FUSE_SET_ATTR_SIZE) && attr->st_size)
        reply_err(fs, req, -EINVAL);
    else
        attr_get(fs, req, ino, fi); /* a value is truncated before it is written */
}

static void op_mknod(fuse_req_t req, fuse_ino_t dir, const char *name, mode_t mode, dev_t rdev) {
    jobs_mknod(fs_of(req), req, dir, name, mode);
}

static void op_mkdir(fuse_req_t req, fuse_ino_t dir, const char *name, mode_t mode) {
    struct fs *fs = fs_of(req);
    const struct kind_ops *k = tree_kind(fs, dir);
    fuse_ino_t ino = 0;
    if (!k || !k->mkdir) {
        jobs_mkdir(fs, req, dir, name, mode);
        return;
    }
    int rc = k->mkdir(fs, dir, name, &ino);
    tree_reply(fs, req, rc, ino);
}

/* A repeated request whose file is gone has succeeded: an earlier daemon removed it. */
static void removed(struct fs *fs, fuse_req_t req, int rc) {
    reply_err(fs, req, rc == -ENOENT && fs->now.again ? 0 : rc);
}

static void op_unlink(fuse_req_t req, fuse_ino_t dir, const char *name) {
    struct fs *fs = fs_of(req);
    const struct kind_ops *k = tree_kind(fs, dir);
    removed(fs, req, k && k->unlink ? k->unlink(fs, dir, name) : -EPERM);
}

static void op_rmdir(fuse_req_t req, fuse_ino_t dir, const char *name) {
    struct fs *fs = fs_of(req);
    const struct kind_ops *k = tree_kind(fs, dir);
    removed(fs, req, k && k->rmdir ? k->rmdir(fs, dir, name) : -EPERM);
}

static void op_symlink(fuse_req_t req, const char *link, fuse_ino_t dir, const char *name) {
    reply_err(fs_of(req), req, -EPERM);
}

static void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t dir, const char *name) {
    reply_err(fs_of(req), req, -EPERM);
}

static void op_rename(fuse_req_t req, fuse_ino_t dir, const char *name, fuse_ino_t to_dir, const char *to_name,
                      unsigned flags) {
    jobs_rename(fs_of(req), req, dir, name, to_dir, to_name, flags);
}

static void op_create(fuse_req_t req, fuse_ino_t dir, const char *name, mode_t mode, struct fuse_file_info *fi) {
    jobs_create(fs_of(req), req, dir, name, mode, fi);
}

static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi) {
    struct fs *fs = fs_of(req);
    const struct kind_ops *k = tree_kind(fs, ino);
    if (ino_kind(ino) != KIND_JOB)
        renames_end(fs, fuse_req_ctx(req)->pid);
    if (k && !k->set && ino_kind(ino) != KIND_JOB && (fi->flags & O_ACCMODE) != O_RDONLY)
        reply_err(fs, req, -EACCES);
    else if (k && k->open)
        k->open(fs, req, ino, fi);
    else if (k && k->text)
        text_open(fs, req, ino, fi);
    else
        reply_err(fs, req, k ? -EISDIR : -ESTALE);
}

static void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi) {
    struct fs *fs = fs_of(req);
    const struct kind_ops *k = tree_kind(fs, ino);
    if (off < 0)
        reply_err(fs, req, -EINVAL);
    else if (k && k->read)
        k->read(fs, req, ino, size, off, fi);
    else if (k && k->text)
        text_read(fs, req, ino, size, off, fi);
    else
        reply_err(fs, req, k ? -EISDIR : -ESTALE);
}

static void op_write(fuse_req_t req, fuse_ino_t ino, const char *bytes, size_t size, off_t off,
                     struct fuse_file_info *fi) {
    struct fs *fs = fs_of(req);
    const struct kind_ops *k = tree_kind(fs, ino);
    if (k && k->set)
        text_write(fs, req, ino, bytes, size);
    else
        write_bytes(fs, req, ino, bytes, size, off, fi);
}

static void op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi) {
    write_flush(fs_of(req), req, ino, false, fi);
}

static void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi) {
    write_flush(fs_of(req), req, ino, true, fi);
}

static void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi) {
    write_release(fs_of(req), req, fi);
}

static void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi) {
    renames_end(fs_of(req), fuse_req_ctx(req)->pid);
    list_dir(fs_of(req), req, ino, size, off);
}

static void op_statfs(fuse_req_t req, fuse_ino_t ino) {
    struct fs *fs = fs_of(req);
    struct statvfs st;
    if (statvfs(fs->state_dir, &st) < 0) {
        reply_err(fs, req, -errno);
        return;
    }
    st.f_namemax = JOB_NAME_MAX;
    reply_statfs(fs, req, &st);
}

/* libfuse's poll handle dies with the daemon, so the kernel's number is stored in the shared handle. */
static void op_poll(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, struct fuse_pollhandle *ph) {
    struct fs *fs = fs_of(req);
    const struct kind_ops *k = tree_kind(fs, ino);
    struct handle *x = handles_find(fs->handles, fi->fh);
    const struct fuse_poll_in *in = (const void *)((const char *)fs->now.bytes + sizeof(struct fuse_in_header));
    unsigned events = POLLIN | POLLRDNORM | POLLOUT | POLLWRNORM;
    if (x && k && k->ready) {
        events = k->ready(fs, x) ? POLLIN | POLLRDNORM : 0;
        if (ph)
            x->poll = in->kh;
    }
    if (ph)
        fuse_pollhandle_destroy(ph);
    reply_poll(fs, req, events);
}

/* Without .forget: nothing is kept for an inode. Without .fsyncdir: the kernel takes that for success. */
const struct fuse_lowlevel_ops ops_table = {
    .init = op_init,
    .lookup = op_lookup,
    .getattr = op_getattr,
    .setattr = op_setattr,
    .mknod = op_mknod,
    .mkdir = op_mkdir,
    .unlink = op_unlink,
    .rmdir = op_rmdir,
    .symlink = op_symlink,
    .link = op_link,
    .rename = op_rename,
    .create = op_create,
    .open = op_open,
    .read = op_read,
    .write = op_write,
    .flush = op_flush,
    .release = op_release,
    .fsync = op_fsync,
    .readdir = op_readdir,
    .statfs = op_statfs,
    .poll = op_poll,
};
