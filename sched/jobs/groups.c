/* Groups: directories below jobs/, with the same path below results/, failures/ and info/. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "net/clock.h"
#include "net/hash.h"
#include "sched/jobs/job_files.h"
#include "sched/jobs/state.h"

#define MOVED_MAX 10000 /* groups that are looked at in one request */

int sched_group(struct sched *s, uint64_t id, struct group *out) {
    return store_group_get(s->store, id, out);
}

int sched_find_group(struct sched *s, uint64_t parent, const char *name, struct group *out) {
    return store_group_find(s->store, parent, name, out);
}

int sched_list_groups(struct sched *s, uint64_t parent, uint64_t after, bool (*each)(void *, const struct group *),
                      void *arg) {
    return store_group_list(s->store, parent, after, each, arg);
}

struct walk { /* from a group to those above it, without the topmost */
    uint64_t next;
    struct group g;
    int depth, rc;
};

/* The next is in w->g. false: there is none, or *w says in rc why it cannot be had. */
static bool walk_up(struct sched *s, struct walk *w) {
    if (w->next == 0 || w->rc < 0)
        return false;
    w->rc = w->depth > GROUP_LEVELS ? -ELOOP : store_group_get(s->store, w->next, &w->g);
    w->next = w->g.parent;
    w->depth += w->rc == 0;
    return w->rc == 0;
}

int group_depth(struct sched *s, uint64_t id) {
    struct walk w = {.next = id};
    while (walk_up(s, &w))
        ;
    return w.depth;
}

bool group_may_search(const struct group *g, uid_t uid, gid_t gid) {
    if (uid == 0 || g->id == 0)
        return true;
    if (uid == g->uid)
        return g->mode & 0100;
    if (gid == g->gid)
        return g->mode & 0010;
    return (g->mode & 0011) == 0011; /* the user may be in its group, which alone may be excluded */
}

bool group_may_reach(struct sched *s, uint64_t group, uid_t uid, gid_t gid) {
    struct walk w = {.next = group};
    while (walk_up(s, &w))
        if (!group_may_search(&w.g, uid, gid))
            return false;
    return w.rc == 0;
}

uint64_t group_reached_by(struct sched *s, uint64_t group) {
    struct walk w = {.next = group};
    uint64_t hash = 0;
    while (walk_up(s, &w)) {
        uint64_t of[] = {hash, w.g.id, w.g.uid, w.g.gid, w.g.mode};
        hash = hash_bytes(of, sizeof of);
    }
    return w.rc == 0 ? hash : 0;
}

bool group_is_below(struct sched *s, uint64_t id, uint64_t top) {
    struct walk w = {.next = id};
    while (w.next != top && walk_up(s, &w))
        ;
    return w.rc == 0 && w.next == top;
}

static bool first_group(void *arg, const struct group *g) {
    *(uint64_t *)arg = g->id;
    return false;
}

/* The first in it, else the next beside it, or beside one above it. */
int sched_next_group(struct sched *s, uint64_t top, uint64_t *group) {
    uint64_t found = 0;
    struct walk w = {.next = *group};
    int rc = store_group_list(s->store, *group, 0, first_group, &found);
    for (uint64_t id = *group; rc == 0 && !found && id != top; id = w.g.parent) {
        if (!walk_up(s, &w))
            return w.rc < 0 && w.rc != -ENOENT ? w.rc : -ESTALE;
        rc = store_group_list(s->store, w.g.parent, id, first_group, &found);
    }
    if (rc == 0 && !found)
        return -ENOENT;
    if (rc == 0)
        *group = found;
    return rc;
}

static uint64_t being_read(struct sched *s, uint64_t group) {
    uint64_t n = 0;
    for (size_t i = 0; i < s->jobs->submitting.count; i++) {
        struct job_row r;
        n += store_job_get(s->store, s->jobs->submitting.items[i], &r) == 0 && group_is_below(s, r.job.group, group);
    }
    return n;
}

/* A large file that is being read, on its way into the queue, is counted. */
int sched_tally(struct sched *s, uint64_t group, struct tally *out) {
    int rc = store_tally_get(s->store, group, out);
    if (rc == 0)
        out->active += being_read(s, group);
    return rc;
}

