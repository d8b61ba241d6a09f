/* Clients that are jobs themselves: one that waits for a result holds a slot and does nothing, so its slot is lent out.
 * How many of a user's do so at once is bounded; from half of that on what they wait for goes before what else is his.
 * Only sched/ includes this. */
#ifndef PPFS_LEND_H
#define PPFS_LEND_H
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>

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
    TAILQ_ENTRY(parked) fresh; /* ... lends.fresh */
};

struct want {     /* a job that others wait for */
    uint64_t job; /* first: key of the tree */
    unsigned waiters;
    struct user *user;       /* whose it is; while it is listed ... */
    bool listed;             /* ... it may be queued, and stands in ... */
    TAILQ_ENTRY(want) mates; /* ... user.wanted, the newest first */
};
TAILQ_HEAD(want_queue, want);

struct lends {
    void *parked, *wants; /* tsearch trees */
    TAILQ_HEAD(, parked) fresh;
    unsigned count; /* runs and leases that have lent their slots, of all users */
};

void lend_init(struct lends *l);
void lend_free(struct lends *l);
/* Of the clients that began to wait those that are jobs lend their slots, as many as a slice has time for. */
void lend_turn(struct sched *s);
void lend_count(struct user *u, bool lends); /* one more of his lends its slot, or no more */
/* So many of his lend their slots that what they wait for goes first. */
bool lend_crowded(const struct user *u);
/* That job is queued; listed again where another waits for it. */
void lend_queued(struct sched *s, uint64_t job, struct user *u);
void lend_unlist(struct want *w);
void lend_pass(struct want *w); /* it cannot start now: behind the others */
#endif
