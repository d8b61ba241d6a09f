/* Queries: a part of sched.h. */
#ifndef PPFS_SCHED_QUERY_H
#define PPFS_SCHED_QUERY_H
#include "sched/job/group.h"
#include "sched/job/job.h"
#include "sched/turn/config.h"

int sched_job(struct sched *s, uint64_t id, struct job *out); /* such an element, too; -ENOENT */
int sched_find(struct sched *s, uint64_t group, const char *name, bool draft, struct job *out);
/* The job of that id; if its name was written again lately, its successor, provided that whoever could read the old job
 * may read the new one, and that the user who asks reaches its group. -ENOENT: gone without a known successor. A job
 * that was forgotten while it is read, and whose name is free, is found (SHELF_ORPHAN). */
int sched_newest(struct sched *s, uint64_t id, uid_t uid, gid_t gid, struct job *out);
int sched_group(struct sched *s, uint64_t id, struct group *out); /* id 0 works */
int sched_find_group(struct sched *s, uint64_t parent, const char *name, struct group *out);
/* Calls each with every job of the group whose id > after and whose shelf is in the mask (1 << SHELF_x), in order of
 * id, until it returns false. Only id, name, state, shelf, draft are filled in. */
int sched_list(struct sched *s, uint64_t group, unsigned shelves, uint64_t after,
               bool (*each)(void *arg, const struct job *), void *arg);
int sched_list_groups(struct sched *s, uint64_t parent, uint64_t after, bool (*each)(void *arg, const struct group *),
                      void *arg);
/* One sentence: why it waits (position in the queue, dependency, slots, hold, next attempt in ...), or why it failed.
 * "": there is none. */
void sched_why(struct sched *s, const struct job *j, char *buf, size_t size);
/* Adds to that, of a job that ran and failed, the last line that it printed, and where the rest is; of a stream that
 * runs, what its calls wait for. */
void sched_why_more(struct sched *s, const struct job *j, char *buf, size_t size);

/* The present number of bytes in a job's body, and reading them. sched_read returns the number of bytes copied, 0 at
 * the present end, -errno, or -EINPROGRESS (disk: done(arg, bytes or -errno) follows; buf must stay valid). */
int64_t sched_size(struct sched *s, uint64_t job, enum job_body body);
int64_t sched_read(struct sched *s, uint64_t job, enum job_body body, void *buf, size_t size, uint64_t offset,
                   sched_done *done, void *arg);
/* It is cancelled, but its processes have not ended yet: output, exit status and usage follow. */
bool sched_ending(struct sched *s, const struct job *j);
const char *sched_node_of(struct sched *s, const struct job *j);
#endif
