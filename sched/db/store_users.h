/* The totals of each user. */
#ifndef PPFS_STORE_USERS_H
#define PPFS_STORE_USERS_H
#include "sched/job/job.h"

struct store;

struct user_counts {
    int64_t drafts; /* and directories */
    int64_t jobs;   /* not ended */
    int64_t bytes;  /* in jobs/, results/, failures/ and info/, and 1 KiB for each job or directory */
    int64_t kept;   /* bytes of functions and values */
};
/* Counts for each user, by a walk over all jobs, and keeps the totals from then on. 0 or -errno. Once, with no
 * transaction open. */
int store_count_users(struct store *st);
/* in this transaction; all 0 if he has nothing */
int store_user_counts(struct store *st, uid_t uid, struct user_counts *out);
#endif
