/* What the files of this room share: one struct for the daemon, and the inode numbers (inode.h).
 * Everything runs in the thread of the loop; nothing here blocks. */
#ifndef PPFS_FS_H
#define PPFS_FS_H
#ifndef FUSE_USE_VERSION
#define FUSE_USE_VERSION 314
#endif
#include <errno.h>
#include <event2/event.h>
#include <fuse_lowlevel.h>

#include "fs/inode.h"
#include "sched/sched.h"

/* The FUSE request that is being handled. Done functions and retries run later and must not use it. */
struct request {
    const void *bytes;
    size_t size;
    uint64_t unique; /* its top bit cleared, so the same when it is sent again to the next daemon */
    bool again;      /* sent again: an earlier daemon may have done it */
    uint64_t faults; /* sched_faults when its handling or retry began; valid only during that */
    bool handling;   /* it is being handled, or retried */
    uid_t uid;       /* who asks */
    gid_t gid;
};

#define COPIES 64u /* copying processes that are remembered */
struct copied {    /* copies.h */
    uint64_t fh, job;
    pid_t pid;
};

#define RENAMES 64u /* renaming processes that are remembered */
struct renaming {   /* renames.h */
    uint64_t group;
    int64_t until; /* clock_ms */
    pid_t pid;
    bool found;
    char name[JOB_NAME_MAX + 1];
};

struct kind_ops;
struct handle;
struct shared;

struct fs {
    struct event_base *base;
    struct fuse_session *session;
    struct sched *sched;
    const struct kind_ops *kinds; /* kinds.h */
    struct handles *handles;
    struct loop *loop;
    struct replies *replies;
    struct waits *waits;
    struct texts *texts;
    struct dashboards *dashboards;
    struct feeds *feeds;
    struct cache *cache;
    struct journal_entry *journal_table, *journal; /* journal.h; journal is NULL if this kernel needs none */
    bool no_resend;
    const char *state_dir;
    uid_t uid; /* who mounted */
    gid_t gid;
    bool everyone;          /* mounted by root with allow_other: every user may submit, and jobs run as their writer */
    int64_t started, began; /* when it was mounted: clock_wall_us and clock_us */
    struct request now;
    struct copied copies[COPIES]; /* a ring of the latest */
    unsigned copies_next;
    struct renaming renames[RENAMES]; /* one a process */
    unsigned renames_next;
};

/* The inode of a job that has left its directory or was forgotten answers ESTALE to OPEN and GETATTR; the kernel then
 * looks the name up again, once. A job that was renamed keeps its inode, so its name is not cached (tree_entry). In
 * info/, results/ and failures/ the old inode of a name that was written again stands for the new job (sched_newest,
 * the last 1024): with ESTALE alone the name could be written once more before the kernel asks again. Such a file is
 * read past the page cache, which may have the old job's bytes. */
static inline int stale(int rc) {
    return rc == -ENOENT ? -ESTALE : rc;
}
static inline struct fs *fs_of(fuse_req_t req) {
    return fuse_req_userdata(req);
}
#endif
