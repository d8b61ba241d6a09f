/* Attributes that the kernel may cache for a second: those of ended jobs. They change only when the job is forgotten,
 * replaced or given to another owner, and the kernel is notified then. */
#ifndef PPFS_CACHE_H
#define PPFS_CACHE_H
#include "fs/fs.h"

int cache_create(struct cache **out);
void cache_destroy(struct cache *c); /* accepts NULL */

/* Seconds for which the attributes of this file of an ended job may be cached: its result, failure or directory in
 * info/. */
double cache_timeout(struct fs *fs, fuse_ino_t ino);
/* They have changed. */
void cache_forget(struct fs *fs, uint64_t job);
#endif
