#include "fs/handle.h"

#include <errno.h>
#include <linux/fuse.h>
#include <stdlib.h>
#include <unistd.h>

#include "fs/reply.h"

struct releases { /* drafts whose release could not be committed yet */
    struct event *timer;
    uint64_t *drafts;
    size_t count, room;
};

static void on_release_timer(evutil_socket_t fd, short what, void *arg) {
    (void)fd, (void)what;
    struct fs *fs = arg;
    struct releases *r = fs->releases;
    size_t n = r->count, left = 0;
    for (size_t i = 0; i < n; i++) {
        uint64_t draft = r->drafts[i];
        if (handles_count(fs->handles, draft, HANDLE_WRITER))
            continue; /* opened again: its close does it */
        int rc = sched_release(fs->sched, draft);
        if (rc == 0)
            reply_released(fs, NULL, draft); /* comes back here when this too is not committed */
        else if (rc != -ENOENT)
            r->drafts[left++] = draft;
    }
    r->count = left;
    if (left)
        evtimer_add(r->timer, &(struct timeval){.tv_usec = 250000});
}

int releases_create(struct fs *fs) {
    struct releases *r = calloc(1, sizeof *r);
    if (r && !(r->timer = evtimer_new(fs->base, on_release_timer, fs))) {
        free(r);
        r = NULL;
    }
    fs->releases = r;
    return r ? 0 : -ENOMEM;
}

void releases_destroy(struct releases *r) {
    if (!r)
        return;
    event_free(r->timer);
    free(r->drafts);
    free(r);
}

void handle_release_later(struct fs *fs, uint64_t draft) {
    struct releases *r = fs->releases;
    if (!draft)
        return;
    if (r->count == r->room) {
        size_t room = r->room ? 2 * r->room : 16;
        uint64_t *more = realloc(r->drafts, room * sizeof *more);
        if (!more)
            return; /* the next start of a daemon finds the draft */
        r->drafts = more;
        r->room = room;
    }
    r->drafts[r->count++] = draft;
    evtimer_add(r->timer, &(struct timeval){.tv_usec = 250000});
}

int handle_open(struct fs *fs, struct fuse_file_info *fi, uint64_t unique, fuse_ino_t ino, uint64_t job,
                unsigned flags) {
    fi->fh = unique;
    return handles_put(fs->handles, unique, ino, job, flags) ? 0 : -ENFILE;
}

uint64_t handle_close(struct fs *fs, uint64_t fh) {
    struct handle *x = handles_find(fs->handles, fh);
    if (!x)
        return 0;
    uint64_t id = x->job;
    bool writer = x->flags & HANDLE_WRITER;
    handles_remove(fs->handles, fh);
    if (writer) {
        if (handles_count(fs->handles, id, HANDLE_WRITER))
            return 0;
        int rc = sched_release(fs->sched, id);
        if (rc && rc != -ENOENT)
            handle_release_later(fs, id);
        return rc ? 0 : id;
    }
    struct job job;
    if (!handles_first(fs->handles, id) && sched_job(fs->sched, id, &job) == 0 && job.shelf == SHELF_ORPHAN)
        sched_drop(fs->sched, id);
    return 0;
}

int handle_writer(struct fs *fs, fuse_ino_t ino, const struct fuse_file_info *fi, bool writes, struct handle **out) {
    struct handle *x = handles_find(fs->handles, fi->fh);
    struct job job;
    if (!x && writes && ino_kind(ino) == KIND_JOB && sched_job(fs->sched, ino_id(ino), &job) == 0 && job.draft)
        x = handles_put(fs->handles, fi->fh, ino, job.id, HANDLE_WRITER | HANDLE_CONFIRMED);
    if (!x || !(x->flags & HANDLE_WRITER))
        return -EBADF;
    *out = x;
    return 0;
}

/* libfuse's own call wants a struct that only lives as long as one daemon; the kernel's handle outlives it. */
static void wake(void *arg, struct handle *x) {
    struct fs *fs = arg;
    if (!x->poll)
        return;
    struct {
        struct fuse_out_header head;
        struct fuse_notify_poll_wakeup_out out;
    } note = {{.len = sizeof note, .error = FUSE_NOTIFY_POLL}, {.kh = x->poll}};
    x->poll = 0;
    if (write(fuse_session_fd(fs->session), &note, sizeof note) < 0)
        return; /* the handle was closed meanwhile: nobody to wake */
}

void handle_wake(struct fs *fs, uint64_t job) {
    for (struct handle *x = handles_first(fs->handles, job); x; x = handles_next(fs->handles, x))
        wake(fs, x);
}

void handle_wake_all(struct fs *fs) {
    handles_each(fs->handles, wake, fs);
}

bool handle_is_open(void *arg, uint64_t id, bool for_writing) {
    struct fs *fs = arg;
    return for_writing ? handles_count(fs->handles, id, HANDLE_WRITER) : handles_first(fs->handles, id) != NULL;
}
