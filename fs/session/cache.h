/* What the kernel may believe for a second: the attributes of jobs that have ended. They change only when the job is
 * forgotten, replaced or gets another owner, and the kernel is told then. */
#ifndef PPFS_CACHE_H
#define PPFS_CACHE_H
#include "fs/fs.h"

int cache_create(struct cache **out);
void cache_destroy(struct cache *c); /* accepts NULL */

/* Seconds for which the attributes of this ended job's files may be kept. */
double cache_timeout(struct fs *fs, uint64_t job);
/* They are not true any longer. */
void cache_forget(struct fs *fs, uint64_t job);
#endif
