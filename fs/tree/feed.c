#include "fs/tree/feed.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "fs/handles/handle.h"
#include "fs/session/reply.h"
#include "fs/session/wait.h"
#include "fs/tree/tree.h"
#include "net/clock.h"
#include "net/event.h"

#define FEEDS_MAX 512u   /* open at once ... */
#define FEEDS_A_USER 64u /* ... of them by one user, root apart */
#define DEAR_MAX 32u     /* and of a kind that is dear */
#define DEAR_A_USER 4u
#define FEED_ID (UINT64_C(1) << 62) /* no job has it: what readers wait under */

struct feeds {
    struct fs *fs;
    struct feed all[FEEDS_MAX];
    struct event *again;  /* parked readers are tried in the turn after this one ... */
    struct event *paused; /* ... or after a pause */
    unsigned count;
    bool dear_done; /* in this turn */
};

static void on_again(evutil_socket_t fd, short what, void *arg) {
    struct feeds *x = arg;
    x->dear_done = false;
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
    x->paused = evtimer_new(fs->base, on_again, x);
    return x->again && x->paused ? 0 : -ENOMEM;
}

static void forget(struct feeds *x, struct feed *f) {
    x->count -= f->fh != 0;
    free(f->rest);
    free(f->own);
    *f = (struct feed){0};
}

void feeds_destroy(struct feeds *x) {
    if (!x)
        return;
    for (unsigned i = 0; i < FEEDS_MAX; i++)
        forget(x, &x->all[i]);
    event_drop(x->again);
    event_drop(x->paused);
    free(x);
}

static struct feed *find(struct fs *fs, uint64_t fh) {
    for (unsigned i = 0; i < FEEDS_MAX; i++)
        if (fs->feeds->all[i].fh == fh)
            return &fs->feeds->all[i];
    return NULL;
}

/* A free one. NULL: there are too many, or too many of that user. */
static struct feed *free_one(struct fs *fs, fuse_ino_t ino, uid_t uid) {
    struct feed *found = NULL;
    bool dear = tree_kind(fs, ino)->feed_is_dear;
    unsigned his = 0, same = 0, his_same = 0;
    for (unsigned i = 0; i < FEEDS_MAX; i++) {
        struct feed *f = &fs->feeds->all[i];
        if (f->fh && !handles_find(fs->handles, f->fh))
            forget(fs->feeds, f); /* its open was interrupted */
        his += f->fh && f->uid == uid;
        same += f->fh && f->ino == ino;
        his_same += f->fh && f->ino == ino && f->uid == uid;
        found = f->fh ? found : f;
    }
    if (dear && (same >= DEAR_MAX || (uid && his_same >= DEAR_A_USER)))
        return NULL;
    return uid && his >= FEEDS_A_USER ? NULL : found;
}

static struct feed *begin(struct fs *fs, uint64_t fh, fuse_ino_t ino, uid_t uid, gid_t gid) {
    struct feed *f = free_one(fs, ino, uid);
    if (!f)
        return NULL;
    *f = (struct feed){.fh = fh, .ino = ino, .uid = uid, .gid = gid};
    fs->feeds->count++;
    if (tree_kind(fs, ino)->feed_begin)
        tree_kind(fs, ino)->feed_begin(fs, f);
    return f;
}

/* The daemon that knew this reader has died: where it was is in the handle. */
static void resume(struct fs *fs, const struct handle *x, gid_t gid) {
    struct feed *f = begin(fs, x->fh, x->ino, x->uid, gid);
    if (!f || !x->seen)
        return;
    f->at = x->seen;
    f->number = f->reached_by = 0;
    f->fresh = false;
}

