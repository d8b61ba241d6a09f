/* What the room of streams has of its own. */
#ifndef PPFS_STREAMS_H
#define PPFS_STREAMS_H
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

struct stream;
struct kept_set;

struct streams {
    struct stream *first; /* of those in memory: stream.c */
    struct stream *left;  /* those that the disk thread still reads for */
    unsigned count, idle_count;
    uint64_t loads;             /* times that one came into memory */
    TAILQ_HEAD(, stream) idle;  /* have nothing to do; the longest first */
    bool waits;                 /* one is queued until fewer have something to do */
    LIST_HEAD(, kept_set) kept; /* stream_kept.c */
};
#endif
