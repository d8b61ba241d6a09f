/* Inode numbers: computed, never handed out. */
#ifndef PPFS_FS_INODE_H
#define PPFS_FS_INODE_H
#ifndef FUSE_USE_VERSION
#define FUSE_USE_VERSION 314
#endif
#include <fuse_lowlevel.h>

/* An inode number is the id of the job, group or node, and the kind. */
enum kind {
    KIND_ROOT = 1, /* FUSE_ROOT_ID */
    KIND_README,
    KIND_VERSION,
    KIND_STATS,
    KIND_STATS_JSON,
    KIND_METRICS,
    KIND_RUNNING,
    KIND_JOBS = 8, /* directories of a group (id 0: the top) */
    KIND_RESULTS,
    KIND_FAILURES,
    KIND_INFO,
    KIND_NODES,
    KIND_NODE, /* id: a hash of its name */
    KIND_NODE_CPUS,
    KIND_NODE_STATE,
    KIND_NODE_RUNNING,
    KIND_NODE_DONE,
    KIND_NODE_FAILED,
    KIND_NODE_SECONDS,
    KIND_NODE_PYTHON,
    KIND_NODE_RESOURCES,
    KIND_NODE_ADDRESS,
    KIND_NODE_SEEN,
    KIND_NODE_WHY,
    KIND_NODES_LISTEN, /* nodes/.listen */
    KIND_NODES_DISCOVER,
    KIND_KEYS, /* nodes/.keys */
    KIND_KEY,  /* id: a hash of its name */
    KIND_KEY_TEXT,
    KIND_EVENTS, /* id: since then, in microseconds since the epoch; 0: from the open on */
    KIND_TRACE,
    KIND_DASHBOARD,
    KIND_JOB = 40, /* jobs/NAME; id: the job, from here on */
    KIND_RESULT,
    KIND_FAILURE,
    KIND_INFO_JOB,
    KIND_STATE,
    KIND_WHY,
    KIND_WAIT,
    KIND_STDOUT,
    KIND_STDERR,
    KIND_SPEC,
    KIND_EXIT,
    KIND_ATTEMPT,
    KIND_NODE_OF,
    KIND_TIMES,
    KIND_USAGE,
    KIND_PRIORITY,
    KIND_HOLD,
    KIND_EVENTS_OF,       /* info/NAME/events */
    KIND_GROUP_WAIT = 64, /* info/G/.wait; id: the group */
    KIND_GROUP_PROGRESS,
    KIND_GROUP_EVENTS,
    KIND_GROUP_OK, /* info/G/.ok */
    KIND_GROUP_HOLD,
    KIND_GROUP_PRIORITY,
    KIND_GROUP_FAILED, /* info/G/.failed */
    KINDS
};

static inline fuse_ino_t ino_make(uint64_t id, enum kind kind) {
    return (fuse_ino_t)(id << 8 | (uint64_t)kind);
}
static inline uint64_t ino_id(fuse_ino_t ino) {
    return (uint64_t)ino >> 8;
}
static inline enum kind ino_kind(fuse_ino_t ino) {
    return (enum kind)(ino & 0xff);
}
#endif
