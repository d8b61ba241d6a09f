/* What is asked of all that waits in a group: a part of sched.h. */
#ifndef PPFS_SCHED_GROUP_CONTROL_H
#define PPFS_SCHED_GROUP_CONTROL_H
#include "sched/turn/config.h"

enum control_what { CONTROL_HOLD, CONTROL_PRIORITY }; /* on disk: never change them */

/* From the commit on, what waits in the group and below, and is that user's to change, is held (1), let go (0), or gets
 * that priority, a slice in each turn. -EINVAL: no such value */
int sched_control(struct sched *s, uint64_t group, uid_t uid, enum control_what what, int value);
/* What of that is under way. 0 or -ENOENT */
int sched_controlling(struct sched *s, uint64_t group, uid_t uid, enum control_what what, int *value);
#endif
