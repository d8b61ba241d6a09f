/* Directory listings, a page at a time. Nothing is kept between pages: the offset of an entry says which one comes next
 * (fixed names by kind, then groups by id, then jobs by id), so each page is one bounded query and an entry that stays
 * is listed exactly once while others come and go. */
#ifndef PPFS_LIST_H
#define PPFS_LIST_H
#include "fs/tree/tree.h"

void list_dir(struct fs *fs, fuse_req_t req, fuse_ino_t dir, size_t size, off_t after);
/* For kind_ops.list: adds an entry of the kind leaf, with an id below 1 << 60. False: the page is full. */
bool list_add_named(void *listing, const char *name, uint64_t id);
uint64_t list_after(off_t after); /* the id of the last entry that was listed; 0: from the start */
/* kind_ops.list of jobs/, results/, failures/, info/ and the groups in them. */
int list_group(struct fs *fs, fuse_ino_t dir, off_t after, struct listing *l);
#endif
