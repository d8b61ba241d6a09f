#include "fs/tree/feed.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "fs/handles/handle.h"
#include "fs/session/reply.h"
#include "fs/session/wait.h"
#include "fs/tree/tree.h"

#define FEEDS_MAX 512u              /* open at once ... */
#define FEEDS_A_USER 64u            /* ... of them by one user, root apart */
#define FEED_ID (UINT64_C(1) << 62) /* no job has it: what readers wait under */

struct feeds {
    struct fs *fs;
    struct feed all[FEEDS_MAX];
    struct event *again; /* parked readers are tried in the turn after this one */
};

static void on_again(evutil_socket_t fd, short what, void *arg) {
    (void)fd, (void)what;
    struct feeds *x = arg;
    waits_wake(x->fs, (struct wait_key){.id = FEED_ID});
    handle_wake(x->fs, FEED_ID);
}

int feeds_create(struct fs *fs) {
    struct feeds *x = calloc(1, sizeof *x);
    if (!x)
        return -ENOMEM;
    fs->feeds = x;
    x->fs = fs;
    x->again = evtimer_new(fs->base, on_again, x);
    return x->again ? 0 : -ENOMEM;
}

static void forget(struct feed *f) {
    free(f->rest);
    *f = (struct feed){0};
}

void feeds_destroy(struct feeds *x) {
    if (!x)
        return;
    for (unsigned i = 0; i < FEEDS_MAX; i++)
        forget(&x->all[i]);
    if (x->again)
        event_free(x->again);
    free(x);
}

static struct feed *find(struct fs *fs, uint64_t fh) {
    for (unsigned i = 0; i < FEEDS_MAX; i++)
        if (fs->feeds->all[i].fh == fh)
            return &fs->feeds->all[i];
    return NULL;
}

/* A free one. NULL: there are too many, or too many of that user. */
static struct feed *free_one(struct fs *fs, uid_t uid) {
    struct feed *found = NULL;
    unsigned his = 0;
    for (unsigned i = 0; i < FEEDS_MAX; i++) {
        struct feed *f = &fs->feeds->all[i];
        if (f->fh && !handles_find(fs->handles, f->fh))
            forget(f); /* its open was interrupted */
        his += f->fh && f->uid == uid;
        found = f->fh ? found : f;
    }
    return uid && his >= FEEDS_A_USER ? NULL : found;
}

/* The daemon that knew its place may have died: then it begins anew, and its kind says so. */
static struct feed *begin(struct fs *fs, uint64_t fh, fuse_ino_t ino, uid_t uid, gid_t gid) {
    struct feed *f = free_one(fs, uid);
    if (f)
        *f = (struct feed){.fh = fh, .ino = ino, .uid = uid, .gid = gid};
    return f;
}

void feed_open(struct fs *fs, fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi) {
    const struct fuse_ctx *who = fuse_req_ctx(req);
    int rc = (fi->flags & O_ACCMODE) != O_RDONLY ? -EACCES : 0;
    if (rc == 0)
        rc = handle_open(fs, req, fi, fs->now.unique, ino, FEED_ID, HANDLE_LIVE);
    if (rc == 0 && !find(fs, fi->fh) && !begin(fs, fi->fh, ino, who->uid, who->gid)) {
        handles_remove(fs->handles, fi->fh);
        rc = -EMFILE;
    }
    if (rc) {
        reply_err(fs, req, rc);
        return;
    }
    fi->noflush = fi->direct_io = fi->nonseekable = 1;
    reply_open(fs, req, fi);
}

void feed_close(struct fs *fs, uint64_t fh) {
    struct feed *f = find(fs, fh);
    if (f && fh)
        forget(f);
}

/* Writes the next page into f->rest, unless something is left there. */
static int fill(struct fs *fs, struct feed *f, size_t size, enum feed_rc *more) {
    size_t made = 0;
    char *text = NULL;
    *more = FEED_GOES_ON;
    if (f->rest)
        return 0;
    FILE *out = open_memstream(&text, &made);
    if (!out)
        return -ENOMEM;
    *more = f->ended ? FEED_ENDS : tree_kind(fs, f->ino)->feed(fs, f, out, size);
    f->ended = *more == FEED_ENDS;
    bool bad = ferror(out);
    if (fclose(out) != 0 || bad || !made) {
        free(text);
        return bad ? -ENOMEM : 0;
    }
    f->rest = text;
    f->rest_size = made;
    f->rest_at = 0;
    return 0;
}

static void try_soon(struct fs *fs) {
    static const struct timeval at_once = {0, 0};
    if (!evtimer_pending(fs->feeds->again, NULL))
        evtimer_add(fs->feeds->again, &at_once);
}

static void give_rest(struct fs *fs, fuse_req_t req, struct feed *f, size_t size) {
    size_t n = f->rest_size - f->rest_at < size ? f->rest_size - f->rest_at : size;
    reply_bytes(fs, req, f->rest + f->rest_at, n);
    f->rest_at += n;
    if (f->rest_at < f->rest_size)
        return;
    free(f->rest);
    f->rest = NULL;
}

/* Answers nothing while a change is not committed: such an answer may be taken back, and the place could not. */
static bool read_retry(struct fs *fs, fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
                       struct fuse_file_info *fi) {
    struct feed *f = find(fs, fi->fh);
    enum feed_rc more;
    (void)ino, (void)off;
    if (sched_dirty(fs->sched)) {
        try_soon(fs);
        return false;
    }
    int rc = f ? fill(fs, f, size, &more) : -EMFILE;
    if (rc)
        reply_err(fs, req, rc);
    else if (f->rest)
        give_rest(fs, req, f, size);
    else if (more == FEED_ENDS)
        reply_bytes(fs, req, "", 0);
    else if (more == FEED_WAITS && (fi->flags & O_NONBLOCK))
        reply_err(fs, req, -EAGAIN);
    else {
        if (more == FEED_GOES_ON)
            try_soon(fs);
        return false;
    }
    return true;
}

void feed_read(struct fs *fs, fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi) {
    const struct fuse_ctx *who = fuse_req_ctx(req);
    const struct handle *x = handles_find(fs->handles, fi->fh);
    if (!fi->lock_owner) { /* sendfile(2) would take the present end for that of the file */
        reply_err(fs, req, -EINVAL);
        return;
    }
    if (!find(fs, fi->fh))
        begin(fs, fi->fh, ino, x ? x->uid : who->uid, who->gid);
    wait_until(fs, req, (struct wait_key){.id = FEED_ID}, false, read_retry, ino, size, off, fi);
}
