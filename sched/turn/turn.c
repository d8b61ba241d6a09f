/* What the rooms of the scheduler share: the sticky error of a turn, what changed in it, what is answered after its
 * commit, and its timers. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "net/clock.h"
#include "sched/turn/turn.h"

#define RETRY_SECONDS 1 /* after a commit that failed */

/* --- the log ----------------------------------------------------------------------------------------------------- */

void sched_log(struct sched *s, const char *format, ...) {
    char line[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    s->c.log(s->c.arg, line);
}

void sched_log_about(struct sched *s, const char *who, const char *address, const char *format, ...) {
    char line[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    if (complaints_tell(&s->complaints, who, COMPLAINTS_NODE, line, sizeof line) &&
        (!address || complaints_tell_of(&s->complaints, address, COMPLAINTS_ADDRESS, line, sizeof line)))
        s->c.log(s->c.arg, line);
}

void sched_log_uid(struct sched *s, uid_t uid, const char *format, ...) {
    char line[1024], who[32];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    snprintf(who, sizeof who, "user %u", (unsigned)uid);
    if (complaints_tell(&s->complaints, who, COMPLAINTS_NODE, line, sizeof line) &&
        complaints_tell(&s->complaints, "@all users", COMPLAINTS_ADDRESS, line, sizeof line))
        s->c.log(s->c.arg, line);
}

void sched_log_user(struct sched *s, uint64_t job, const char *format, ...) {
    char line[1024];
    uid_t uid = 0;
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    store_owner(s->store, job, &uid);
    sched_log_uid(s, uid, "%s", line);
}

/* --- what changes in a turn -------------------------------------------------------------------------------------- */

int ids_add(struct ids *l, uint64_t id) {
    if (ids_has(l, id))
        return 0;
    if (l->count == l->cap) {
        size_t cap = l->cap ? l->cap * 2 : 32;
        uint64_t *grown = reallocarray(l->items, cap, sizeof *grown);
        if (!grown)
            return -ENOMEM;
        l->items = grown;
        l->cap = cap;
    }
    l->items[l->count++] = id;
    return 0;
}

int ids_compare(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

bool ids_has(const struct ids *l, uint64_t id) {
    for (size_t i = l->count; i > 0; i--)
        if (l->items[i - 1] == id)
            return true;
    return false;
}

void ids_remove(struct ids *l, uint64_t id) {
    for (size_t i = 0; i < l->count; i++)
        if (l->items[i] == id) {
            l->items[i] = l->items[--l->count];
            return;
        }
}

int sched_check(struct sched *s, int rc) {
    return rc < 0 && rc != -ENOENT ? store_fail(s->store, rc) : rc;
}

int sched_each(struct sched *s, enum store_set set, int64_t bound,
               int (*each)(struct sched *s, struct job_row *r, void *arg), void *arg) {
    uint64_t ids[64], after = 0;
    int rc = 0;
    for (int n; rc == 0 && (n = store_ids(s->store, set, bound, after, ids, 64)) > 0; after = ids[n - 1])
        for (int i = 0; i < n && rc == 0; i++) {
            struct job_row r;
            if (store_job_get(s->store, ids[i], &r) == 0)
                rc = each(s, &r, arg);
        }
    return rc;
}

void sched_note(struct sched *s, uint64_t job) {
    ids_add(&s->changed, job); /* without memory a waiter is woken later, by the next change */
}

void sched_note_unlink(struct sched *s, struct spool_name n) {
    if (s->unlink_count == s->unlink_cap) {
        size_t cap = s->unlink_cap ? s->unlink_cap * 2 : 16;
        struct spool_name *grown = reallocarray(s->unlinks, cap, sizeof *grown);
        if (!grown)
            return; /* the sweep at the next start has it */
        s->unlinks = grown;
        s->unlink_cap = cap;
    }
    s->unlinks[s->unlink_count++] = n;
}

int sched_may_begin(struct sched *s) {
    if (s->stopping)
        return -ESHUTDOWN;
    if (s->damaged)
        return -EIO;
    return store_full(s->store) ? -ENOSPC : 0;
}

/* --- after its commit -------------------------------------------------------------------------------------------- */

int sched_synced(struct sched *s, uint64_t job, const struct body *b, sched_done *done, void *arg) {
    struct later *l = calloc(1, sizeof *l);
    if (!l)
        return sched_check(s, -ENOMEM); /* what it was to follow is not kept either */
    l->name = (struct spool_name){job, BODY_SPEC, b->file};
    l->has_file = b->file;
    l->done = done;
    l->arg = arg;
    SLIST_INSERT_HEAD(&s->laters, l, next);
    sched_tick(s);
    return -EINPROGRESS;
}

int sched_renamed(struct sched *s, uint64_t job, sched_done *done, void *arg) {
    return s->c.sync_full ? sched_synced(s, job, &(struct body){0}, done, arg) : 0;
}

void sched_answer_laters(struct sched *s, int rc) {
    for (struct later *l; (l = SLIST_FIRST(&s->laters));) {
        SLIST_REMOVE_HEAD(&s->laters, next);
        int sent = rc < 0 ? rc : spool_sync(s->spool, &l->name, l->has_file, true, l->done, l->arg);
        if (sent != -EINPROGRESS && l->done)
            l->done(l->arg, sent);
        free(l);
    }
}

/* --- timers ------------------------------------------------------------------------------------------------------ */

void sched_tick(struct sched *s) {
    static const struct timeval at_once = {0, 0};
    if (!evtimer_pending(s->tick, NULL))
        evtimer_add(s->tick, &at_once);
}

int64_t sched_steady(const struct sched *s) {
    return clock_us() + s->steady_us;
}

void sched_retry(struct sched *s) {
    static const struct timeval soon = {RETRY_SECONDS, 0};
    evtimer_add(s->retry, &soon);
}

void sched_set_due(struct sched *s) {
    int64_t due = store_next_due(s->store), now = sched_steady(s);
    s->due_at = due;
    if (!due)
        return;
    int64_t wait = due > now ? due - now : 0;
    struct timeval t = {wait / 1000000, wait % 1000000};
    evtimer_add(s->due, &t);
}
