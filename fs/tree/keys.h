/* nodes/.keys/: the keys of nodes, a directory for each. See struct kind_ops. */
#ifndef PPFS_KEYS_H
#define PPFS_KEYS_H
#include <stdio.h>

#include "fs/fs.h"

struct listing;

int keys_attr(struct fs *fs, fuse_ino_t ino, struct stat *st, double *timeout);
int keys_list(struct fs *fs, fuse_ino_t dir, off_t after, struct listing *l);
int keys_text(struct fs *fs, fuse_ino_t ino, FILE *out);
int keys_rmdir(struct fs *fs, fuse_ino_t dir, const char *name); /* revokes it */
#endif
