#include "fs/session/pending.h"

#include <errno.h>
#include <stdlib.h>

#include "fs/session/reply.h"

struct pending *pending_create(struct fs *fs, fuse_req_t req, fuse_ino_t ino, const struct fuse_file_info *fi,
                               void (*finish)(struct pending *p, int rc)) {
    struct pending *p = calloc(1, sizeof *p);
    if (!p) {
        reply_err(fs, req, -ENOMEM);
        return NULL;
    }
    p->fs = fs;
    p->req = req;
    p->ino = ino;
    if (fi)
        p->fi = *fi;
    p->unique = fs->now.unique;
    p->finish = finish;
    return p;
}

void pending_done(void *arg, int rc) {
    struct pending *p = arg;
    p->finish(p, rc);
    free(p->kept);
    free(p->job);
    free(p);
}

void pending_result(struct pending *p, int rc) {
    if (rc != -EINPROGRESS)
        pending_done(p, rc);
}
