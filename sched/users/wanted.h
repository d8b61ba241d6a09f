/* How many slots of a user are lent out at once, and the jobs of his that others wait for. Only sched/ includes this. */
#ifndef PPFS_WANTED_H
#define PPFS_WANTED_H
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

struct sched;
struct user;

struct want {     /* a job that others wait for */
    uint64_t job; /* first: key of the tree */
    unsigned waiters;
    struct user *user;       /* whose it is; while it is listed ... */
    bool listed;             /* ... it may be queued, and stands in ... */
    TAILQ_ENTRY(want) mates; /* ... user.wanted, the newest first */
};
TAILQ_HEAD(want_queue, want);

void lend_count(struct user *u, bool lends);             /* one more of his lends its slot, or no more */
int64_t lend_most(const struct user *u, unsigned slots); /* so many of his may, where this machine has so many slots */
/* So many of his lend their slots that what they wait for goes first. */
bool lend_crowded(const struct user *u, unsigned slots);

/* One more waits for that job; listed first among those of its user. NULL: it is gone, or there is no memory, and it waits for its turn
 * like others. */
struct want *wanted_add(struct sched *s, uint64_t job);
void wanted_drop(struct sched *s, struct want *w); /* one waits no more; NULL is accepted */
/* That job is queued; listed again where another waits for it. */
void wanted_queued(struct sched *s, uint64_t job, struct user *u);
void wanted_unlist(struct want *w);
void wanted_pass(struct want *w); /* it cannot start now: behind the others */
#endif
