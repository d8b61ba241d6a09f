/* What limits.conf(5) grants a user. */
#ifndef PPFS_LIMITS_H
#define PPFS_LIMITS_H
#include <sys/resource.h>
#include <sys/types.h>

struct limits {
    struct limit {
        unsigned soft_by, hard_by; /* which kind of line says it, the lower the more it counts; 0: none does */
        rlim_t soft, hard;
    } of[RLIM_NLIMITS];
};

/* Reads DIR/limits.conf, then DIR/limits.d in the order of the names, for user name (NULL: unknown) who is in these
 * groups, the first being his own. A line that is not understood limits nothing. */
void limits_read(struct limits *l, const char *dir, const char *name, uid_t uid, const gid_t *groups, int group_count);

/* Sets them in this process; what nobody says stays. Where a higher one may not be had, as high as it may be. System
 * calls only. 0 or -1 with errno. */
int limits_set(const struct limits *l);
#endif
