/* The streams that come into memory and leave it, see stream.c. */
#ifndef PPFS_STREAMS_STATE_H
#define PPFS_STREAMS_STATE_H
#include "sched/streams/streams.h"

struct streams {
    LIST_HEAD(, stream) left; /* those that the disk thread still reads for */
    uint64_t loads;           /* times that one came into memory */
    bool waits;               /* one is queued until fewer have something to do */
};
#endif
