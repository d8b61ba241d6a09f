/* What has run and which groups there are, the newest first: a part of sched.h. Nothing is kept for it beside the rows
 * of jobs and groups, so of a job it knows the last attempt. */
#ifndef PPFS_HISTORY_H
#define PPFS_HISTORY_H
#include "sched/job/group.h"
#include "sched/turn/config.h"

/* Calls each with the jobs that run or have run and are shown to that user, of the next ones below *before (at first
 * UINT64_MAX), which it moves. A call looks at so few that nobody waits for it. 0: there are no more, 1 or -errno. */
int sched_page_history(struct sched *s, uint64_t *before, uid_t uid, gid_t gid,
                       void (*each)(void *arg, const struct job *), void *arg);
bool sched_has_run(const struct job *j);
/* A job as it is now, with its name below info/. -ENOENT: gone, or not shown to that user. */
int sched_shown(struct sched *s, uint64_t id, uid_t uid, gid_t gid, struct job *out, char *path, size_t size);
#define GROUPS_LOOKED_AT 256
/* Calls each with the groups at the top that the user reaches, of the newest ones: first those with jobs that have not
 * ended, then the others, until it returns false. */
int sched_newest_groups(struct sched *s, uid_t uid, gid_t gid,
                        bool (*each)(void *arg, const struct group *, const struct tally *), void *arg);
#endif
