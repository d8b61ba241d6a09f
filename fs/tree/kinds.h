/* The table of all kinds and their functions. main passes it to the tree, which names no kind itself. */
#ifndef PPFS_KINDS_H
#define PPFS_KINDS_H
#include "fs/tree/tree.h"

extern const struct kind_ops kinds[KINDS];
#endif
