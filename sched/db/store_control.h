/* Orders of users for all waiting jobs of a group, and their progress. */
#ifndef PPFS_STORE_CONTROL_H
#define PPFS_STORE_CONTROL_H
#include <stdint.h>
#include <sys/types.h>

struct store;

struct control {
    int64_t uid;     /* who asked */
    uint64_t number; /* an id: later jobs are not meant */
    uint64_t top;
    int what, value;     /* enum control_what of jobs/group_control.h */
    uint64_t group, job; /* progress: the last group and job looked at, 0 = none */
};

/* in place of an earlier one of that user, top and what */
int store_control(struct store *st, const struct control *x);
/* The oldest order of the next user after *uid, in turns; *uid becomes that user. -ENOENT */
int store_controlling(struct store *st, int64_t *uid, struct control *out);
int store_controlled(struct store *st, const struct control *x); /* up to there */
int store_controlling_done(struct store *st, uint64_t number);
int store_controlling_value(struct store *st, uid_t uid, uint64_t top, int what, int *value); /* -ENOENT: done */
#endif
