/* The scheduler's state: what all rooms share, and where each has its own. Only sched/ includes this. */
#ifndef PPFS_CONTEXT_H
#define PPFS_CONTEXT_H
#include <sys/queue.h>

#include "net/complaints.h"
#include "sched/db/spool.h"
#include "sched/db/store.h"
#include "sched/turn/config.h"
#include "worker/runner/disk.h"

#define INLINE_MAX (64u * 1024u) /* bytes of a body that stands in its row */

struct ids { /* a growing set of ids; small, so searched from end to end */
    uint64_t *items;
    size_t count, cap;
};

struct later { /* a call to be answered after the commit, once the disk has it */
    SLIST_ENTRY(later) next;
    struct spool_name name;
    bool has_file;
    sched_done *done;
    void *arg;
};

struct sched {
    struct sched_config c;
    const struct sched_ops *ops;
    struct hosts *hosts;
    struct users *users;
    struct jobs *jobs;
    struct runs *runs;
    struct calls *calls;
    struct streams *streams;
    struct leases *leases;
    struct dispatch *dispatch;
    struct watch *watch;
    char *state_dir, *mountpoint;
    struct store *store;
    /* in threads of their own: syncer, the database's log as it grows (checkpoint.c); checker, NULL where there is
     * none, the check of a large database, which may take minutes */
    struct disk *disk, *syncer, *checker;
    struct spool *spool;
    struct complaints complaints; /* about nodes and users */
    int64_t steady_us;            /* see sched_steady */

    uint64_t unkept; /* turns that could not be committed since one last was */
    bool stopping, damaged;
    LIST_HEAD(, user) holding, streaming; /* users some of whose answers are not read; with streams in memory */
    bool stirred; /* slots came free or work came, since the last dispatch that began with all users */
    uid_t owner;  /* who mounted */
    bool settling, opening, placing, sweeping, giving_up, controlling, arraying, keeping, leaving,
        deps;           /* slices of queue.c that may have work */
    struct ids changed; /* jobs, in this turn */
    struct spool_name *unlinks;
    size_t unlink_count, unlink_cap;
    uint64_t dispatches, stream_turns;
    uint64_t steps; /* leases, hosts and streams that were met in walks over them: a test reads it */
    bool trash;     /* logs to be deleted */
    bool (*is_open)(void *arg, uint64_t job, bool for_writing); /* fs knows */
    void *is_open_arg;
    SLIST_HEAD(, later) laters;
    struct event *due, *tick, *retry, *lease_timer, *tidy, *checkpoint, *keep_timer;
    int64_t changed_at;           /* clock_us: the last commit of a change */
    bool made_room;               /* see sched_made_room */
    bool log_syncing;             /* checkpoint.c: the database's log is being synced ... */
    uint64_t log_synced;          /* ... of this one what it had was, and may be copied: store_log_id, 0 = none */
    unsigned log_syncs;           /* how many times, as it became longer */
    bool quiet;                   /* nothing has come for a while: it may be copied now */
    int64_t log_bytes, log_tried; /* of its pages after the last turn; when it was last to be copied */
    int64_t due_at;               /* of the due timer, 0 = none */
    uint64_t first_id;            /* ids below were handed out by earlier daemons */
    /* that a turn gives to long work, and as much to dispatch: queue.c looks at the clock between them */
    int64_t slice_us;
    uint64_t placing_round; /* one more: a host has changed, and all jobs that fit no node are judged again */
    bool placing_more;      /* a user has some behind those that were judged in his turn */
    /* whose turn in that was the last */
    int64_t settling_user, opening_user, giving_up_user, controlling_user, array_user, placing_user, due_user;
    /* keep.c: when keep_timer is due, 0 = it is not set; jobs from before --keep, up to keep_at, are looked for */
    int64_t keep_due;
    bool keep_old;
    uint64_t keep_at;
    enum {
        KEPT_ALL,
        KEPT_STALE,
        KEPT_FILLS
    } kept; /* the rows of --keep-results; those of jobs up to kept_at are there */
    uint64_t kept_at;
    int64_t kept_user; /* who is looked at next is this one, or behind him */
    bool kept_needed;  /* something that is needed was met since the first user */
    /* ids of elements that will be no jobs, since this turn, among others; 0: none */
    uint64_t dropped_first, dropped_end;
    uint64_t opened_round; /* one more: what user.opened has was taken back with a turn that was not committed */
    char scratch[INLINE_MAX + 1];
};
#endif
