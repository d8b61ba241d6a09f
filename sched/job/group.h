/* A group: a directory of jobs, and counts of its jobs. Copies of rows, as a struct job is. */
#ifndef PPFS_GROUP_H
#define PPFS_GROUP_H
#include "sched/job/job.h"

struct group {
    uint64_t id, parent; /* 0 = the top */
    char name[JOB_NAME_MAX + 1];
    bool dotted; /* its name or that of a group above begins with '.': its jobs stay drafts */
    bool hidden; /* removed from jobs/, kept for its results */
    uid_t uid;
    gid_t gid;
    mode_t mode;
    int64_t created;
    uint64_t request; /* unique of its MKDIR */
    uint64_t array;   /* the job whose elements it has (jobs/arrays.c), or 0 */
};
struct tally { /* of a group and all below it */
    uint64_t active /* held..running */, running, done, failed, cancelled;
};
#endif
