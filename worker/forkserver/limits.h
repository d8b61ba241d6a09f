/* The limits of a user in limits.conf(5). */
#ifndef PPFS_LIMITS_H
#define PPFS_LIMITS_H
#include <sys/resource.h>
#include <sys/types.h>

struct limits {
    struct limit {
        unsigned soft_by, hard_by; /* rank of the line that sets it, lower goes first; 0: none */
        rlim_t soft, hard;
    } of[RLIM_NLIMITS];
};

/* Reads DIR/limits.conf, then DIR/limits.d in order of names, for the user name (NULL: unknown) in these groups, the
 * first being his main one. Lines that are not understood are ignored. */
void limits_read(struct limits *l, const char *dir, const char *name, uid_t uid, const gid_t *groups, int group_count);

/* Sets them in this process; others stay as they are. A limit above the allowed maximum is set to that. System calls
 * only. 0 or -1 with errno. */
int limits_set(const struct limits *l);
#endif
