/* Ended jobs that are to be forgotten. Jobs of which nobody has asked that have no row here. */
#ifndef PPFS_STORE_KEEP_H
#define PPFS_STORE_KEEP_H
#include <stdint.h>
#include <sys/types.h>

struct store;
/* on disk: never change them. By --keep: at is when it ended; by its own keep=: when it is due. */
enum keep { KEEP_BY_MOUNT, KEEP_BY_JOB };

int store_keep(struct store *st, uint64_t job, enum keep by, int64_t at);
int store_keep_first(struct store *st, enum keep by, uint64_t *job, int64_t *at); /* the earliest. -ENOENT */
int store_keep_done(struct store *st, uint64_t job);
/* Those of the next max jobs behind *job that have ended, and have no row, get one by --keep; *job: the last that was
 * looked at. 1: there are more, 0 or -errno */
int store_keep_old(struct store *st, uint64_t *job, int max);

/* The ended jobs that --keep-results counts: of all that have no keep= of their own, those that were added. */
int store_kept_add(struct store *st, uint64_t job, uid_t uid, int64_t ended);
int store_kept_gone(struct store *st, uint64_t job);
int store_kept_later(struct store *st, uint64_t job, int64_t ended); /* as if it had ended then */
/* Of the next user behind *uid who has more than that many, who becomes *uid, the one that ended first. -ENOENT */
int store_kept_over(struct store *st, uint64_t most, int64_t *uid, uint64_t *job);
int store_kept_old(struct store *st, uint64_t *job, int max); /* as store_keep_old */
int store_kept_clear(struct store *st, int max);              /* 1: there may be more, 0 or -errno */
#endif
