/* Clients that are jobs themselves: one that waits for a result holds a slot and does nothing, so its slot is lent out.
 * How many of a user's do so at once is bounded; from half of that on what they wait for goes before what else is his.
 * Only sched/ includes this. */
#ifndef PPFS_LEND_H
#define PPFS_LEND_H
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>

#include "sched/users/wanted.h"

struct sched;
struct user;

struct parked {                /* a request that waits for a result */
    uint64_t request;          /* first: key of the tree */
    pid_t pid;                 /* its process may be a job's */
    uint64_t on;               /* the job whose result it is */
    uint64_t job;              /* whose slot it has lent out, a run or a lease; 0: none */
    uint32_t attempt;          /* of that run */
    struct want *want;         /* where it is a job's */
    bool looked;               /* whether it is a job's is known; else it stands in ... */
    TAILQ_ENTRY(parked) fresh; /* ... lending.fresh */
};

struct lending {
    void *parked; /* tsearch tree */
    TAILQ_HEAD(, parked) fresh;
};

void lend_init(struct lending *l);
void lend_free(struct lending *l);
/* A request of pid waits for that job's result; it waits for another job's from now on; it waits no longer. */
void sched_blocked(struct sched *s, pid_t pid, uint64_t request, uint64_t job);
void sched_waits_on(struct sched *s, uint64_t request, uint64_t job);
void sched_unblocked(struct sched *s, uint64_t request);
/* Of the clients that began to wait those that are jobs lend their slots, as many as a slice has time for. */
void lend_turn(struct sched *s);
#endif
