/* A request that a sched_* call may finish later (-EINPROGRESS, then its done function): both ways lead to finish,
 * once.
 *
 *     struct pending *p = pending_create(fs, req, ino, fi, finish);
 *     pending_result(p, sched_flush(fs->sched, job, pid, false, false, pending_done, p)); */
#ifndef PPFS_PENDING_H
#define PPFS_PENDING_H
#include "fs/fs.h"

struct pending {
    struct fs *fs;
    fuse_req_t req;
    fuse_ino_t ino;
    struct fuse_file_info fi;
    uint64_t unique;
    size_t size;
    uint64_t off;
    void *kept;                                /* the request's buffer, if it is still needed; freed with p */
    struct job *job;                           /* room for a result; freed with p */
    void (*finish)(struct pending *p, int rc); /* answers the request */
};

/* NULL: no memory, and the request is answered with that. fi may be NULL. */
struct pending *pending_create(struct fs *fs, fuse_req_t req, fuse_ino_t ino, const struct fuse_file_info *fi,
                               void (*finish)(struct pending *p, int rc));
void pending_done(void *pending, int rc); /* a sched_done */
void pending_result(struct pending *p, int rc);
#endif
