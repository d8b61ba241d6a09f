/* Quotas: a request beyond one is refused with EDQUOT before anything has changed, and the log gives the reason. The
 * store counts what a user has (store_users.c), user.c counts slots; there is no walk here. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "net/clock.h"
#include "sched/users/user.h"

#define TOLD_US INT64_C(60000000) /* between two lines of the log about one user */

struct quota quota_of(const struct sched *s, uid_t uid) {
    const struct quotas *all = s->c.quotas;
    if (!all || user_is_trusted(s, uid))
        return (struct quota){QUOTA_NONE, QUOTA_NONE, QUOTA_NONE, QUOTA_NONE, QUOTA_NONE};
    for (size_t i = 0; i < all->count; i++)
        if (all->items[i].uid == uid)
            return all->items[i].quota;
    return all->others;
}

static bool is_limited(const struct user *u) {
    const struct quota *q = &u->quota;
    return q->jobs != QUOTA_NONE || q->bytes != QUOTA_NONE || q->drafts != QUOTA_NONE;
}

/* NULL and *rc 0: the user has no quota. */
static struct user *limited(struct sched *s, uid_t uid, struct user_counts *c, int *rc) {
    struct user *u = s->c.quotas ? user_of(s, uid) : NULL;
    *rc = s->c.quotas && !u ? -ENOMEM : 0;
    if (!u || !is_limited(u))
        return NULL;
    *rc = store_user_counts(s->store, uid, c);
    return *rc < 0 ? NULL : u;
}

/* Returns EDQUOT as a refusal; EDQUOT of the disk is an error of the store. */
static int refuse(struct user *u, int64_t has, const char *what) {
    int64_t now = clock_us();
    if (!u->told_at || now - u->told_at > TOLD_US)
        sched_log_uid(u->s, u->uid, "user %ju is refused more: he has %" PRId64 " %s, and would be over his quota",
                      (uintmax_t)u->uid, has, what);
    u->told_at = !u->told_at || now - u->told_at > TOLD_US ? now : u->told_at;
    return -EDQUOT;
}

int quota_bytes(struct sched *s, uid_t uid, int64_t more) {
    struct user_counts c;
    int rc;
    struct user *u = limited(s, uid, &c, &rc);
    if (!u || (c.bytes + u->live <= u->quota.bytes && more <= u->quota.bytes - c.bytes - u->live))
        return rc;
    return refuse(u, c.bytes + u->live, "bytes");
}

static bool has_room(const struct user *u, const struct user_counts *c, int64_t more) {
    return !u || u->quota.bytes == QUOTA_NONE || c->kept + more - VALUES_KEEP <= u->quota.bytes;
}

bool quota_has_room(struct sched *s, uid_t uid, int64_t more) {
    struct user_counts c;
    int rc;
    struct user *u = limited(s, uid, &c, &rc);
    return has_room(u, &c, more);
}

int quota_values(struct sched *s, uid_t uid, int64_t more) {
    struct user_counts c;
    int rc;
    struct user *u = limited(s, uid, &c, &rc);
    return has_room(u, &c, more) ? rc : refuse(u, c.kept, "bytes of functions and values");
}

int quota_draft(struct sched *s, uid_t uid) {
    struct user_counts c;
    int rc;
    struct user *u = limited(s, uid, &c, &rc);
    if (u && c.drafts >= u->quota.drafts)
        return refuse(u, c.drafts, "drafts and directories");
    return u ? quota_bytes(s, uid, 1) : rc;
}

int quota_job(struct sched *s, uid_t uid, int more) {
    struct user_counts c;
    int rc;
    struct user *u = limited(s, uid, &c, &rc);
    return u && c.jobs > u->quota.jobs - more ? refuse(u, c.jobs, "jobs that have not ended") : rc;
}

bool quota_has_job(struct sched *s, uid_t uid) {
    struct user_counts c;
    int rc;
    struct user *u = limited(s, uid, &c, &rc);
    return !u || c.jobs < u->quota.jobs;
}

bool quota_has_bytes(struct sched *s, uid_t uid) {
    struct user_counts c;
    int rc;
    struct user *u = limited(s, uid, &c, &rc);
    return !u || c.bytes + u->live < u->quota.bytes;
}

int quota_grows(struct sched *s, const struct job *j, uint64_t size) {
    struct body b = {0};
    struct user *u = s->c.quotas ? user_of(s, j->uid) : NULL;
    if (!s->c.quotas || (u && u->quota.bytes == QUOTA_NONE))
        return 0;
    int rc = store_body_get(s->store, j->id, BODY_SPEC, &b);
    if (rc < 0 && rc != -ENOENT)
        return rc;
    if (size > INT64_MAX)
        return -EFBIG;
    rc = (int64_t)size > b.size ? quota_bytes(s, j->uid, (int64_t)size - b.size) : 0;
    if (rc == 0 && b.file > 0 && (int64_t)size > b.size) /* bytes on their way to the file count from here on */
        rc = store_body_resize(s->store, j->id, BODY_SPEC, (int64_t)size);
    return rc;
}

int quota_output(struct user *u, int64_t more) {
    int rc = u->quota.bytes == QUOTA_NONE ? 0 : quota_bytes(u->s, u->uid, more);
    u->live += rc == 0 ? more : 0;
    return rc;
}

bool quota_why_never(const struct sched *s, const struct job *j, char *buf, size_t size) {
    int64_t slots = quota_of(s, j->uid).slots;
    if (job_is_stream(j) || j->cpus <= slots)
        return false;
    snprintf(buf, size, "it asks for %u slots, and the quota of its user allows %" PRId64, j->cpus, slots);
    return true;
}

bool quota_why_queued(struct sched *s, const struct job *j, char *buf, size_t size) {
    const struct user *u = s->c.quotas ? user_of(s, j->uid) : NULL;
    if (!u || u->slots == 0 || (int64_t)u->slots + j->cpus <= u->quota.slots)
        return false;
    snprintf(buf, size, "queued: its user has %u slots now, and the quota allows %" PRId64, u->slots, u->quota.slots);
    return true;
}
