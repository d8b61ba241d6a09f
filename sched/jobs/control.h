/* Control of jobs, and their groups: a part of sched.h. */
#ifndef PPFS_SCHED_CONTROL_H
#define PPFS_SCHED_CONTROL_H
#include "sched/jobs/files.h"

/* mv failures/x jobs/x: queues a failed job again with its old options, directory and environment, counting its
 * attempts on; submits it again if it never ran. -ENOENT: it did not fail. -EPERM: a stream. done: as with
 * sched_rename. */
int sched_run_again(struct sched *s, uint64_t job, uint64_t to_group, const char *to_name, bool no_replace,
                    sched_done *done, void *arg);
int sched_cancel(struct sched *s, uint64_t job, uid_t by); /* rm jobs/x; a draft just goes away. -ENOENT once ended */
/* rm results/x: forgets an ended job. held_open: it has a reader; call sched_drop after the last close. -EBUSY: not
 * ended */
int sched_forget(struct sched *s, uint64_t job, bool held_open);
int sched_drop(struct sched *s, uint64_t job);
#define PRIORITY_MAX 1000000
/* -EINVAL out of range, -ENOENT ended, -EBUSY: a draft, or a running job that is no stream. */
int sched_set_priority(struct sched *s, uint64_t job, int priority);
int sched_set_hold(struct sched *s, uint64_t job, bool hold);
/* The group behind *group on a walk over top and all below it, each before those in it. 0, -ENOENT: that was the last,
 * -ESTALE: it has gone, or is not below top any more. */
int sched_next_group(struct sched *s, uint64_t top, uint64_t *group);
int sched_mkgroup(struct sched *s, uint64_t parent, const char *name, const struct writer *w, struct group *out);
/* rmdir in jobs/, results/, failures/; SHELF_GONE: info/ */
int sched_rmgroup(struct sched *s, uint64_t group, enum job_shelf side);
/* As sched_rename. uid: who asks. -EPERM: he would queue what other users have in it. */
int sched_rename_group(struct sched *s, uint64_t group, uint64_t to_parent, const char *to_name, uid_t uid,
                       sched_done *done, void *arg);
int sched_set_group_owner(struct sched *s, uint64_t group, const uid_t *uid, const gid_t *gid, const mode_t *mode);
/* "G/x", the job's path below jobs/. 0 or -ENAMETOOLONG. */
int sched_path(struct sched *s, const struct job *j, char *buf, size_t size);
bool sched_name_is_draft(struct sched *s, uint64_t group, const char *name); /* in that group: draft_name.c */
/* An element of an array, by its name, that is no job yet: as one that waits, under the id it will have. -ENOENT */
int sched_find_element(struct sched *s, uint64_t group, const char *name, struct job *out);
int sched_tally(struct sched *s, uint64_t group, struct tally *out);
#endif
