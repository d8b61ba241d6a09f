/* What runs now, and who may know of a job: a part of sched.h. */
#ifndef PPFS_RUNNING_H
#define PPFS_RUNNING_H
#include "sched/job/job.h"
#include "sched/turn/config.h"

/* Whether a job of that owner, group and mode is shown in info/ to that user, as far as modes and these two ids tell:
 * who is in other groups too may be shown less than he may see. And whether he reaches the group of jobs. */
bool sched_shows(uid_t owner, gid_t owners, mode_t mode, uid_t uid, gid_t gid);
bool sched_reaches(struct sched *s, uint64_t group, uid_t uid, gid_t gid);
/* A number that says whether who may reach the group is the same as before; never 0. */
uint64_t sched_reached_by(struct sched *s, uint64_t group);
bool sched_is_below(struct sched *s, uint64_t group, uint64_t top); /* or that group itself */
/* With a slash at its end; "" for the top, and for one that has gone. */
void sched_group_path(struct sched *s, uint64_t group, char *buf, size_t size);

struct running {
    const char *path; /* below info/; of a call of a stream with its number */
    const char *node; /* "": of a stream, whose calls may be anywhere */
    int64_t us;       /* since its start */
    const char *last; /* the last line that it wrote, of a stream how far it is; as it is shown to people */
};
#define RUNNING_PAGE 64
/* Calls each with what runs and is shown to that user, of the next RUNNING_PAGE in order of their ids; *after: the
 * last id that was looked at. 0: there are no more, 1 or -errno. */
int sched_page_running(struct sched *s, uint64_t *after, uid_t uid, gid_t gid,
                       void (*each)(void *arg, const struct running *), void *arg);
#endif
