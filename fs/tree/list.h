/* Directory listings, a page at a time. Nothing is kept between pages: the offset of an entry says which one comes next
 * (fixed names by kind, then groups by id, then jobs by id), so each page is one bounded query and an entry that stays
 * is listed exactly once while others come and go. */
#ifndef PPFS_LIST_H
#define PPFS_LIST_H
#include "fs/tree/tree.h"

void list_dir(struct fs *fs, fuse_req_t req, fuse_ino_t dir, size_t size, off_t after);
/* For kind_ops.list. after: offset of the last entry that was listed; false: the page is full. */
bool list_add(struct listing *l, const char *name, fuse_ino_t ino, off_t offset);
off_t list_offset(uint64_t id);   /* of an entry of a list function of its own, id < 1 << 60 */
uint64_t list_after(off_t after); /* its id; 0 from the start */
/* kind_ops.list of jobs/, results/, failures/, info/ and the groups in them. */
int list_group(struct fs *fs, fuse_ino_t dir, off_t after, struct listing *l);
#endif