void feed_open(struct fs *fs, fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi) {
    const struct fuse_ctx *who = fuse_req_ctx(req);
    int rc = handle_open(fs, req, fi, fs->now.unique, ino, FEED_ID, HANDLE_LIVE);
    struct feed *f = rc == 0 ? begin(fs, fi->fh, ino, who->uid, who->gid) : NULL;
    struct handle *x = rc == 0 ? handles_find(fs->handles, fi->fh) : NULL;
    if (x)
        x->seen = f ? f->at : 0;
    if (rc == 0 && !f) {
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
        forget(fs->feeds, f);
}

/* Writes the next page into f->rest, unless something is left there. */
static int fill(struct fs *fs, struct feed *f, size_t size, enum feed_rc *more) {
    size_t made = 0;
    char *text = NULL;
    bool dear = tree_kind(fs, f->ino)->feed_is_dear;
    *more = FEED_GOES_ON;
    if (f->rest || (dear && fs->feeds->dear_done))
        return 0;
    fs->feeds->dear_done |= dear;
    FILE *out = open_memstream(&text, &made);
    if (!out)
        return -ENOMEM;
    *more = f->ended ? FEED_ENDS : tree_kind(fs, f->ino)->feed(fs, f, out, size);
    f->ended = *more == FEED_ENDS;
    struct handle *x = handles_find(fs->handles, f->fh);
    if (x)
        x->seen = f->at;
    bool bad = ferror(out);
    if (fclose(out) != 0 || bad || !made || *more == FEED_FAILS) {
        free(text);
        if (*more == FEED_FAILS)
            return -EIO;
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

static void try_later(struct fs *fs) {
    static const struct timeval pause = {0, FEED_PAUSE_MS * 1000};
    if (!evtimer_pending(fs->feeds->paused, NULL))
        evtimer_add(fs->feeds->paused, &pause);
}

void feeds_happened(struct fs *fs) {
    if (!fs->feeds->count || evtimer_pending(fs->feeds->paused, NULL))
        return;
    try_soon(fs);
    try_later(fs);
}

static void give_rest(struct fs *fs, fuse_req_t req, struct feed *f, size_t size) {
    size_t n = f->rest_size - f->rest_at < size ? f->rest_size - f->rest_at : size;
    reply_bytes(fs, req, f->rest + f->rest_at, n);
    f->answered = clock_ms();
    f->rest_at += n;
    if (f->rest_at < f->rest_size)
        return;
    free(f->rest);
    f->rest = NULL;
}

static bool not_yet(struct fs *fs, fuse_req_t req, enum feed_rc more, const struct fuse_file_info *fi) {
    if (more == FEED_GOES_ON) {
        try_soon(fs);
        return false;
    }
    if (more == FEED_PAUSES)
        try_later(fs);
    if (fi->flags & O_NONBLOCK)
        reply_err(fs, req, -EAGAIN);
    return fi->flags & O_NONBLOCK;
}

/* Answers nothing while a change is not committed: such an answer may be taken back, and the place could not. */
static bool read_retry(struct fs *fs, fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
                       struct fuse_file_info *fi) {
    struct feed *f = find(fs, fi->fh);
    enum feed_rc more;
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
    else
        return not_yet(fs, req, more, fi);
    return true;
}

void feed_read(struct fs *fs, fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi) {
    const struct fuse_ctx *who = fuse_req_ctx(req);
    const struct handle *x = handles_find(fs->handles, fi->fh);
    if (!fi->lock_owner) { /* sendfile(2) would take the present end for that of the file */
        reply_err(fs, req, -EINVAL);
        return;
    }
    if (x && !find(fs, fi->fh))
        resume(fs, x, who->gid);
    wait_until(fs, req, (struct wait_key){.id = FEED_ID}, read_retry, ino, size, off, fi);
}

bool feed_ready(struct fs *fs, const struct handle *h) {
    struct feed *f = find(fs, h->fh);
    enum feed_rc more = FEED_GOES_ON;
    if (!f || (f->rest && f->rest_at < f->rest_size))
        return true;
    int rc = sched_dirty(fs->sched) ? 0 : fill(fs, f, 1, &more);
    if (rc || f->rest || more == FEED_ENDS)
        return true;
    if (more == FEED_GOES_ON)
        try_soon(fs);
    else if (more == FEED_PAUSES)
        try_later(fs);
    return false;
}
