/* All leases, see lease.c. */
#ifndef PPFS_LEASES_STATE_H
#define PPFS_LEASES_STATE_H
#include "sched/leases/lease.h"

struct fetch;

struct leases {
    LIST_HEAD(, lease) all, busy, heard; /* busy: those with calls; heard: those with answers of this turn */
    struct lease **table;                /* lease.c: by their ids */
    size_t table_size, at;
    unsigned away;              /* leases whose stream left memory after a failed commit */
    unsigned count, calls_sent; /* calls_sent: of all leases, not answered */
    int64_t reclaim_at;         /* clock_us: not before */
    uint64_t reclaims, last;    /* last: id of the newest */
    LIST_HEAD(, fetch) fetches; /* objects that are being read: lease_give.c */
};
#endif
