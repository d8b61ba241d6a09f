/* Files that are read on and on, each open from a place of its own: running, .failed and the events. Nothing but that
 * place and the rest of a line is kept for a reader, however slow it is. */
#ifndef PPFS_FEED_H
#define PPFS_FEED_H
#include <stdio.h>

#include "fs/fs.h"

struct feed {
    uint64_t fh; /* 0: free */
    fuse_ino_t ino;
    uid_t uid; /* whose modes decide what it shows */
    gid_t gid;
    uint64_t at;         /* where it is: its kind knows of what */
    uint64_t number, of; /* of events: the number of the next; the job */
    uint64_t reached_by; /* sched_reached_by when it was opened; 0: not known */
    bool fresh;          /* nothing was read yet */
    int64_t answered;    /* clock_ms */
    char *rest;          /* bytes that did not fit into the last answer */
    size_t rest_size, rest_at;
    bool ended;
    void *own; /* of its kind, malloc'd */
};

enum feed_rc {
    FEED_GOES_ON,
    FEED_WAITS,  /* for something to happen */
    FEED_PAUSES, /* for FEED_PAUSE_MS */
    FEED_ENDS,
    FEED_FAILS /* the rest cannot be given: EIO */
};
#define FEED_PAUSE_MS 50 /* between two answers to one reader, where its kind says so */

int feeds_create(struct fs *fs);
void feeds_destroy(struct feeds *x); /* accepts NULL */

/* kind_ops. What a file says comes from kind_ops.feed, which writes a page of it and moves feed.at. */
void feed_open(struct fs *fs, fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void feed_read(struct fs *fs, fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi);
bool feed_ready(struct fs *fs, const struct handle *h);
void feeds_happened(struct fs *fs);          /* sched_config.happened */
void feed_close(struct fs *fs, uint64_t fh); /* also of a handle that is no feed's */
#endif
