/* Open handles: the scheduler's part in opening and closing one. The table itself is in shared.h. */
#ifndef PPFS_HANDLE_H
#define PPFS_HANDLE_H
#include "fs/fs.h"
#include "fs/handles/shared.h"

/* Puts a handle into the table and its number into fi->fh. 0 or as handle_room. unique: of the OPEN request. */
int handle_open(struct fs *fs, fuse_req_t req, struct fuse_file_info *fi, uint64_t unique, fuse_ino_t ino, uint64_t job,
                unsigned flags);
/* Whether the caller may open one more: 0; -EMFILE: their share is used up; -ENFILE: the table is full. */
int handle_room(const struct fs *fs, fuse_req_t req);
/* Removes it. With the last writer of a draft the draft is released, or given up if a write or its close was refused.
 * With the last handle of a forgotten job its bytes are dropped. */
void handle_close(struct fs *fs, uint64_t fh);
/* A write at off was refused, so the draft is incomplete until these bytes are written again (mended). */
void handle_write_failed(struct fs *fs, uint64_t fh, uint64_t off, int error);
void handle_write_repeated(struct handle *x, uint64_t off, uint64_t size);
int handle_error(struct fs *fs, const struct handle *x); /* errno of that write; 0: none, or it is no draft */
/* Its close was refused: it is not queued at its release, unless it is closed once more (closed). */
void handle_close_failed(struct fs *fs, uint64_t fh, int error);
void handle_close_repeated(struct handle *x);
/* The writer behind fi, or -EBADF. writes: it has just written, so it is a writer: if a daemon died in the instant of
 * its open, the handle is missing in the table and is put in now. */
int handle_writer(struct fs *fs, fuse_ino_t ino, const struct fuse_file_info *fi, bool writes, struct handle **out);

/* The job that an open file reads, which may differ from the one that the kernel looked up. */
uint64_t handle_job(struct fs *fs, fuse_ino_t ino, const struct fuse_file_info *fi);

/* Wakes poll() on the handles of a job, on all there are. The kernel then asks again. */
void handle_wake(struct fs *fs, uint64_t job);
void handle_wake_all(struct fs *fs);

/* A question of the scheduler (arg: struct fs): does somebody write this job, or have it open at all? */
bool handle_is_open(void *arg, uint64_t job, bool for_writing);
#endif
