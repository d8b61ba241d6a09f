#include "fs/session/cache.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#define SLOTS 8192u
#define SECONDS 1

static const enum kind kinds[] = {KIND_RESULT, KIND_FAILURE, KIND_INFO_JOB}; /* those that are cached */

struct cache { /* by hash; a job whose slot is in use is not cached */
    struct {
        uint64_t job;
        time_t until;
        unsigned kept; /* a bit for each of kinds that the kernel may have */
    } slots[SLOTS];
};

int cache_create(struct cache **out) {
    *out = calloc(1, sizeof **out);
    return *out ? 0 : -ENOMEM;
}

void cache_destroy(struct cache *c) {
    free(c);
}

static time_t seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
    return t.tv_sec;
}

double cache_timeout(struct fs *fs, fuse_ino_t ino) {
    uint64_t job = ino_id(ino);
    unsigned i = (unsigned)(job % SLOTS);
    time_t now = seconds();
    if (fs->cache->slots[i].job != job && fs->cache->slots[i].until >= now)
        return 0;
    if (fs->cache->slots[i].job != job)
        fs->cache->slots[i].kept = 0;
    fs->cache->slots[i].job = job;
    fs->cache->slots[i].until = now + SECONDS + 1;
    for (unsigned k = 0; k < sizeof kinds / sizeof *kinds; k++)
        fs->cache->slots[i].kept |= (unsigned)(kinds[k] == ino_kind(ino)) << k;
    return SECONDS;
}

void cache_forget(struct fs *fs, uint64_t job) {
    unsigned i = (unsigned)(job % SLOTS);
    if (fs->cache->slots[i].job != job)
        return;
    fs->cache->slots[i].job = 0;
    fs->cache->slots[i].until = 0;
    /* Attributes only (offset -1): dropping pages or names could block on clients that wait for the daemon. */
    for (unsigned k = 0; k < sizeof kinds / sizeof *kinds; k++)
        if (fs->cache->slots[i].kept >> k & 1)
            fuse_lowlevel_notify_inval_inode(fs->session, ino_make(job, kinds[k]), -1, 0);
}