int sched_path(struct sched *s, const struct job *j, char *buf, size_t size) {
    struct walk w = {.next = j->group};
    size_t at = size, n = strlen(j->name);
    if (n + 1 > size)
        return -ENAMETOOLONG;
    buf[--at] = 0;
    at -= n;
    memcpy(buf + at, j->name, n);
    while (walk_up(s, &w)) {
        n = strlen(w.g.name);
        if (n + 1 > at)
            return -ENAMETOOLONG;
        buf[--at] = '/';
        at -= n;
        memcpy(buf + at, w.g.name, n);
    }
    if (w.rc < 0)
        return w.rc;
    memmove(buf, buf + at, size - at);
    return 0;
}

static bool name_taken(struct sched *s, uint64_t parent, const char *name) {
    struct job_row r;
    bool current = store_job_find(s->store, parent, name, false, &r) == 0 && r.job.state != JOB_CANCELLED;
    return current || store_job_find(s->store, parent, name, true, &r) == 0;
}

int sched_mkgroup(struct sched *s, uint64_t parent, const char *name, const struct writer *w, struct group *out) {
    struct group up, g;
    size_t n = strlen(name);
    int rc = store_group_get(s->store, parent, &up);
    if (rc == 0 && (n == 0 || n > JOB_NAME_MAX))
        rc = n ? -ENAMETOOLONG : -EINVAL;
    if (rc == 0)
        rc = sched_may_begin(s);
    if (rc < 0)
        return rc;
    rc = store_group_find(s->store, parent, name, &g);
    if (rc == 0 && g.hidden && w->uid != 0 && w->uid != g.uid)
        return -EACCES;        /* another user's results have this name */
    if (rc == 0 && g.hidden) { /* it was removed, but its results were still there */
        g.hidden = false;
        g.uid = w->uid;
        g.gid = w->gid;
        g.mode = w->mode & 07777;
        g.request = w->request;
        *out = g;
        return store_group_save(s->store, &g);
    }
    if (rc == 0 && w->again && g.request == w->request) {
        *out = g;
        return 0;
    }
    if (rc == 0 || name_taken(s, parent, name))
        return -EEXIST;
    if (!array_may_take(&up, NULL, name))
        return -EPERM;
    if (group_depth(s, parent) >= GROUP_LEVELS)
        return -ENAMETOOLONG;
    rc = quota_draft(s, w->uid);
    if (rc < 0)
        return rc;
    g = (struct group){.id = store_next_id(s->store),
                       .parent = parent,
                       .dotted = up.dotted || name[0] == '.',
                       .uid = w->uid,
                       .gid = w->gid,
                       .mode = w->mode & 07777,
                       .created = clock_wall_us(),
                       .request = w->request};
    strcpy(g.name, name);
    rc = g.id ? store_group_insert(s->store, &g) : sched_check(s, -EIO);
    if (rc == 0)
        *out = g;
    return rc;
}

static bool one(void *arg, const struct job *j) {
    *(bool *)arg = true;
    return false;
}

static bool visible_group(void *arg, const struct group *g) {
    *(bool *)arg |= !g->hidden;
    return !*(bool *)arg;
}

/* Subtracts the group's counts from those of the groups above, or adds them. */
static int move_tally(struct sched *s, uint64_t parent, const struct tally *t, bool leaves) {
    uint64_t sign = leaves ? (uint64_t)-1 : 1;
    struct tally d = {t->active * sign, t->running * sign, t->done * sign, t->failed * sign, t->cancelled * sign};
    return store_tally_add(s->store, parent, &d);
}

/* t: of an array, whose elements that were cancelled before they were jobs go with it; else NULL. */
static int delete_group(struct sched *s, const struct group *g, const struct tally *t) {
    int rc = g->array && t ? move_tally(s, g->parent, t, true) : 0;
    if (rc == 0)
        rc = store_group_set_opening(s->store, g->id, false);
    if (rc == 0 && limits_said(s))
        rc = store_fails_forget(s->store, g->id);
    return rc < 0 ? rc : store_group_delete(s->store, g->id);
}

