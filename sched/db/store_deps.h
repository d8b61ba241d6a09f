/* The store's dependencies of jobs, and the ends that are still to be settled. */
#ifndef PPFS_STORE_DEPS_H
#define PPFS_STORE_DEPS_H
#include "sched/job/job.h"

struct store;

#define DEP_LOOKS 1500 /* some 250,000 pairs of jobs, which takes less than 0.1 s */

/* stream: whose call job runs, 0 = none. *left: looks that may still be taken for this job, DEP_LOOKS at first.
 * -ELOOP: on waits for job, or for that stream; -E2BIG: what on waits for is too much to tell */
int store_dep_add(struct store *st, uint64_t job, uint64_t stream, uint64_t on, int *left);
int store_deps_delete(struct store *st, uint64_t job);            /* job waits for no job any more */
int store_dep_move(struct store *st, uint64_t from, uint64_t to); /* dependents of from become dependents of to */
bool store_dep_any(struct store *st, uint64_t on);                /* it has dependents */
bool store_dep_many(struct store *st, uint64_t on, int max);      /* whether more than so many wait for it */
int store_dep_first(struct store *st, uint64_t job, uint64_t *on, uint64_t *count); /* -ENOENT: waits for none */
int store_settle_add(struct store *st, const struct job *on, bool succeeded);
/* The next end to settle, of the next user after *uid, in turns; *uid becomes that user. -ENOENT */
int store_settle_next(struct store *st, int64_t *uid, uint64_t *on, bool *succeeded, char name[JOB_NAME_MAX + 1]);
int store_settle_jobs(struct store *st, uint64_t on, uint64_t *ids, int max); /* takes them off the list */
int store_settle_done(struct store *st, uint64_t on);
#endif
