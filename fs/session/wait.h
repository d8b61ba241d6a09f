/* Parked requests. Each has a key (a job or a group) and is tried again after each commit that changed it. It is
 * answered once: by its retry, by EINTR when its client gives up, or when the daemon stops. If the daemon is killed,
 * the kernel sends the request again to the next one.
 *
 *  - open results/NAME: for the job to end; its key is the job
 *  - open and read info/NAME/stdout, stderr: for more output, or the end; the job
 *  - read info/NAME/wait: for the job to end; the job
 *  - read .wait, open and read .ok of info/ or info/G/: until nothing in there is unfinished; the group
 *
 * The scheduler is told of each (sched_blocked): a job that waits so lends its slot, or is refused if too many of its
 * user's jobs do (waits_refuse). */
#ifndef PPFS_WAIT_H
#define PPFS_WAIT_H
#include "fs/fs.h"

/* Answers the request and returns true, or returns false: not yet. */
typedef bool wait_retry(struct fs *fs, fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
                        struct fuse_file_info *fi);

struct wait_key {
    uint64_t id;
    bool group;
};

int waits_create(struct waits **out);
void waits_destroy(struct waits *w); /* parked requests stay unanswered; accepts NULL */

/* Tries, and parks the request if retry returns false. Only for the request that is being handled. */
void wait_until(struct fs *fs, fuse_req_t req, struct wait_key key, wait_retry *retry, fuse_ino_t ino, size_t size,
                off_t off, const struct fuse_file_info *fi);

/* Called by a retry before it returns false: its request waits under this key from now on, with this ino and off. No
 * effect if it is not parked yet. */
void wait_move(struct fs *fs, struct wait_key key, fuse_ino_t ino, off_t off);

bool waits_any(const struct fs *fs, struct wait_key key); /* a request is parked under it */
/* Marks the requests under the key; waits_turn tries them. */
void waits_wake(struct fs *fs, struct wait_key key);
void waits_wake_range(struct fs *fs, uint64_t first, uint64_t end); /* under jobs of these ids; a walk over all */
void waits_turn(struct fs *fs);
/* At the next waits_turn that request under a key with this id is answered, with rc if its retry has no answer. */
void waits_refuse(struct fs *fs, uint64_t id, uint64_t unique, int rc);
void waits_end(struct fs *fs, int rc); /* answers all with rc */
#endif
