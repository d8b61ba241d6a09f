/* The store's dependencies of jobs, and the ends that are still to be settled. */
#ifndef PPFS_STORE_DEPS_H
#define PPFS_STORE_DEPS_H
#include "sched/job/job.h"

struct store;

/* stream: whose call job runs, 0 = none. -ELOOP: on waits for job, or for that stream */
int store_dep_add(struct store *st, uint64_t job, uint64_t stream, uint64_t on);
int store_deps_delete(struct store *st, uint64_t job);            /* job waits for no job any more */
int store_dep_move(struct store *st, uint64_t from, uint64_t to); /* dependents of from become dependents of to */
bool store_dep_any(struct store *st, uint64_t on);                /* it has dependents */
int store_dep_first(struct store *st, uint64_t job, uint64_t *on, uint64_t *count); /* -ENOENT: waits for none */
int store_settle_add(struct store *st, const struct job *on, bool succeeded);
/* The next end to settle, of the next user after *uid, in turns; *uid becomes that user. -ENOENT */
int store_settle_next(struct store *st, int64_t *uid, uint64_t *on, bool *succeeded, char name[JOB_NAME_MAX + 1]);
int store_settle_jobs(struct store *st, uint64_t on, uint64_t *ids, int max); /* takes them off the list */
int store_settle_done(struct store *st, uint64_t on);
#endif
