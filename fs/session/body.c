#include "fs/session/body.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fs/session/reply.h"

struct reading {
    struct fs *fs;
    fuse_req_t req;
    uint64_t job;
    enum job_body body;
    uint64_t off; /* offset in the body of buf[got] */
    char *buf;
    size_t got, want;
};

uint64_t body_size(struct fs *fs, uint64_t job, enum job_body body) {
    int64_t n = sched_size(fs->sched, job, body);
    return n > 0 ? (uint64_t)n : 0;
}

static void finish(struct reading *r, int64_t rc) {
    if (rc < 0) {
        free(r->buf);
        reply_err(r->fs, r->req, (int)rc);
    } else {
        reply_buffer(r->fs, r->req, r->buf, r->got);
    }
    free(r);
}

static void read_on(void *arg, int rc);

/* Reads until there are enough bytes or no more, for the kernel takes a short read for the end of the file. */
static void read_more(struct reading *r) {
    int64_t n = 0;
    while (r->got < r->want) {
        n = sched_read(r->fs->sched, r->job, r->body, r->buf + r->got, r->want - r->got, r->off, read_on, r);
        if (n == -EINPROGRESS)
            return;
        if (n <= 0)
            break;
        r->got += (size_t)n;
        r->off += (uint64_t)n;
    }
    finish(r, n < 0 ? n : 0);
}

static void read_on(void *arg, int rc) {
    struct reading *r = arg;
    if (rc <= 0) {
        finish(r, rc);
        return;
    }
    r->got += (size_t)rc;
    r->off += (uint64_t)rc;
    read_more(r);
}

void body_read(struct fs *fs, fuse_req_t req, const struct body_part *part, size_t size, off_t off) {
    struct reading *r = calloc(1, sizeof *r);
    char *buf = malloc(size + 1);
    if (!r || !buf) {
        free(r);
        free(buf);
        reply_err(fs, req, -ENOMEM);
        return;
    }
    uint64_t at = (uint64_t)off;
    *r = (struct reading){.fs = fs, .req = req, .job = part->job, .body = part->body, .buf = buf, .want = size};
    if (at < part->prefix_size) {
        size_t n = part->prefix_size - at;
        r->got = n < size ? n : size;
        memcpy(buf, (const char *)part->prefix + at, r->got);
        r->off = part->base;
    } else {
        r->off = part->base + (at - part->prefix_size);
    }
    read_more(r);
}
