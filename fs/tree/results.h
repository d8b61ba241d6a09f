/* results/ and failures/: the way out. See struct kind_ops. */
#ifndef PPFS_RESULTS_H
#define PPFS_RESULTS_H
#include "fs/fs.h"

/* The current job of that name, else its draft: in results/ if that will run under this name, in info/ any. */
int results_find(struct fs *fs, fuse_ino_t dir, const char *name, struct job *job);
int results_attr(struct fs *fs, fuse_ino_t ino, struct stat *st, double *timeout);
/* Waits until the job has ended; with O_NONBLOCK read() says EAGAIN until then. */
void results_open(struct fs *fs, fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void results_read(struct fs *fs, fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi);
bool results_ready(struct fs *fs, const struct handle *h);
int results_unlink(struct fs *fs, fuse_ino_t dir, const char *name); /* also of failures/ */

int failures_find(struct fs *fs, fuse_ino_t dir, const char *name, struct job *job);
int failures_attr(struct fs *fs, fuse_ino_t ino, struct stat *st, double *timeout);
void failures_open(struct fs *fs, fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void failures_read(struct fs *fs, fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi);
int results_newest(struct fs *fs, uint64_t id, struct job *job); /* sched_newest, for who asks now */
/* Forgets an ended job; open readers can read on. */
int results_forget(struct fs *fs, const struct job *job);
#endif
