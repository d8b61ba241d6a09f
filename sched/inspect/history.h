/* What has run, the newest jobs first: a part of sched.h. Nothing is kept for it beside the rows of the jobs, so of a job
 * it knows the last attempt. */
#ifndef PPFS_HISTORY_H
#define PPFS_HISTORY_H
#include "sched/job/job.h"
#include "sched/turn/config.h"

/* Calls each with the jobs that run or have run and are shown to that user, of the next ones below *before (at first
 * UINT64_MAX), which it moves. A call looks at so few that nobody waits for it. 0: there are no more, 1 or -errno. */
int sched_page_history(struct sched *s, uint64_t *before, uid_t uid, gid_t gid,
                       void (*each)(void *arg, const struct job *), void *arg);
/* One of these as it is now, with its name below info/. -ENOENT: gone, or not shown any more. */
int sched_ran(struct sched *s, uint64_t id, uid_t uid, gid_t gid, struct job *out, char *path, size_t size);
#endif
