/* info/G/.hold and .priority. What is under way is in the database, so that the next daemon goes on. One request of a
 * user ends before his next begins, so that the later one decides. */
#include "sched/jobs/group_control.h"

#include <errno.h>

#include "net/clock.h"
#include "sched/db/store_control.h"
#include "sched/jobs/job_files.h"

#define ROWS 8 /* that are looked at between two looks at the clock */

int sched_control(struct sched *s, uint64_t group, uid_t uid, enum control_what what, int value) {
    struct control x = {.uid = uid, .top = group, .what = what, .value = value};
    struct group g;
    if (what == CONTROL_HOLD ? value != 0 && value != 1 : value < -PRIORITY_MAX || value > PRIORITY_MAX)
        return -EINVAL;
    int rc = store_group_get(s->store, group, &g);
    if (rc < 0)
        return rc;
    x.number = store_next_id(s->store);
    if (!x.number)
        return sched_check(s, -EIO);
    s->controlling = true;
    sched_tick(s);
    return store_control(s->store, &x);
}

int sched_controlling(struct sched *s, uint64_t group, uid_t uid, enum control_what what, int *value) {
    return store_controlling_value(s->store, uid, group, what, value);
}

/* As the owner of a directory may remove what others have in it. */
static bool is_his(struct sched *s, const struct control *x) {
    struct group g;
    return user_is_trusted(s, (uid_t)x->uid) ||
           (x->group && store_group_get(s->store, x->group, &g) == 0 && g.uid == (uid_t)x->uid);
}

static int control_one(struct sched *s, const struct control *x, uint64_t job, bool all) {
    struct job_row r;
    int rc = store_job_get(s->store, job, &r);
    if (rc == 0 && !all && r.job.uid != (uid_t)x->uid)
        return 0;
    if (rc == 0)
        rc = x->what == CONTROL_HOLD ? sched_set_hold(s, job, x->value) : sched_set_priority(s, job, x->value);
    return rc == -EBUSY || rc == -ENOENT ? 0 : rc; /* it runs, or has ended */
}

/* Where the group has gone meanwhile it begins at the top again: what was done stays so. */
static int next(struct sched *s, struct control *x) {
    int rc = sched_next_group(s, x->top, &x->group);
    if (rc == -ENOENT)
        return store_controlling_done(s->store, x->number);
    if (rc == -ESTALE)
        x->group = x->top;
    x->job = 0;
    return rc < 0 && rc != -ESTALE ? rc : store_controlled(s->store, x);
}

void control_slice(struct sched *s) {
    int64_t until = clock_us() + s->slice_us;
    uint64_t ids[ROWS];
    struct control x;
    bool cut = false;
    int rc = store_controlling(s->store, &s->controlling_user, &x);
    s->controlling = rc == 0;
    if (rc < 0)
        return;
    bool all = is_his(s, &x);
    const uid_t of = (uid_t)x.uid;
    if (!x.job)
        rc = array_control(s, x.group, all ? NULL : &of, x.what == CONTROL_HOLD, x.value);
    int n = store_ids(s->store, SET_UNENDED, (int64_t)x.group, x.job, ids, ROWS), i;
    for (i = 0; i < n && rc == 0 && ids[i] < x.number && !cut; i++) {
        rc = control_one(s, &x, ids[i], all);
        cut = clock_us() >= until; /* one that names a thousand others takes long */
    }
    if (rc == 0 && i > 0 && (cut || i == ROWS)) {
        x.job = ids[i - 1];
        rc = store_controlled(s->store, &x);
    } else if (rc == 0) {
        rc = next(s, &x);
    }
    if (sched_check(s, rc) < 0)
        s->controlling = false; /* until the next request, or the next daemon */
}
