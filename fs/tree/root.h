/* The top directory, and the files in it that never change: README, version. See struct kind_ops. */
#ifndef PPFS_ROOT_H
#define PPFS_ROOT_H
#include <stdio.h>

#include "fs/fs.h"

int root_attr(struct fs *fs, fuse_ino_t ino, struct stat *st, double *timeout);
int root_text(struct fs *fs, fuse_ino_t ino, FILE *out);
#endif
