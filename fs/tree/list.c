#include "fs/tree/list.h"

#include <errno.h>
#include <stdlib.h>

#include "fs/tree/jobs.h"
#include "fs/session/reply.h"

enum { OF_FIXED, OF_GROUP, OF_JOB }; /* the type of an offset, in its bits from 60 */

struct listing {
    struct fs *fs;
    fuse_req_t req;
    fuse_ino_t dir;
    char *buf;
    size_t size, used;
    bool full;
};

static off_t offset(unsigned of, uint64_t id) {
    return (off_t)((uint64_t)of << 60 | id);
}

static unsigned of(off_t o) {
    return (unsigned)((uint64_t)o >> 60);
}

static uint64_t after_id(off_t o, unsigned wanted) {
    return of(o) == wanted ? (uint64_t)o & (((uint64_t)1 << 60) - 1) : 0;
}

uint64_t list_after(off_t after) {
    return after_id(after, OF_JOB);
}

static bool add_entry(struct listing *l, const char *name, fuse_ino_t ino, off_t o) {
    const struct kind_ops *k = tree_kind(l->fs, ino);
    struct stat st = {.st_ino = ino, .st_mode = k->type};
    size_t n = fuse_add_direntry(l->req, l->buf + l->used, l->size - l->used, name, &st, o);
    if (n > l->size - l->used)
        l->full = true;
    else
        l->used += n;
    return !l->full;
}

bool list_add_named(void *listing, const char *name, uint64_t id) {
    struct listing *l = listing;
    return add_entry(l, name, ino_make(id, tree_kind(l->fs, l->dir)->leaf), offset(OF_JOB, id));
}

static bool add_group(void *arg, const struct group *g) {
    struct listing *l = arg;
    if (!jobs_group_shows(l->fs, ino_kind(l->dir), g))
        return true;
    return add_entry(l, g->name, ino_make(g->id, ino_kind(l->dir)), offset(OF_GROUP, g->id));
}

/* A name with both a draft and a current job is listed once, as the current job. */
static bool is_double(struct listing *l, const struct job *draft) {
    struct job current;
    return sched_find(l->fs->sched, ino_id(l->dir), draft->name, false, &current) == 0 &&
           (tree_kind(l->fs, l->dir)->shelves >> current.shelf & 1);
}

static bool add_job(void *arg, const struct job *j) {
    struct listing *l = arg;
    if (j->draft && is_double(l, j))
        return true;
    return list_add_named(l, j->name, j->id);
}

int list_group(struct fs *fs, fuse_ino_t dir, off_t after, struct listing *l) {
    int rc = 0;
    if (of(after) <= OF_GROUP)
        rc = sched_list_groups(fs->sched, ino_id(dir), after_id(after, OF_GROUP), add_group, l);
    if (rc == 0 && !l->full)
        rc = sched_list(fs->sched, ino_id(dir), tree_kind(fs, dir)->shelves, after_id(after, OF_JOB), add_job, l);
    return rc;
}

static fuse_ino_t parent_of(struct fs *fs, fuse_ino_t dir) {
    struct group g;
    enum kind k = ino_kind(dir);
    if (k == KIND_NODE || k == KIND_KEYS)
        return ino_make(0, KIND_NODES);
    if (k == KIND_KEY)
        return ino_make(0, KIND_KEYS);
    if (k == KIND_INFO_JOB) {
        struct job j;
        return ino_make(sched_job(fs->sched, ino_id(dir), &j) == 0 ? j.group : 0, KIND_INFO);
    }
    if (ino_id(dir) && sched_group(fs->sched, ino_id(dir), &g) == 0)
        return ino_make(g.parent, k);
    return FUSE_ROOT_ID;
}

/* ".", "..", then the kinds that have a fixed name here: offsets 1, 2, 2 + kind. */
static void list_fixed(struct fs *fs, fuse_ino_t dir, off_t after, struct listing *l) {
    if (after < 1 && !add_entry(l, ".", dir, 1))
        return;
    if (after < 2 && !add_entry(l, "..", parent_of(fs, dir), 2))
        return;
    for (unsigned k = after > 2 ? (unsigned)after - 1 : 1; k < KINDS; k++) {
        const struct kind_ops *o = tree_kind(fs, ino_make(0, k));
        if (o && o->name && o->parent == ino_kind(dir) &&
            !add_entry(l, o->name, ino_make(ino_id(dir), k), 2 + (off_t)k))
            return;
    }
}

void list_dir(struct fs *fs, fuse_req_t req, fuse_ino_t dir, size_t size, off_t after) {
    const struct kind_ops *d = tree_kind(fs, dir);
    if (!d || !S_ISDIR(d->type)) {
        reply_err(fs, req, -ENOTDIR);
        return;
    }
    struct listing l = {.fs = fs, .req = req, .dir = dir, .size = size, .buf = malloc(size)};
    if (!l.buf) {
        reply_err(fs, req, -ENOMEM);
        return;
    }
    if (of(after) == OF_FIXED)
        list_fixed(fs, dir, after, &l);
    int rc = !l.full && d->list ? d->list(fs, dir, after, &l) : 0;
    if (rc == 0) {
        reply_buffer(fs, req, l.buf, l.used);
        return;
    }
    free(l.buf);
    reply_err(fs, req, rc);
}