int sched_rmgroup(struct sched *s, uint64_t group, enum job_shelf side) {
    struct group g;
    bool any = false;
    int rc = group ? store_group_get(s->store, group, &g) : -EBUSY;
    unsigned shelves = side == SHELF_GONE ? 0xf : 1u << side;
    struct tally t = {0}; /* of an array, with elements that are no jobs */
    if (rc == 0 && g.array)
        rc = side == SHELF_JOBS ? array_cancel(s, &g, &t) : store_tally_get(s->store, group, &t);
    if (rc == 0 && !(g.array && side == SHELF_JOBS))
        rc = store_job_list(s->store, group, shelves, 0, one, &any);
    if (rc == 0 && side == SHELF_JOBS)
        rc = store_group_list(s->store, group, 0, visible_group, &any);
    if (rc < 0)
        return rc;
    if (any || (side == SHELF_GONE && t.active))
        return -ENOTEMPTY;
    if (!store_group_has_jobs(s->store, group) && (side == SHELF_GONE || !(t.active || t.cancelled)))
        return side == SHELF_JOBS || side == SHELF_GONE || g.hidden ? delete_group(s, &g, &t) : 0;
    if (side != SHELF_JOBS)
        return 0; /* it still has jobs on other sides, and is removed with the last */
    g.hidden = true;
    return store_group_save(s->store, &g);
}

static int replace_target(struct sched *s, uint64_t to_parent, const char *to_name) {
    struct group g;
    int rc = store_group_find(s->store, to_parent, to_name, &g);
    if (rc == -ENOENT)
        return name_taken(s, to_parent, to_name) ? -ENOTDIR : 0;
    if (rc < 0)
        return rc;
    return store_group_has_jobs(s->store, g.id) || g.array ? -ENOTEMPTY : delete_group(s, &g, NULL);
}

/* Opening a group queues the drafts in it, which run as their writers. */
static bool may_open(struct sched *s, const struct group *g, uid_t uid) {
    return user_is_trusted(s, uid) || (uid == g->uid && !store_group_of_others(s->store, g->id, uid));
}

int sched_rename_group(struct sched *s, uint64_t group, uint64_t to_parent, const char *to_name, uid_t uid,
                       sched_done *done, void *arg) {
    struct group g, up;
    struct tally t;
    size_t n = strlen(to_name);
    int rc = group ? store_group_get(s->store, group, &g) : -EBUSY;
    if (rc == 0)
        rc = store_group_get(s->store, to_parent, &up);
    if (rc == 0)
        rc = store_tally_get(s->store, group, &t);
    if (rc < 0)
        return rc;
    if (n > JOB_NAME_MAX)
        return -ENAMETOOLONG;
    if (n == 0 || group_is_below(s, to_parent, group))
        return -EINVAL;
    if (!array_may_take(&up, NULL, to_name))
        return -EPERM;
    if (g.parent == to_parent && strcmp(g.name, to_name) == 0)
        return 0;
    bool dotted = up.dotted || to_name[0] == '.', opens = g.dotted && !dotted, closes = dotted && !g.dotted;
    int depth = group_depth(s, to_parent);
    bool deeper = depth > group_depth(s, g.parent);
    if ((deeper || closes || (opens && !user_is_trusted(s, uid))) && store_group_many(s->store, group, MOVED_MAX))
        return -EMLINK;
    if (deeper && depth + store_group_levels(s->store, group) > GROUP_LEVELS)
        return -ENAMETOOLONG;
    if (closes && (t.active || being_read(s, group)))
        return -EBUSY; /* some of its jobs are queued already */
    if (opens && !may_open(s, &g, uid))
        return -EPERM;
    rc = opens ? quota_job(s, g.uid, 1) : 0; /* a group is submitted as a whole, or not */
    if (rc == 0)
        rc = replace_target(s, to_parent, to_name);
    if (rc < 0)
        return rc;
    rc = move_tally(s, g.parent, &t, true);
    g.parent = to_parent;
    strcpy(g.name, to_name);
    g.dotted = dotted;
    if (rc == 0)
        rc = store_group_save(s->store, &g);
    limits_changed(s);
    if (rc == 0)
        rc = move_tally(s, to_parent, &t, false);
    if (rc == 0 && closes)
        rc = store_group_close_below(s->store, group);
    if (rc == 0 && opens) { /* from this commit on its drafts are queued, a slice in each turn (queue.c) */
        rc = g.array ? 0 : store_group_set_opening(s->store, group, true); /* it has no drafts */
        s->opening = true;
        sched_tick(s);
    }
    return rc < 0 ? rc : sched_renamed(s, group, done, arg);
}

int sched_set_group_owner(struct sched *s, uint64_t group, const uid_t *uid, const gid_t *gid, const mode_t *mode) {
    struct group g;
    int rc = store_group_get(s->store, group, &g);
    if (rc < 0)
        return rc;
    if (uid)
        g.uid = *uid;
    if (gid)
        g.gid = *gid;
    if (mode)
        g.mode = *mode & 07777;
    return store_group_save(s->store, &g);
}
