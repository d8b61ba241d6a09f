/* Ended jobs that are to be forgotten. Jobs of which nobody has asked that have no row here. */
#ifndef PPFS_STORE_KEEP_H
#define PPFS_STORE_KEEP_H
#include <stdint.h>

struct store;
/* on disk: never change them. By --keep: at is when it ended; by its own keep=: when it is due. */
enum keep { KEEP_BY_MOUNT, KEEP_BY_JOB };

int store_keep(struct store *st, uint64_t job, enum keep by, int64_t at);
int store_keep_first(struct store *st, enum keep by, uint64_t *job, int64_t *at); /* the earliest. -ENOENT */
int store_keep_done(struct store *st, uint64_t job);
/* Those of the next max jobs behind *job that have ended, and have no row, get one by --keep; *job: the last that was
 * looked at. 1: there are more, 0 or -errno */
int store_keep_old(struct store *st, uint64_t *job, int max);
#endif
