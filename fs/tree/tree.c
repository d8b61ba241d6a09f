#include "fs/tree/tree.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fs/session/reply.h"
#include "fs/tree/text.h"

const struct kind_ops *tree_kind(const struct fs *fs, fuse_ino_t ino) {
    enum kind k = ino_kind(ino);
    return k < KINDS && fs->kinds[k].type ? &fs->kinds[k] : NULL;
}

int tree_lookup(struct fs *fs, fuse_ino_t dir, const char *name, fuse_ino_t *out) {
    const struct kind_ops *d = tree_kind(fs, dir);
    if (!d || !S_ISDIR(d->type))
        return -ENOTDIR;
    if (strlen(name) > JOB_NAME_MAX)
        return -ENAMETOOLONG;
    for (unsigned k = 1; k < KINDS; k++) {
        const struct kind_ops *o = &fs->kinds[k];
        if (o->name && o->parent == ino_kind(dir) && strcmp(o->name, name) == 0) {
            *out = ino_make(ino_id(dir), k);
            return 0;
        }
    }
    return d->lookup ? d->lookup(fs, dir, name, out) : -ENOENT;
}

int tree_attr(struct fs *fs, fuse_ino_t ino, struct stat *st, double *timeout) {
    const struct kind_ops *k = tree_kind(fs, ino);
    if (!k)
        return -ESTALE;
    memset(st, 0, sizeof *st);
    *timeout = 0;
    int rc = k->attr(fs, ino, st, timeout);
    if (rc == 0 && k->text && !st->st_size) {
        char *bytes;
        size_t size;
        rc = text_make(fs, ino, &bytes, &size);
        if (rc == 0) {
            st->st_size = (off_t)size;
            free(bytes);
        }
    }
    st->st_ino = ino;
    st->st_mode = (st->st_mode & 07777) | k->type;
    st->st_blocks = (st->st_size + 511) / 512;
    return stale(rc);
}

/* A job or a group, by its name. */
static bool named(fuse_ino_t ino) {
    enum kind k = ino_kind(ino);
    bool group = (k == KIND_JOBS || k == KIND_RESULTS || k == KIND_FAILURES || k == KIND_INFO) && ino_id(ino);
    return group || k == KIND_JOB || k == KIND_RESULT || k == KIND_FAILURE || k == KIND_INFO_JOB;
}

int tree_entry(struct fs *fs, fuse_ino_t ino, struct fuse_entry_param *e) {
    memset(e, 0, sizeof *e);
    e->ino = ino;
    /* These names are not cached: one may leave jobs/ at any time, and O_EXCL must then reach the daemon;
     * and a rename in jobs/ is one in results/, failures/ and info/ too, of which the kernel is not told: there the old
     * name would show the job that has left it, and not the one that has been written in its place. A group leaves
     * jobs/ by an rm in info/, and its name is free for a file. */
    e->entry_timeout = named(ino) ? 0 : 1;
    return tree_attr(fs, ino, &e->attr, &e->attr_timeout);
}

void tree_reply(struct fs *fs, fuse_req_t req, int rc, fuse_ino_t ino) {
    struct fuse_entry_param e;
    if (rc == 0)
        rc = tree_entry(fs, ino, &e);
    if (rc)
        reply_err(fs, req, rc);
    else
        reply_entry(fs, req, &e);
}

void tree_stat(struct stat *st, mode_t mode, uid_t uid, gid_t gid, uint64_t size, int64_t time) {
    st->st_mode = mode;
    st->st_nlink = 1;
    st->st_uid = uid;
    st->st_gid = gid;
    st->st_size = (off_t)size;
    st->st_mtim.tv_sec = time / 1000000;
    st->st_mtim.tv_nsec = time % 1000000 * 1000;
    st->st_atim = st->st_ctim = st->st_mtim;
}
