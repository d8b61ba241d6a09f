/* The quotas of a user. Root and the user who mounted have none. */
#ifndef PPFS_QUOTA_H
#define PPFS_QUOTA_H
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define QUOTA_NONE INT64_MAX
struct quota {
    int64_t jobs;   /* jobs that have not ended */
    int64_t bytes;  /* of drafts, jobs, results and output, and 1 KiB for each */
    int64_t drafts; /* files that are not queued, and directories */
    int64_t slots;  /* slots in use */
    int64_t waits;  /* jobs and calls that wait for results of others and lend their slots; by default as in wanted.c */
};
struct quotas {          /* of all users */
    struct quota others; /* of users who are not named */
    struct quota_of {
        uid_t uid;
        struct quota quota;
    } * items;
    size_t count;
};
#endif
