/* nodes/: the machines that run jobs, one value in each file. See struct kind_ops. */
#ifndef PPFS_NODES_H
#define PPFS_NODES_H
#include <stdio.h>

#include "fs/fs.h"

struct listing;

int nodes_attr(struct fs *fs, fuse_ino_t ino, struct stat *st, double *timeout);
int nodes_lookup(struct fs *fs, fuse_ino_t dir, const char *name, fuse_ino_t *out); /* also of .keys */
int nodes_list(struct fs *fs, fuse_ino_t dir, off_t after, struct listing *l);
int nodes_text(struct fs *fs, fuse_ino_t ino, FILE *out);
int nodes_set(struct fs *fs, fuse_ino_t ino, const char *value); /* cpus; state: up or drain */
int nodes_set_discover(struct fs *fs, fuse_ino_t ino, const char *value);
/* HOST:PORT: dials it; in .keys: makes one */
int nodes_mkdir(struct fs *fs, fuse_ino_t dir, const char *name, fuse_ino_t *out);
int nodes_rmdir(struct fs *fs, fuse_ino_t dir, const char *name); /* it may finish its jobs first */
#endif
