#include "fs/session/wait.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/queue.h>

#include "fs/session/reply.h"
#include "net/hash.h"
#include "net/states.h"

#define BUCKETS 4096u

enum wait_state { HANDLED, PARKED, DUE, ANSWERED, REFUSED };
static const struct states wait_states = {
    "request",
    (const struct state[]){[HANDLED] = {"handled", 1 << PARKED},
                           [PARKED] = {"parked", 1 << DUE | 1 << ANSWERED | 1 << REFUSED},
                           [DUE] = {"due", 1 << PARKED | 1 << REFUSED},
                           [ANSWERED] = {"answered", 0},
                           [REFUSED] = {"refused", 0}},
    5};

struct waiter {
    LIST_ENTRY(waiter) in_bucket;
    TAILQ_ENTRY(waiter) due;
    enum wait_state state;
    struct waits *waits;
    struct wait_key key;
    fuse_req_t req;
    uint64_t unique;
    int error; /* nonzero: the answer if the next try has none */
    wait_retry *retry;
    fuse_ino_t ino;
    size_t size;
    off_t off;
    struct fuse_file_info fi;
};

struct waits {
    LIST_HEAD(bucket, waiter) buckets[BUCKETS];
    TAILQ_HEAD(due, waiter) due;
    struct waiter *tried; /* the waiter that is being retried; NULL: none */
};

int waits_create(struct waits **out) {
    *out = calloc(1, sizeof **out);
    if (!*out)
        return -ENOMEM;
    TAILQ_INIT(&(*out)->due);
    return 0;
}

static struct bucket *bucket(struct waits *all, struct wait_key key) {
    return &all->buckets[hash_number(key.id * 2 + key.group) >> 52];
}

static void become(struct waiter *w, enum wait_state to) {
    states_changed(&wait_states, w->unique, NULL, w->state, to);
    w->state = to;
}

static void mark(struct waiter *w) {
    if (w->state != PARKED)
        return;
    TAILQ_INSERT_TAIL(&w->waits->due, w, due);
    become(w, DUE);
}

static void take_out(struct waiter *w, enum wait_state end) {
    if (w->state == DUE)
        TAILQ_REMOVE(&w->waits->due, w, due);
    LIST_REMOVE(w, in_bucket);
    become(w, end);
    free(w);
}

void waits_destroy(struct waits *all) {
    if (!all)
        return;
    for (unsigned i = 0; i < BUCKETS; i++)
        while (!LIST_EMPTY(&all->buckets[i]))
            take_out(LIST_FIRST(&all->buckets[i]), REFUSED);
    free(all);
}

/* May be called with libfuse's locks held: answers later. */
static void on_interrupt(fuse_req_t req, void *arg) {
    struct waiter *w = arg;
    w->error = -EINTR;
    mark(w);
}

void wait_until(struct fs *fs, fuse_req_t req, struct wait_key key, wait_retry *retry, fuse_ino_t ino, size_t size,
                off_t off, const struct fuse_file_info *fi) {
    struct fuse_file_info copy = *fi;
    if (retry(fs, req, ino, size, off, &copy))
        return;
    struct waiter *w = calloc(1, sizeof *w);
    if (!w) {
        reply_err(fs, req, -ENOMEM);
        return;
    }
    *w = (struct waiter){.waits = fs->waits,
                         .key = key,
                         .req = req,
                         .unique = fs->now.unique,
                         .retry = retry,
                         .ino = ino,
                         .size = size,
                         .off = off,
                         .fi = copy};
    LIST_INSERT_HEAD(bucket(fs->waits, key), w, in_bucket);
    become(w, PARKED);
    sched_blocked(fs->sched, fuse_req_ctx(req)->pid, w->unique, key.id);
    fuse_req_interrupt_func(req, on_interrupt, w);
}

void wait_move(struct fs *fs, struct wait_key key, fuse_ino_t ino, off_t off) {
    struct waiter *w = fs->waits->tried;
    if (!w)
        return;
    LIST_REMOVE(w, in_bucket);
    w->key = key;
    w->ino = ino;
    w->off = off;
    LIST_INSERT_HEAD(bucket(fs->waits, key), w, in_bucket);
    sched_waits_on(fs->sched, w->unique, key.id);
}

static bool try(struct fs *fs, struct waiter *w) {
    fs->waits->tried = w;
    fs->now.faults = sched_faults(fs->sched);
    fs->now.handling = true;
    fs->now.uid = fuse_req_ctx(w->req)->uid;
    fs->now.gid = fuse_req_ctx(w->req)->gid;
    bool answered = w->retry(fs, w->req, w->ino, w->size, w->off, &w->fi);
    fs->waits->tried = NULL;
    fs->now.handling = false;
    return answered;
}

bool waits_any(const struct fs *fs, struct wait_key key) {
    const struct waiter *w;
    LIST_FOREACH(w, bucket(fs->waits, key), in_bucket)
        if (w->key.id == key.id && w->key.group == key.group)
            return true;
    return false;
}

void waits_wake(struct fs *fs, struct wait_key key) {
    struct waiter *w;
    LIST_FOREACH(w, bucket(fs->waits, key), in_bucket)
        if (w->key.id == key.id && w->key.group == key.group)
            mark(w);
}

void waits_wake_range(struct fs *fs, uint64_t first, uint64_t end) {
    struct waiter *w;
    for (unsigned i = 0; i < BUCKETS; i++)
        LIST_FOREACH(w, &fs->waits->buckets[i], in_bucket)
            if (!w->key.group && w->key.id >= first && w->key.id < end)
                mark(w);
}

void waits_refuse(struct fs *fs, uint64_t id, uint64_t unique, int rc) {
    struct waiter *w;
    for (int group = 0; group < 2; group++)
        LIST_FOREACH(w, bucket(fs->waits, (struct wait_key){id, group}), in_bucket)
            if (w->unique == unique) {
                w->error = w->error ? w->error : rc;
                mark(w);
                return;
            }
}

static void finish(struct fs *fs, struct waiter *w, enum wait_state end) {
    sched_unblocked(fs->sched, w->unique);
    take_out(w, end);
}

void waits_turn(struct fs *fs) {
    /* Waiters marked during this loop (by an interrupt in a retry, say) are tried in the next turn. */
    struct due list = TAILQ_HEAD_INITIALIZER(list);
    TAILQ_CONCAT(&list, &fs->waits->due, due);
    for (struct waiter *w; (w = TAILQ_FIRST(&list));) {
        TAILQ_REMOVE(&list, w, due);
        become(w, PARKED);
        fuse_req_interrupt_func(w->req, NULL, NULL); /* an answer may outlive w */
        bool answered = try(fs, w);                  /* nothing is refused that is there by now */
        if (!answered && w->error)
            reply_err(fs, w->req, w->error);
        if (answered || w->error)
            finish(fs, w, answered ? ANSWERED : REFUSED);
        else
            fuse_req_interrupt_func(w->req, on_interrupt, w);
    }
}

void waits_end(struct fs *fs, int rc) {
    for (unsigned i = 0; i < BUCKETS; i++)
        while (!LIST_EMPTY(&fs->waits->buckets[i])) {
            struct waiter *w = LIST_FIRST(&fs->waits->buckets[i]);
            fuse_req_interrupt_func(w->req, NULL, NULL);
            fuse_reply_err(w->req, -rc);
            take_out(w, REFUSED);
        }
}
