/* info/G/.hold and .priority, which act on all that waits in a group. See struct kind_ops. */
#ifndef PPFS_FS_GROUP_CONTROL_H
#define PPFS_FS_GROUP_CONTROL_H
#include <stdio.h>

#include "fs/fs.h"

int group_control_text(struct fs *fs, fuse_ino_t ino, FILE *out); /* what of it is under way */
int group_control_set(struct fs *fs, fuse_ino_t ino, const char *value);
#endif
