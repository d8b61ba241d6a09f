/* Writing a job: WRITE, FLUSH, FSYNC and RELEASE of an open file. Each answers the request. */
#ifndef PPFS_WRITE_H
#define PPFS_WRITE_H
#include "fs/fs.h"

void write_bytes(struct fs *fs, fuse_req_t req, fuse_ino_t ino, const char *bytes, size_t size, off_t off,
                 const struct fuse_file_info *fi);
/* close(), which may come several times for one open file: makes the written bytes durable (sync: against power loss,
 * too). Does nothing for files opened for reading. */
void write_flush(struct fs *fs, fuse_req_t req, fuse_ino_t ino, bool sync, const struct fuse_file_info *fi);
/* The last close: the draft is submitted, or stays. */
void write_release(struct fs *fs, fuse_req_t req, const struct fuse_file_info *fi);
#endif
