/* The attempts that are under way, see run.c. */
#ifndef PPFS_RUNS_STATE_H
#define PPFS_RUNS_STATE_H
#include "sched/runs/run.h"

struct runs {
    void *tree;                      /* tsearch tree of struct run */
    SLIST_HEAD(, run) starts, ended; /* of this turn */
    struct ids kills;
};
#endif
