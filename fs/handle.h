/* Open handles: what opening and closing one means to the scheduler. The table itself is shared.h's. */
#ifndef PPFS_HANDLE_H
#define PPFS_HANDLE_H
#include "fs/fs.h"

int releases_create(struct fs *fs);
void releases_destroy(struct releases *r); /* accepts NULL */

/* Puts a handle into the table and its number into fi->fh. 0 or -ENFILE. unique: of the request that opens it. */
int handle_open(struct fs *fs, struct fuse_file_info *fi, uint64_t unique, fuse_ino_t ino, uint64_t job,
                unsigned flags);
/* Takes it out. Last writer of a draft: lets the draft go and returns its id, else 0. The last of all of a forgotten
 * job: drops its bytes. */
uint64_t handle_close(struct fs *fs, uint64_t fh);
/* The draft's sched_release was not committed: tries again a little later, for ever. */
void handle_release_later(struct fs *fs, uint64_t draft);
/* The writer that fi stands for, -EBADF when it is none. writes: it just wrote, so it is one: a daemon that died in the
 * instant of its opening may have left it out of the table, and it is put in then. */
int handle_writer(struct fs *fs, fuse_ino_t ino, const struct fuse_file_info *fi, bool writes, struct handle **out);

/* Wakes poll() on the handles of a job, on all there are. The kernel then asks again. */
void handle_wake(struct fs *fs, uint64_t job);
void handle_wake_all(struct fs *fs);

/* A question of the scheduler (arg: struct fs): does somebody write this job, or have it open at all? */
bool handle_is_open(void *arg, uint64_t job, bool for_writing);
#endif
