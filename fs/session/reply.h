/* Replies, held back until what they speak of is committed.
 *
 * Each request is answered by exactly one reply_* call. Nothing uncommitted: it is sent at once. Else it waits for
 * replies_send, which sends it, or, when the commit failed, an errno instead; a handle that the request had put in the
 * table is then taken out again. A request that only looked is not failed but looked at again (loop_again); so is,
 * once, one that removes and found the disk full (sched_made_room). */
#ifndef PPFS_REPLY_H
#define PPFS_REPLY_H
#include "fs/fs.h"

int replies_create(struct replies **out);
void replies_destroy(struct replies *r);  /* unsent ones stay unanswered; accepts NULL */
void replies_send(struct fs *fs, int rc); /* rc: what sched_commit said */
bool replies_waiting(const struct fs *fs);

void reply_err(struct fs *fs, fuse_req_t req, int rc);        /* rc: 0 or -errno */
void reply_close(struct fs *fs, fuse_req_t req, uint64_t fh); /* of a writer that is being closed: 0 */
void reply_entry(struct fs *fs, fuse_req_t req, const struct fuse_entry_param *e);
void reply_attr(struct fs *fs, fuse_req_t req, const struct stat *st, double timeout);
/* fh: the handle of a writer, which is told (handle_write_failed) when the write at off is not committed; 0 = none. */
void reply_write(struct fs *fs, fuse_req_t req, size_t size, uint64_t fh, uint64_t off);
void reply_statfs(struct fs *fs, fuse_req_t req, const struct statvfs *st);
void reply_poll(struct fs *fs, fuse_req_t req, unsigned events);
void reply_bytes(struct fs *fs, fuse_req_t req, const void *bytes, size_t size); /* copied where it must wait */
void reply_buffer(struct fs *fs, fuse_req_t req, void *malloced, size_t size);   /* owns the buffer from here on */
/* fi->fh, when it is in the table, is confirmed once the kernel has it and taken out if the kernel does not want it. */
void reply_open(struct fs *fs, fuse_req_t req, const struct fuse_file_info *fi);
void reply_create(struct fs *fs, fuse_req_t req, const struct fuse_entry_param *e, const struct fuse_file_info *fi);
#endif
