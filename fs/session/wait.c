#include "fs/session/wait.h"

#include <errno.h>
#include <stdlib.h>

#include "fs/session/reply.h"
#include "net/hash.h"

#define BUCKETS 4096u

struct waiter {
    struct waiter *next, **at;         /* in its bucket */
    struct waiter *due_next, **due_at; /* among the marked; due_at NULL: not marked */
    struct waits *waits;
    struct wait_key key;
    fuse_req_t req;
    uint64_t unique;
    pid_t pid;
    bool blocks;
    int error; /* it waits no longer: what it is answered, 0: it does */
    wait_retry *retry;
    fuse_ino_t ino;
    size_t size;
    off_t off;
    struct fuse_file_info fi;
};

struct waits {
    struct waiter *buckets[BUCKETS];
    struct waiter *due;
    struct waiter *tried; /* whose retry is under way, NULL: none's */
};

int waits_create(struct waits **out) {
    *out = calloc(1, sizeof **out);
    return *out ? 0 : -ENOMEM;
}

static struct waiter **bucket(struct waits *all, struct wait_key key) {
    return &all->buckets[hash_number(key.id * 2 + key.group) >> 52];
}

static void mark(struct waiter *w) {
    if (w->due_at)
        return;
    w->due_next = w->waits->due;
    if (w->due_next)
        w->due_next->due_at = &w->due_next;
    w->due_at = &w->waits->due;
    w->waits->due = w;
}

static void unmark(struct waiter *w) {
    if (!w->due_at)
        return;
    *w->due_at = w->due_next;
    if (w->due_next)
        w->due_next->due_at = w->due_at;
    w->due_at = NULL;
}

static void put_in(struct waiter *w) {
    struct waiter **head = bucket(w->waits, w->key);
    w->next = *head;
    if (w->next)
        w->next->at = &w->next;
    w->at = head;
    *head = w;
}

static void leave_bucket(struct waiter *w) {
    *w->at = w->next;
    if (w->next)
        w->next->at = w->at;
}

static void take_out(struct waiter *w) {
    unmark(w);
    leave_bucket(w);
    free(w);
}

void waits_destroy(struct waits *all) {
    if (!all)
        return;
    for (unsigned i = 0; i < BUCKETS; i++)
        while (all->buckets[i])
            take_out(all->buckets[i]);
    free(all);
}

/* May be called with libfuse's locks held: answers later. */
static void on_interrupt(fuse_req_t req, void *arg) {
    (void)req;
    struct waiter *w = arg;
    w->error = -EINTR;
    mark(w);
}

void wait_until(struct fs *fs, fuse_req_t req, struct wait_key key, bool blocks, wait_retry *retry, fuse_ino_t ino,
                size_t size, off_t off, const struct fuse_file_info *fi) {
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
                         .pid = fuse_req_ctx(req)->pid,
                         .blocks = blocks,
                         .retry = retry,
                         .ino = ino,
                         .size = size,
                         .off = off,
                         .fi = copy};
    put_in(w);
    if (blocks)
        sched_blocked(fs->sched, w->pid, w->unique, key.id);
    fuse_req_interrupt_func(req, on_interrupt, w);
}

void wait_move(struct fs *fs, struct wait_key key, fuse_ino_t ino, off_t off) {
    struct waiter *w = fs->waits->tried;
    if (!w)
        return;
    leave_bucket(w);
    w->key = key;
    w->ino = ino;
    w->off = off;
    put_in(w);
    if (w->blocks)
        sched_waits_on(fs->sched, w->unique, key.id);
}

static bool try(struct fs *fs, struct waiter *w) {
    fs->waits->tried = w;
    fs->now.faults = sched_faults(fs->sched);
    fs->now.looking = true;
    bool answered = w->retry(fs, w->req, w->ino, w->size, w->off, &w->fi);
    fs->waits->tried = NULL;
    fs->now.looking = false;
    return answered;
}

bool waits_any(const struct fs *fs, struct wait_key key) {
    const struct waiter *w = *bucket(fs->waits, key);
    while (w && (w->key.id != key.id || w->key.group != key.group))
        w = w->next;
    return w;
}

void waits_wake(struct fs *fs, struct wait_key key) {
    for (struct waiter *w = *bucket(fs->waits, key); w; w = w->next)
        if (w->key.id == key.id && w->key.group == key.group)
            mark(w);
}

void waits_refuse(struct fs *fs, struct wait_key key, uint64_t unique, int rc) {
    for (struct waiter *w = *bucket(fs->waits, key); w; w = w->next)
        if (w->unique == unique) {
            w->error = w->error ? w->error : rc;
            mark(w);
            return;
        }
}

static void finish(struct fs *fs, struct waiter *w) {
    if (w->blocks)
        sched_unblocked(fs->sched, w->unique);
    take_out(w);
}

void waits_turn(struct fs *fs) {
    /* What is marked on the way (a retry may be interrupted at once) comes with the next turn. */
    struct waiter *list = fs->waits->due;
    fs->waits->due = NULL;
    if (list)
        list->due_at = &list;
    while (list) {
        struct waiter *w = list;
        unmark(w);
        fuse_req_interrupt_func(w->req, NULL, NULL); /* an answer may outlive w */
        if (w->error) {
            reply_err(fs, w->req, w->error);
            finish(fs, w);
        } else if (try(fs, w)) {
            finish(fs, w);
        } else {
            fuse_req_interrupt_func(w->req, on_interrupt, w);
        }
    }
}

void waits_end(struct fs *fs, int rc) {
    for (unsigned i = 0; i < BUCKETS; i++)
        while (fs->waits->buckets[i]) {
            struct waiter *w = fs->waits->buckets[i];
            fuse_req_interrupt_func(w->req, NULL, NULL);
            fuse_reply_err(w->req, -rc);
            take_out(w);
        }
}
