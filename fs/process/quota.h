/* --quota FILE, see ppfs(1). */
#ifndef PPFS_FS_QUOTA_H
#define PPFS_FS_QUOTA_H
#include "sched/users/quota.h"

/* file NULL: the defaults, from the size of the filesystem of dir. 0, or -errno and why, which names the line.
 * quota_free. */
int quota_read(struct quotas *out, const char *file, const char *dir, char *why, size_t why_size);
void quota_free(struct quotas *q);
#endif
