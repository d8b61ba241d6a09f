/* A group: a directory of jobs, and the count of what is in it. Copies of rows, as a struct job is. */
#ifndef PPFS_GROUP_H
#define PPFS_GROUP_H
#include "sched/job/job.h"

struct group {
    uint64_t id, parent; /* 0 = the top */
    char name[JOB_NAME_MAX + 1];
    bool dotted; /* it or a group above it begins with '.': nothing in it is queued */
    bool hidden; /* removed from jobs/, kept for its results */
    uid_t uid;
    gid_t gid;
    mode_t mode;
    int64_t created;
    uint64_t request; /* unique of its MKDIR */
};
struct tally { /* of a group and all below it */
    uint64_t active /* held..running */, running, done, failed, cancelled;
};
#endif
