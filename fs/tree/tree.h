/* The tree: what each kind of inode can do, by the table in kinds.c. */
#ifndef PPFS_TREE_H
#define PPFS_TREE_H
#include <stdio.h>

#include "fs/fs.h"
#include "fs/tree/feed.h"

struct listing;

struct kind_ops {     /* functions return 0 or -errno; NULL: the kind cannot do it */
    const char *name; /* its fixed name in directories of the kind parent (which give it their id), or NULL */
    enum kind parent;
    mode_t type; /* S_IFDIR or S_IFREG */
    int (*attr)(struct fs *fs, fuse_ino_t ino, struct stat *st, double *timeout);

    /* Directories: look-up of names that are not fixed. shelves, leaf: the jobs listed there, and their kind. */
    int (*lookup)(struct fs *fs, fuse_ino_t dir, const char *name, fuse_ino_t *out);
    int (*list)(struct fs *fs, fuse_ino_t dir, off_t after, struct listing *l);
    int (*unlink)(struct fs *fs, fuse_ino_t dir, const char *name);
    int (*rmdir)(struct fs *fs, fuse_ino_t dir, const char *name);
    /* NULL: the error of jobs_mkdir */
    int (*mkdir)(struct fs *fs, fuse_ino_t dir, const char *name, fuse_ino_t *out);
    unsigned shelves;
    enum kind leaf;
    /* those of groups: the job of a name that no group has */
    int (*find)(struct fs *fs, fuse_ino_t dir, const char *name, struct job *out);

    /* Small generated files (text.h): text makes the content, set takes a written value. */
    int (*text)(struct fs *fs, fuse_ino_t ino, FILE *out);
    int (*set)(struct fs *fs, fuse_ino_t ino, const char *value);

    /* Other files. open and read answer the request; files without set are opened for reading only, jobs/NAME apart.
     * ready: whether poll() reports POLLIN. */
    void (*open)(struct fs *fs, fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
    void (*read)(struct fs *fs, fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi);
    bool (*ready)(struct fs *fs, const struct handle *h);
    /* of those that feed_open opens (feed.h) */
    void (*feed_begin)(struct fs *fs, struct feed *f); /* its place; NULL: 0 */
    enum feed_rc (*feed)(struct fs *fs, struct feed *f, FILE *out, size_t size);
    bool feed_is_dear; /* for all its readers together one page is made in a turn; a few may have it open */
};

/* NULL: no such kind. */
const struct kind_ops *tree_kind(const struct fs *fs, fuse_ino_t ino);
/* The inode of a name in a directory, or -ENOENT, -ENOTDIR, -ENAMETOOLONG. */
int tree_lookup(struct fs *fs, fuse_ino_t dir, const char *name, fuse_ino_t *out);
/* -ESTALE: gone, or replaced by another job; the kernel then looks the name up again. */
int tree_attr(struct fs *fs, fuse_ino_t ino, struct stat *st, double *timeout);
/* attr and timeouts for a reply. */
int tree_entry(struct fs *fs, fuse_ino_t ino, struct fuse_entry_param *e);
/* Answers with the entry of ino, which was looked up or made; with the error rc, and ino is not used. */
void tree_reply(struct fs *fs, fuse_req_t req, int rc, fuse_ino_t ino);
/* Helper of attr functions. time: microseconds since the epoch. */
void tree_stat(struct stat *st, mode_t mode, uid_t uid, gid_t gid, uint64_t size, int64_t time);
#endif
