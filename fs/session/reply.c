#include "fs/session/reply.h"

#include <errno.h>
#include <linux/fuse.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "fs/handles/handle.h"
#include "fs/session/loop.h"

enum reply_type {
    REPLY_ERR,
    REPLY_ENTRY,
    REPLY_ATTR,
    REPLY_WRITE,
    REPLY_STATFS,
    REPLY_POLL,
    REPLY_DATA,
    REPLY_OPEN,
    REPLY_CREATE,
    REPLY_CLOSE
};

struct reply {
    STAILQ_ENTRY(reply) next;
    fuse_req_t req;
    enum reply_type type;
    union {
        int rc;
        struct {
            size_t size;
            uint64_t fh, off;
        } write;
        uint64_t closes; /* fh */
        unsigned events;
        struct statvfs statfs;
        struct {
            struct stat st;
            double timeout;
        } attr;
        struct {
            const void *bytes;
            size_t size;
        } data;
        struct {
            struct fuse_entry_param entry;
            struct fuse_file_info fi;
        } open;
    };
    void *owned;   /* freed with the reply: what data.bytes points to */
    void *request; /* copy of a request that only reads, or that removes; else NULL */
    bool removes;
    size_t request_size;
};

struct replies {
    STAILQ_HEAD(queue, reply) queue; /* in order of arrival */
};

int replies_create(struct replies **out) {
    struct replies *r = calloc(1, sizeof *r);
    if (!r)
        return -ENOMEM;
    STAILQ_INIT(&r->queue);
    *out = r;
    return 0;
}

static void reply_free(struct reply *r) {
    free(r->owned);
    free(r->request);
    free(r);
}

void replies_destroy(struct replies *r) {
    if (!r)
        return;
    for (struct reply *x; (x = STAILQ_FIRST(&r->queue));) {
        STAILQ_REMOVE_HEAD(&r->queue, next);
        reply_free(x);
    }
    free(r);
}

bool replies_waiting(const struct fs *fs) {
    return !STAILQ_EMPTY(&fs->replies->queue);
}

/* Whether the request changes nothing, so that it may be handled again later. */
static bool only_reads(const struct request *q) {
    switch (((const struct fuse_in_header *)q->bytes)->opcode) {
    case FUSE_LOOKUP:
    case FUSE_GETATTR:
    case FUSE_READ:
    case FUSE_READDIR:
    case FUSE_POLL:
    case FUSE_STATFS: return true;
    default: return false;
    }
}

/* A request that frees space is not refused for lack of space while the reserve for that lasts. */
static bool removes(const struct request *q) {
    uint32_t opcode = ((const struct fuse_in_header *)q->bytes)->opcode;
    return opcode == FUSE_UNLINK || opcode == FUSE_RMDIR;
}

/* A handle is confirmed before the kernel has the reply: killed in between, the next daemon has the request again, and
 * opens it under the same number. */
static void send_success(struct fs *fs, const struct reply *r) {
    bool opens = r->type == REPLY_OPEN || r->type == REPLY_CREATE;
    int rc = 0;
    if (opens)
        handles_confirm(fs->handles, r->open.fi.fh);
    switch (r->type) {
    case REPLY_ERR: fuse_reply_err(r->req, -r->rc); break;
    case REPLY_ENTRY: fuse_reply_entry(r->req, &r->open.entry); break;
    case REPLY_ATTR: fuse_reply_attr(r->req, &r->attr.st, r->attr.timeout); break;
    case REPLY_WRITE: fuse_reply_write(r->req, r->write.size); break;
    case REPLY_STATFS: fuse_reply_statfs(r->req, &r->statfs); break;
    case REPLY_POLL: fuse_reply_poll(r->req, r->events); break;
    case REPLY_DATA: fuse_reply_buf(r->req, r->data.bytes, r->data.size); break;
    case REPLY_CLOSE: fuse_reply_err(r->req, 0); break;
    case REPLY_OPEN: rc = fuse_reply_open(r->req, &r->open.fi); break;
    case REPLY_CREATE: rc = fuse_reply_create(r->req, &r->open.entry, &r->open.fi); break;
    }
    if (opens && rc == -ENOENT)
        handle_close(fs, r->open.fi.fh); /* interrupted: no RELEASE will come */
}

/* Answers with error instead, and notes the refused write in the handle. */
static void refuse(struct fs *fs, struct reply *r, int error) {
    if (r->type == REPLY_OPEN || r->type == REPLY_CREATE)
        handles_remove(fs->handles, r->open.fi.fh);
    if (r->type == REPLY_WRITE)
        handle_write_failed(fs, r->write.fh, r->write.off, error);
    if (r->type == REPLY_CLOSE)
        handle_close_failed(fs, r->closes, error);
    fuse_reply_err(r->req, error);
}

