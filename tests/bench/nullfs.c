/* A filesystem of ppfs's shape that does nothing: the floor under every figure of the benchmark.
 *
 *   nullfs MOUNTPOINT    stays in the foreground until it is unmounted
 *
 * jobs/bN can be created, written and closed; results/bN can be opened and read and always says the same; unlink
 * answers at once. One thread, nothing kept: the inode is N and the directory, computed from the name as in ppfs. The
 * kernel is spared what it need not ask: it keeps attributes, and reads past its pages. */
#define FUSE_USE_VERSION 314
#include <errno.h>
#include <fuse_lowlevel.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum kind { DIRECTORY, JOB, RESULT };
enum { ROOT = FUSE_ROOT_ID, JOBS = 2, RESULTS = 3 };

static const char result[] = "1.4142135623730951\n";

static struct stat attributes(fuse_ino_t ino) {
    enum kind kind = ino <= RESULTS ? DIRECTORY : (enum kind)(ino & 0xff);
    struct stat st = {.st_ino = ino, .st_nlink = 1, .st_uid = getuid(), .st_gid = getgid()};
    st.st_mode = kind == DIRECTORY ? S_IFDIR | 0755 : S_IFREG | 0444;
    if (kind == JOB)
        st.st_mode |= S_IWUSR;
    st.st_size = kind == RESULT ? (off_t)sizeof result - 1 : 0;
    return st;
}

static struct fuse_entry_param entry(fuse_ino_t ino) {
    return (struct fuse_entry_param){.ino = ino, .attr = attributes(ino), .entry_timeout = 1, .attr_timeout = 1};
}

static fuse_ino_t numbered(const char *name, enum kind kind) {
    return (strtoul(name + 1, NULL, 10) + 1) << 8 | (fuse_ino_t)kind;
}

static void on_lookup(fuse_req_t req, fuse_ino_t parent, const char *name) {
    fuse_ino_t ino = 0;
    if (parent == ROOT && strcmp(name, "jobs") == 0)
        ino = JOBS;
    else if (parent == ROOT && strcmp(name, "results") == 0)
        ino = RESULTS;
    else if (parent == RESULTS)
        ino = numbered(name, RESULT);
    if (ino == 0) {
        fuse_reply_err(req, ENOENT);
        return;
    }
    struct fuse_entry_param e = entry(ino);
    fuse_reply_entry(req, &e);
}

static void on_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi) {
    struct stat st = attributes(ino);
    fuse_reply_attr(req, &st, 1);
}

static void on_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi) {
    if (parent != JOBS) {
        fuse_reply_err(req, EACCES);
        return;
    }
    struct fuse_entry_param e = entry(numbered(name, JOB));
    fuse_reply_create(req, &e, fi);
}

static void on_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off,
                     struct fuse_file_info *fi) {
    fuse_reply_write(req, size);
}

static void on_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi) {
    fuse_reply_err(req, 0);
}

static void on_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi) {
    fi->noflush = 1;
    fi->direct_io = 1;
    fuse_reply_open(req, fi);
}

static void on_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi) {
    size_t length = sizeof result - 1, from = (size_t)off < length ? (size_t)off : length;
    fuse_reply_buf(req, result + from, length - from < size ? length - from : size);
}

static void on_unlink(fuse_req_t req, fuse_ino_t parent, const char *name) {
    fuse_reply_err(req, 0);
}

static const struct fuse_lowlevel_ops operations = {
    .lookup = on_lookup,
    .getattr = on_getattr,
    .create = on_create,
    .write = on_write,
    .flush = on_flush,
    .open = on_open,
    .read = on_read,
    .release = on_flush,
    .unlink = on_unlink,
};

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: nullfs MOUNTPOINT\n");
        return 2;
    }
    char *words[] = {argv[0], "-o", "fsname=nullfs,default_permissions"};
    struct fuse_args args = FUSE_ARGS_INIT(3, words);
    struct fuse_session *session = fuse_session_new(&args, &operations, sizeof operations, NULL);
    if (session == NULL || fuse_session_mount(session, argv[1]) != 0)
        return 1;
    int rc = fuse_set_signal_handlers(session) == 0 ? fuse_session_loop(session) : 1;
    fuse_session_unmount(session);
    fuse_session_destroy(session);
    fuse_opt_free_args(&args);
    return rc < 0;
}
