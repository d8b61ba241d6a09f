/* The table of kinds: which there are, and which functions are theirs. main hands it to the tree, which knows none by
 * name. */
#ifndef PPFS_KINDS_H
#define PPFS_KINDS_H
#include "fs/tree/tree.h"

extern const struct kind_ops kinds[KINDS];
#endif
