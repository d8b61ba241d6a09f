/* info/G/.failed: the names of the jobs of a group that have failed. See struct kind_ops. */
#ifndef PPFS_FS_FAILED_H
#define PPFS_FS_FAILED_H
#include "fs/tree/feed.h"

/* Its mode is that of failures/G: who may list that may read this. */
int failed_attr(struct fs *fs, fuse_ino_t ino, struct stat *st, double *timeout);
void failed_begin(struct fs *fs, struct feed *f);
enum feed_rc failed_feed(struct fs *fs, struct feed *f, FILE *out, size_t size);
#endif
