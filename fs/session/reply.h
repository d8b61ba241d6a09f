/* Replies, sent after the commit that they depend on.
 *
 * Each request is answered by exactly one reply_* call. Without uncommitted changes the reply is sent at once.
 * Otherwise it waits for replies_send, which sends it, or an errno if the commit failed; then a handle that the request
 * had added is removed. A request that only reads is handled again instead (loop_again); so is, once, a request that
 * removes and found the disk full (sched_made_room). */
#ifndef PPFS_REPLY_H
#define PPFS_REPLY_H
#include "fs/fs.h"

int replies_create(struct replies **out);
void replies_destroy(struct replies *r);  /* unsent ones stay unanswered; accepts NULL */
void replies_send(struct fs *fs, int rc); /* rc: the result of sched_commit */
bool replies_waiting(const struct fs *fs);

void reply_err(struct fs *fs, fuse_req_t req, int rc);        /* rc: 0 or -errno */
void reply_close(struct fs *fs, fuse_req_t req, uint64_t fh); /* to the close of a writer: 0 */
void reply_entry(struct fs *fs, fuse_req_t req, const struct fuse_entry_param *e);
void reply_attr(struct fs *fs, fuse_req_t req, const struct stat *st, double timeout);
/* fh: the handle of a writer, in which an uncommitted write at off is noted (handle_write_failed); 0 = none. */
void reply_write(struct fs *fs, fuse_req_t req, size_t size, uint64_t fh, uint64_t off);
void reply_statfs(struct fs *fs, fuse_req_t req, const struct statvfs *st);
void reply_poll(struct fs *fs, fuse_req_t req, unsigned events);
void reply_bytes(struct fs *fs, fuse_req_t req, const void *bytes, size_t size); /* copied where it must wait */
void reply_buffer(struct fs *fs, fuse_req_t req, void *malloced, size_t size);   /* owns the buffer from here on */
/* fi->fh, if it is in the table, is confirmed when the kernel has taken the reply, and removed if the kernel does not
 * want it. */
void reply_open(struct fs *fs, fuse_req_t req, const struct fuse_file_info *fi);
void reply_create(struct fs *fs, fuse_req_t req, const struct fuse_entry_param *e, const struct fuse_file_info *fi);
#endif
