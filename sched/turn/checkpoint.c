/* Checkpoints: the database's log is copied into the database. SQLite would do that inside a COMMIT and wait for the
 * disk there. Therefore a thread syncs the log first, and little is left to copy and sync in the loop: when nothing has
 * come for some milliseconds, or else, less often, after the replies of a turn. */
#include <errno.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "sched/turn/turn.h"

#define LOG_BYTES (8 << 20)      /* a longer log is copied into the database when nothing comes ... */
#define LOG_SYNCS 4              /* ... or, synced so often while it became longer, although something does ... */
#define LOG_BYTES_MAX (64 << 20) /* ... or without the thread, if the disk is too slow for it */
#define QUIET_US 5000            /* nothing has come for so long */
/* ... or before it is longer than it can be on a full disk */
#define LOG_BYTES_FULL (STORE_LOG_KEPT / 2)
#define LOG_STEP (128 << 10) /* ... or if the disk may have no room for it later: checked after so many bytes */

#define NICE 19

struct sync {
    struct disk_task task;
    struct sched *s;
    uint64_t log;   /* store_log_id */
    unsigned syncs; /* of LOG_BYTES each, with this one */
    int rc;
};

static void work(struct disk_task *t) {
    struct sync *y = (struct sync *)t;
    setpriority(PRIO_PROCESS, (id_t)gettid(), NICE); /* for this thread: clients that wait for answers go first */
    y->rc = fdatasync(store_wal(y->s->store)) < 0 ? -errno : 0;
}

static void done(struct disk_task *t) {
    struct sync *y = (struct sync *)t;
    y->s->log_syncing = false;
    y->s->log_synced = y->rc == 0 ? y->log : 0;
    y->s->log_syncs = y->rc == 0 ? y->syncs : 0;
    free(y);
}

static void sync_log(struct sched *s, unsigned syncs) {
    struct sync *y = calloc(1, sizeof *y);
    if (!y)
        return;
    y->task = (struct disk_task){.work = work, .done = done};
    y->s = s;
    y->log = store_log_id(s->store);
    y->syncs = syncs;
    s->log_syncing = true;
    disk_submit(s->syncer, &y->task);
}

static bool is_synced(const struct sched *s) {
    return s->log_synced && s->log_synced == store_log_id(s->store);
}

static bool is_crowded(struct sched *s, int64_t bytes) {
    bool step = bytes / LOG_STEP != s->log_bytes / LOG_STEP;
    s->log_bytes = bytes;
    if (!store_has_ballast(s->store) && bytes >= s->log_tried + LOG_BYTES_FULL)
        return true;
    return (step || !store_has_ballast(s->store)) && !store_reserve(s->store);
}

void checkpoint_timer(evutil_socket_t fd, short what, void *arg) {
    ((struct sched *)arg)->quiet = true; /* the turn that follows does it */
}

static void when_quiet(struct sched *s) {
    static const struct timeval quiet = {0, QUIET_US};
    evtimer_add(s->checkpoint, &quiet); /* anew with each turn */
}

/* Whether it is time: the thread has synced what it had a little before, and nothing comes or it is long. */
static bool is_due(struct sched *s, int64_t bytes, bool quiet) {
    int64_t slices = (bytes - s->log_tried) / LOG_BYTES;
    unsigned syncs = slices < LOG_SYNCS ? (unsigned)slices : LOG_SYNCS;
    if (!syncs)
        return false;
    if (s->log_syncs < syncs) {
        if (!s->log_syncing)
            sync_log(s, syncs);
    } else if (syncs < LOG_SYNCS && !quiet) {
        when_quiet(s);
    } else if (is_synced(s)) {
        return true;
    } else {
        s->log_syncs = 0; /* of the log before this one */
    }
    return false;
}

void checkpoint_turn(struct sched *s) {
    int64_t bytes = store_log_bytes(s->store);
    bool quiet = s->quiet;
    s->quiet = false;
    if (bytes < s->log_tried)
        s->log_tried = 0; /* it has begun anew */
    if (store_changed(s->store))
        return;
    bool crowded = is_crowded(s, bytes);
    if (!crowded && bytes < s->log_tried + LOG_BYTES_MAX && !is_due(s, bytes, quiet))
        return;
    s->log_synced = 0;
    s->log_syncs = 0;
    /* if it fails (no room, another reader) it is tried again when the log has doubled */
    s->log_tried = bytes;
    store_checkpoint(s->store, crowded);
}
