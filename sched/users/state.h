/* All users, see user.c. */
#ifndef PPFS_USERS_STATE_H
#define PPFS_USERS_STATE_H
#include "sched/users/user.h"

struct user_heap {
    struct user **items;
    unsigned count, cap;
};

struct limits {
    bool said;           /* a .options file may say max= or max_fails= */
    uint64_t generation; /* what is in memory was read in this one, or is read again */
    void *tree;          /* tsearch tree of struct limit */
    LIST_HEAD(, limit) all;
    unsigned count, kept; /* kept: count after the last sweep */
    uint64_t wanted_in;   /* the last dispatch in which somebody waited for room in one of them */
};

struct users {
    void *tree; /* tsearch tree of struct user */
    struct user_heap heaps[USERS_HEAPS];
    double time_us;          /* the virtual time at which a user begins */
    bool unknown;            /* others may have ready jobs as well: dispatch.c looks */
    unsigned backlog;        /* those of whom the database may have ready jobs that run anywhere; ... */
    unsigned placed_backlog; /* ... that have a place */
    unsigned starved;        /* those of whom something waits for slots that their quota would allow */
    void *wants;             /* tsearch tree of struct want */
    unsigned lent;           /* runs and leases that have lent their slots */
    struct limits limits;
};
#endif
