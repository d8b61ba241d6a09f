/* The store's arrays: jobs that become many, a few at a time. */
#ifndef PPFS_STORE_ARRAYS_H
#define PPFS_STORE_ARRAYS_H
#include "sched/job/job.h"

struct store;
struct array_row {
    uint64_t id, group;
    uint64_t first;     /* id of its first element; the others' follow */
    int64_t next, size; /* elements before next were made */
    bool held;          /* elements that are made are held */
    bool lost;          /* an element that did not succeed was forgotten */
    char *list;         /* as array_parse reads it; malloc'd */
};
enum array_due { ARRAY_IDLE, ARRAY_TO_DO, ARRAY_KEPT_BACK /* by the quota of its user */ };

int store_array_insert(struct store *st, const struct array_row *a, uid_t uid); /* at its begin, to be looked at */
int store_array_get(struct store *st, uint64_t id, struct array_row *out);      /* -ENOENT */
/* The one whose elements' ids begin at that id or next below it. -ENOENT */
int store_array_with(struct store *st, uint64_t element, struct array_row *out);
int store_array_save(struct store *st, const struct array_row *a, enum array_due due); /* next */
int store_array_delete(struct store *st, uint64_t id);
/* One that is to be looked at, of the user behind *uid, or of the first; *uid becomes him. -ENOENT */
int store_array_next(struct store *st, int64_t *uid, uint64_t *id);
int store_array_due(struct store *st, uint64_t id);
int store_array_hold(struct store *st, uint64_t id, bool held);
int store_array_lost(struct store *st, uint64_t id, uint64_t group); /* array_row.lost, if that is its group */
int store_arrays_wake(struct store *st, uid_t uid);                  /* those that his quota kept back */
int store_arrays_wake_all(struct store *st);                         /* those that any quota kept back */
bool store_arrays(struct store *st);                                 /* whether there are any */
int store_array_waiting(struct store *st, uint64_t id, int max);     /* how many of its elements wait, at most max */
bool store_array_used(struct store *st, uint64_t id);                /* whether any element of it is known */
/* the job id gets the saved options of the other */
int store_array_options(struct store *st, uint64_t id, uint64_t of);
#endif
