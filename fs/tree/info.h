/* info/: everything known about a job, one value in each file. See struct kind_ops. */
#ifndef PPFS_INFO_H
#define PPFS_INFO_H
#include <stdio.h>

#include "fs/fs.h"

int info_attr(struct fs *fs, fuse_ino_t ino, struct stat *st, double *timeout);
int info_text(struct fs *fs, fuse_ino_t ino, FILE *out);
int info_set(struct fs *fs, fuse_ino_t ino, const char *value);         /* priority, hold */
int info_unlink(struct fs *fs, fuse_ino_t dir, const char *name);       /* changes nothing, so that rm -r goes on */
int info_group_unlink(struct fs *fs, fuse_ino_t dir, const char *name); /* the same, the files of a group */
int info_rmdir(struct fs *fs, fuse_ino_t dir, const char *name);        /* forgets an empty group, or an ended job */

/* stdout, stderr, spec and wait: read waits for more while there may be more. */
void info_open(struct fs *fs, fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void info_read(struct fs *fs, fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi);
void info_wait(struct fs *fs, fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi);
bool info_ready(struct fs *fs, const struct handle *h);

/* .wait, .ok and .progress of a group. */
int info_group_attr(struct fs *fs, fuse_ino_t ino, struct stat *st, double *timeout);
void info_group_open(struct fs *fs, fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void info_group_wait(struct fs *fs, fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi);
bool info_group_ready(struct fs *fs, const struct handle *h);
int info_group_progress(struct fs *fs, fuse_ino_t ino, FILE *out);
#endif
