/* The scheduler: keeps jobs in the database, orders them, runs them, keeps what they answer.
 *
 * Everything here happens in the thread of the loop. Changes gather in one transaction; sched_commit ends it. A caller
 * tells nobody that a change was made before sched_commit has returned 0; when it returns an error, none was made.
 * Calls return 0 or -errno and change nothing when they fail. A call with a done function may return -EINPROGRESS:
 * done(arg, rc) then comes from the loop later (the change it made is still to be committed).
 *
 * EROFS is never used; ENOSPC: the disk (or the ballast, see store.c); EDQUOT: the quota; ESHUTDOWN: we stop. */
#ifndef PPFS_SCHED_H
#define PPFS_SCHED_H
#include "sched/dispatch/lend.h"
#include "sched/hosts/nodes.h"
#include "sched/inspect/history.h"
#include "sched/inspect/query.h"
#include "sched/inspect/running.h"
#include "sched/jobs/control.h"
#include "sched/jobs/group_control.h"
#include "sched/users/quota.h"
#include "sched/watch/counts.h"
#include "sched/watch/events.h"

/* Opens or makes the database, checks it. On failure why has one sentence for the user. */
int sched_create(struct sched **out, const struct sched_config *c, char *why, size_t why_size);
/* Running jobs go back to the queue; commits; kills workers. Accepts NULL. */
void sched_destroy(struct sched *s);
/* Once at start: drafts whose writer is gone (open() says no) and whose bytes were acknowledged are queued, other such
 * drafts say why they stay, orphans that nobody has open are dropped. Jobs that ran go back to the queue. open() is
 * kept: later it tells whether a result that is to be replaced is still being read. */
int sched_recover(struct sched *s, bool (*open)(void *arg, uint64_t job, bool for_writing), void *arg);

bool sched_dirty(const struct sched *s);
/* Grows when the database could not be read or written: what was found since it was last looked at may be wrong. */
uint64_t sched_faults(const struct sched *s);
void sched_turn(struct sched *s);  /* due work and dispatch decisions, before each commit */
int sched_commit(struct sched *s); /* 0 (also when nothing was to do) or -errno: rolled back */
/* The last commit found the disk full, and what was kept for that has been given up: what removes may be done again. */
bool sched_made_room(const struct sched *s);
void sched_answered(struct sched *s); /* after the replies to what was committed: work that nobody waits for */
unsigned sched_running(const struct sched *s);
#endif
