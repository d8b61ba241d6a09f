/* The file running: what runs now, a line for each. See struct kind_ops. */
#ifndef PPFS_FS_RUNNING_H
#define PPFS_FS_RUNNING_H
#include "fs/tree/feed.h"

enum feed_rc running_feed(struct fs *fs, struct feed *f, FILE *out, size_t size);
#endif
