/* The streams in memory, see stream_list.c. */
#ifndef PPFS_CALLS_STATE_H
#define PPFS_CALLS_STATE_H
#include "sched/calls/stream_int.h"

struct calls {
    LIST_HEAD(, stream) all;
    LIST_HEAD(, stream) by_id[256]; /* the same; ids follow one another, so they spread */
    unsigned count, idle_count;
    TAILQ_HEAD(, stream) idle;  /* have nothing to do; the longest first */
    LIST_HEAD(, kept_set) kept; /* stream_kept.c */
};
#endif
