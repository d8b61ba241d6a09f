/* The store's groups, and the tallies of what is in them. */
#ifndef PPFS_STORE_GROUPS_H
#define PPFS_STORE_GROUPS_H
#include <stddef.h>

#include "sched/job/group.h"

struct store;
#define GROUP_LEVELS 64 /* of groups; deeper paths would not fit PATH_MAX */

int store_group_insert(struct store *st, const struct group *g);
int store_group_get(struct store *st, uint64_t id, struct group *out);
int store_group_find(struct store *st, uint64_t parent, const char *name, struct group *out);
int store_group_save(struct store *st, const struct group *g); /* parent, name, dotted, hidden, owner, mode */
int store_group_delete(struct store *st, uint64_t id);
int store_group_list(struct store *st, uint64_t parent, uint64_t after, bool (*each)(void *, const struct group *),
                     void *arg);
/* The newest max groups; those with unended jobs come first. */
int store_group_newest(struct store *st, uint64_t parent, int max, bool (*each)(void *, const struct group *),
                       void *arg);
int store_group_options(struct store *st, uint64_t id, char **options); /* malloc'd */
bool store_groups_say(struct store *st, const char *text); /* whether any group's options have it; true if unknown */
int store_group_set_options(struct store *st, uint64_t id, const char *options);
/* While it is opening it counts in the tallies as one job more that has not ended. */
int store_group_set_opening(struct store *st, uint64_t id, bool opening);
bool store_group_opening(struct store *st, uint64_t id);
/* Whether opening it would queue drafts of users other than uid; true if unknown. */
bool store_group_of_others(struct store *st, uint64_t id, uid_t uid);
/* The first such group of the next user after *uid, in turns; *uid becomes that user. -ENOENT */
int store_group_next_opener(struct store *st, int64_t *uid, uint64_t *id);
int store_group_close_below(struct store *st, uint64_t id); /* it and all below become dotted */
/* Up to max subgroups above after whose names have no dot; returns how many, or -errno. */
int store_groups_to_open(struct store *st, uint64_t parent, uint64_t after, uint64_t *ids, int max);
bool store_group_many(struct store *st, uint64_t id, int max); /* whether it and those below are more; or unknown */
/* Failed jobs of a user in a group with max_fails= and below. */
int store_fails_more(struct store *st, uint64_t group, uid_t uid,
                     uint64_t *n);                                 /* counts one more; *n: the new number */
int store_fails_less(struct store *st, uint64_t group, uid_t uid); /* one less in the group and all above it */
int store_fails_forget(struct store *st, uint64_t group);          /* for all users */
/* The cancelling of a user's jobs in a group, as too many of his have failed. */
struct giving_up {
    uid_t uid;
    uint64_t group, at;    /* progress: the last job looked at */
    char why[JOB_WHY_MAX]; /* reason of the cancelled jobs */
};
int store_give_up(struct store *st, uint64_t group, uid_t uid, const char *why);
int store_giving_up(struct store *st, int64_t *uid, struct giving_up *out); /* in turns of users; -ENOENT */
int store_gave_up_to(struct store *st, const struct giving_up *g);
/* Done with a group; next are its subgroups of the limit's owner, or all if that is root. */
int store_gave_up(struct store *st, const struct giving_up *g);
/* Adds to the tally of a group and of all above it; gathered in memory and written once a commit. */
int store_tally_add(struct store *st, uint64_t group, const struct tally *delta); /* fields are signed differences */
/* By so many jobs that have not ended there are more since it was asked last. */
int64_t store_grown(struct store *st);
int store_tally_get(struct store *st, uint64_t group, struct tally *out);
/* counts it and all above it as touched, though no number changes */
int store_tally_touch(struct store *st, uint64_t group);
/* The groups whose tally has changed since the last commit. */
size_t store_tally_touched(const struct store *st, const uint64_t **groups);
int store_group_levels(struct store *st, uint64_t id);    /* levels of groups: 1 if it has no subgroup */
bool store_group_has_jobs(struct store *st, uint64_t id); /* a job of any kind, or a subgroup */
#endif
