/* The FUSE operations: libfuse's table, each entry handing on to the kind of inode (tree.h). userdata: struct fs. */
#ifndef PPFS_OPS_H
#define PPFS_OPS_H
#include "fs/fs.h"

extern const struct fuse_lowlevel_ops ops_table;
#endif
