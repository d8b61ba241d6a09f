/* All leases, see lease.c. */
#ifndef PPFS_LEASES_STATE_H
#define PPFS_LEASES_STATE_H
#include "sched/leases/lease.h"

struct fetch;

struct leases {
    LIST_HEAD(, lease) all, busy, heard; /* busy: those with calls; heard: those with answers of this turn */
    struct lease **table;                /* lease.c: by their ids */
    size_t table_size, at;
    unsigned away;              /* whose stream left memory as a commit failed: lease_away.c */
    unsigned count, calls_sent; /* calls_sent: over all of them, and not answered */
    int64_t reclaim_at;         /* clock_us: not before */
    uint64_t reclaims, last;    /* last: id of the newest */
    LIST_HEAD(, fetch) fetches; /* functions and values that are being read: lease_give.c */
};
#endif
