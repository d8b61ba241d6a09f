/* The store's dependencies: who waits for whom, and who has ended since. */
#ifndef PPFS_STORE_DEPS_H
#define PPFS_STORE_DEPS_H
#include "sched/job/job.h"

struct store;

/* stream: that job is a call of, 0 = none. -ELOOP when on waits for job, or for that stream */
int store_dep_add(struct store *st, uint64_t job, uint64_t stream, uint64_t on);
int store_deps_delete(struct store *st, uint64_t job);            /* it waits for none */
int store_dep_move(struct store *st, uint64_t from, uint64_t to); /* who waits for from now waits for to */
bool store_dep_any(struct store *st, uint64_t on);                /* somebody waits for it */
int store_dep_first(struct store *st, uint64_t job, uint64_t *on, uint64_t *count); /* -ENOENT: waits for none */
int store_settle_add(struct store *st, const struct job *on, bool succeeded);
/* That of the user behind *uid, or of the first one; *uid becomes him: users take turns. -ENOENT */
int store_settle_next(struct store *st, int64_t *uid, uint64_t *on, bool *succeeded, char name[JOB_NAME_MAX + 1]);
int store_settle_jobs(struct store *st, uint64_t on, uint64_t *ids, int max); /* takes them off the list */
int store_settle_done(struct store *st, uint64_t on);
#endif
