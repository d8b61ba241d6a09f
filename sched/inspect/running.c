/* What runs now, a page at a time: runs and streams, with the last line of each. */
#include "sched/inspect/running.h"

#include <string.h>

#include "net/clock.h"
#include "net/printable.h"
#include "sched/inspect/query.h"
#include "sched/jobs/job_files.h"
#include "sched/runs/run.h"

bool sched_shows(uid_t owner, gid_t owners, mode_t mode, uid_t uid, gid_t gid) {
    mode_t all = 0044; /* who is neither may be in its group, which alone may be excluded */
    if (uid == owner)
        all = 0400;
    else if (gid == owners)
        all = 0040;
    return uid == 0 || (mode & all) == all;
}

bool sched_reaches(struct sched *s, uint64_t group, uid_t uid, gid_t gid) {
    return uid == 0 || group_may_reach(s, group, uid, gid);
}

uint64_t sched_reached_by(struct sched *s, uint64_t group) {
    return group_reached_by(s, group) | 1;
}

bool sched_is_below(struct sched *s, uint64_t group, uint64_t top) {
    return group_is_below(s, group, top);
}

void sched_group_path(struct sched *s, uint64_t group, char *buf, size_t size) {
    const struct job in = {.group = group};
    if (sched_path(s, &in, buf, size) < 0)
        buf[0] = 0;
}

/* What stands in the text behind its last line break; a carriage return is one, too. */
static void last_line(const struct run *r, char *buf, size_t size) {
    size_t end = r->tail_size, begin;
    while (end && strchr("\r\n", r->tail[end - 1]))
        end--;
    for (begin = end; begin && !strchr("\r\n", r->tail[begin - 1]);)
        begin--;
    while (begin < end && r->tail_cut && begin == 0 && ((unsigned char)r->tail[begin] & 0xc0) == 0x80)
        begin++; /* the rest of a character that is cut */
    size_t n = end - begin < size - 1 ? end - begin : size - 1;
    memcpy(buf, r->tail + begin, n);
    buf[n] = 0;
}

static void show(struct sched *s, const struct job *j, void (*each)(void *, const struct running *), void *arg) {
    char path[4096], last[4 * RUN_TAIL + 512] = "";
    const struct run *r = run_find(s, j->id);
    if (sched_path(s, j, path, sizeof path) < 0)
        return;
    printable(path, sizeof path);
    if (r)
        last_line(r, last, sizeof last);
    else
        sched_why(s, j, last, sizeof last);
    printable(last, sizeof last);
    int64_t us = clock_wall_us() - j->started;
    each(arg, &(struct running){path, r ? r->host->name : "", us > 0 ? us : 0, last});
}

int sched_page_running(struct sched *s, uint64_t *after, uid_t uid, gid_t gid,
                       void (*each)(void *, const struct running *), void *arg) {
    uint64_t ids[RUNNING_PAGE];
    int n = store_ids(s->store, SET_RUNNING, 0, *after, ids, RUNNING_PAGE);
    for (int i = 0; i < n; i++) {
        struct job_row r;
        *after = ids[i];
        if (store_job_get(s->store, ids[i], &r) == 0 && sched_shows(r.job.uid, r.job.gid, r.job.mode, uid, gid) &&
            sched_reaches(s, r.job.group, uid, gid))
            show(s, &r.job, each, arg);
    }
    return n < 0 ? n : n > 0;
}