static void send_failure(struct fs *fs, struct reply *r, int rc) {
    if (r->request && (!r->removes || sched_made_room(fs->sched))) {
        fuse_reply_none(r->req); /* frees libfuse's request; the copy gets the answer */
        loop_again(fs, r->request, r->request_size);
        return;
    }
    refuse(fs, r, -rc);
}

void replies_send(struct fs *fs, int rc) {
    struct queue all = STAILQ_HEAD_INITIALIZER(all);
    STAILQ_CONCAT(&all, &fs->replies->queue);
    for (struct reply *r; (r = STAILQ_FIRST(&all));) {
        STAILQ_REMOVE_HEAD(&all, next);
        if (rc)
            send_failure(fs, r, rc);
        else
            send_success(fs, r);
        reply_free(r);
    }
}

/* Sends r now or keeps a copy of it. */
static void answer(struct fs *fs, fuse_req_t req, struct reply *r) {
    r->req = req;
    /* the database could not be read: the answer may be wrong */
    if (fs->now.handling && sched_faults(fs->sched) != fs->now.faults) {
        refuse(fs, r, EIO);
        free(r->owned);
        return;
    }
    if (!sched_dirty(fs->sched)) {
        send_success(fs, r);
        free(r->owned);
        return;
    }
    struct reply *kept = malloc(sizeof *kept);
    if (!kept)
        goto no_memory;
    *kept = *r;
    if (kept->type == REPLY_DATA && !kept->owned && kept->data.size) {
        kept->owned = malloc(kept->data.size);
        if (!kept->owned)
            goto no_memory;
        memcpy(kept->owned, r->data.bytes, r->data.size);
        kept->data.bytes = kept->owned;
    }
    kept->removes = fs->now.bytes && removes(&fs->now);
    if (fs->now.bytes && (kept->removes || only_reads(&fs->now)) && (kept->request = malloc(fs->now.size))) {
        memcpy(kept->request, fs->now.bytes, fs->now.size);
        kept->request_size = fs->now.size;
    }
    STAILQ_INSERT_TAIL(&fs->replies->queue, kept, next);
    return;
no_memory:
    free(kept);
    refuse(fs, r, ENOMEM);
    free(r->owned);
}

void reply_err(struct fs *fs, fuse_req_t req, int rc) {
    if (rc && fs->now.handling && fs->now.again)
        handle_close(fs, fs->now.unique); /* the last daemon would have opened it */
    answer(fs, req, &(struct reply){.type = REPLY_ERR, .rc = rc});
}

void reply_entry(struct fs *fs, fuse_req_t req, const struct fuse_entry_param *e) {
    answer(fs, req, &(struct reply){.type = REPLY_ENTRY, .open.entry = *e});
}

void reply_attr(struct fs *fs, fuse_req_t req, const struct stat *st, double timeout) {
    answer(fs, req, &(struct reply){.type = REPLY_ATTR, .attr = {*st, timeout}});
}

void reply_write(struct fs *fs, fuse_req_t req, size_t size, uint64_t fh, uint64_t off) {
    answer(fs, req, &(struct reply){.type = REPLY_WRITE, .write = {size, fh, off}});
}

void reply_close(struct fs *fs, fuse_req_t req, uint64_t fh) {
    answer(fs, req, &(struct reply){.type = REPLY_CLOSE, .closes = fh});
}

void reply_statfs(struct fs *fs, fuse_req_t req, const struct statvfs *st) {
    answer(fs, req, &(struct reply){.type = REPLY_STATFS, .statfs = *st});
}

void reply_poll(struct fs *fs, fuse_req_t req, unsigned events) {
    answer(fs, req, &(struct reply){.type = REPLY_POLL, .events = events});
}

void reply_bytes(struct fs *fs, fuse_req_t req, const void *bytes, size_t size) {
    answer(fs, req, &(struct reply){.type = REPLY_DATA, .data = {bytes, size}});
}

void reply_buffer(struct fs *fs, fuse_req_t req, void *malloced, size_t size) {
    answer(fs, req, &(struct reply){.type = REPLY_DATA, .data = {malloced, size}, .owned = malloced});
}

void reply_open(struct fs *fs, fuse_req_t req, const struct fuse_file_info *fi) {
    answer(fs, req, &(struct reply){.type = REPLY_OPEN, .open.fi = *fi});
}

void reply_create(struct fs *fs, fuse_req_t req, const struct fuse_entry_param *e, const struct fuse_file_info *fi) {
    answer(fs, req, &(struct reply){.type = REPLY_CREATE, .open = {*e, *fi}});
}
