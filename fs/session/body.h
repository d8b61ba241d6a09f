/* READ of a job's bytes, from the database or from disk. */
#ifndef PPFS_BODY_H
#define PPFS_BODY_H
#include "fs/fs.h"

struct body_part { /* a file: first prefix, then the body from its byte base on */
    uint64_t job;
    enum job_body body;
    const void *prefix; /* copied */
    size_t prefix_size;
    uint64_t base;
};

/* Answers with size bytes from off, fewer only at the end of the file. */
void body_read(struct fs *fs, fuse_req_t req, const struct body_part *part, size_t size, off_t off);
/* sched_size, but 0 where there is none. */
uint64_t body_size(struct fs *fs, uint64_t job, enum job_body body);
#endif
