/* Who waits for a result, and whose turn it was in this dispatch. */
#ifndef PPFS_DISPATCH_STATE_H
#define PPFS_DISPATCH_STATE_H
#include <sys/queue.h>

#include "sched/dispatch/lend.h"

struct parked {                /* a request that waits */
    uint64_t request;          /* first: key of the tree */
    pid_t pid;                 /* its process may be a job's */
    uint64_t on;               /* the job or group that it waits for */
    uint64_t job;              /* whose slot it has lent out, a run or a lease; 0: none */
    uint32_t attempt;          /* of that run */
    struct want *want;         /* where it is a job's */
    bool looked;               /* whether it is a job's is known; else it stands in ... */
    TAILQ_ENTRY(parked) fresh; /* ... dispatch.fresh */
};

struct dispatch {
    void *parked; /* tsearch tree */
    TAILQ_HEAD(, parked) fresh;
    LIST_HEAD(, user) met;
};
#endif
