/* How many slots of a user are lent out at once, and the jobs of his that others wait for. Only sched/ includes
 * this. */
#ifndef PPFS_WANTED_H
#define PPFS_WANTED_H
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

struct sched;
struct user;

struct want {     /* a job that other jobs wait for */
    uint64_t job; /* first: key of the tree */
    unsigned waiters;
    struct user *user;       /* its user; while it is listed ... */
    bool listed;             /* ... it may be queued, and stands in ... */
    TAILQ_ENTRY(want) mates; /* ... user.wanted, the newest first */
};
TAILQ_HEAD(want_queue, want);

void lend_count(struct user *u, bool lend);              /* one more of his jobs lends its slot, or stops that */
int64_t lend_most(const struct user *u, unsigned slots); /* so many of his may, where this machine has so many slots */
/* Whether so many of his jobs lend their slots that the jobs they wait for go first. */
bool lend_crowded(const struct user *u, unsigned slots);

/* One more job waits for that job, which is then listed first among its user's. NULL: it is gone, or there is no
 * memory, and it has no preference. */
struct want *wanted_add(struct sched *s, uint64_t job);
void wanted_drop(struct sched *s, struct want *w); /* one waits no more; accepts NULL */
/* That job is queued; it is listed again if another waits for it. */
void wanted_queued(struct sched *s, uint64_t job, struct user *u);
void wanted_unlist(struct want *w);
void wanted_pass(struct want *w); /* it cannot start now: to the end of the list */
#endif
