/* Writing a job: WRITE, FLUSH, FSYNC and RELEASE of an open file. Each answers the request. */
#ifndef PPFS_WRITE_H
#define PPFS_WRITE_H
#include "fs/fs.h"

void write_bytes(struct fs *fs, fuse_req_t req, fuse_ino_t ino, const char *bytes, size_t size, off_t off,
                 const struct fuse_file_info *fi);
/* close(), of which there may be many to one open file: makes durable what was written (sync: against power loss too).
 * Files that were opened for reading: nothing to do. */
void write_flush(struct fs *fs, fuse_req_t req, fuse_ino_t ino, bool sync, const struct fuse_file_info *fi);
/* The last close: the job goes its way. */
void write_release(struct fs *fs, fuse_req_t req, const struct fuse_file_info *fi);
#endif
