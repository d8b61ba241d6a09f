/* Open handles: what opening and closing one means to the scheduler. The table itself is shared.h's. */
#ifndef PPFS_HANDLE_H
#define PPFS_HANDLE_H
#include "fs/fs.h"
#include "fs/handles/shared.h"

/* Puts a handle into the table and its number into fi->fh. 0 or as handle_room. unique: of the request that opens it.
 * */
int handle_open(struct fs *fs, fuse_req_t req, struct fuse_file_info *fi, uint64_t unique, fuse_ino_t ino, uint64_t job,
                unsigned flags);
/* Whether the one who asks may have one more: 0, -EMFILE: not of their share, -ENFILE: nobody. */
int handle_room(const struct fs *fs, fuse_req_t req);
/* Takes it out. Last writer of a draft: lets the draft go, or gives it up if a write to it or its close was refused.
 * The last of all of a forgotten job: drops its bytes. */
void handle_close(struct fs *fs, uint64_t fh);
/* A write at off was refused: what its writer leaves behind is not what it meant, unless it is written again (mended).
 * */
void handle_write_failed(struct fs *fs, uint64_t fh, uint64_t off, int error);
void handle_write_repeated(struct handle *x, uint64_t off, uint64_t size);
int handle_error(struct fs *fs, const struct handle *x); /* of that write, positive; 0: none, or it is no draft */
/* Its close was refused: nothing is queued when it goes, unless it is closed once more (closed). */
void handle_close_failed(struct fs *fs, uint64_t fh, int error);
void handle_close_repeated(struct handle *x);
/* The writer that fi stands for, -EBADF when it is none. writes: it just wrote, so it is one: a daemon that died in the
 * instant of its opening may have left it out of the table, and it is put in then. */
int handle_writer(struct fs *fs, fuse_ino_t ino, const struct fuse_file_info *fi, bool writes, struct handle **out);

/* The job that an open file reads, whichever the kernel looked up. */
uint64_t handle_job(struct fs *fs, fuse_ino_t ino, const struct fuse_file_info *fi);

/* Wakes poll() on the handles of a job, on all there are. The kernel then asks again. */
void handle_wake(struct fs *fs, uint64_t job);
void handle_wake_all(struct fs *fs);

/* A question of the scheduler (arg: struct fs): does somebody write this job, or have it open at all? */
bool handle_is_open(void *arg, uint64_t job, bool for_writing);
#endif
