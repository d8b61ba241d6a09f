/* Checkpoints: the database's log is copied into the database. SQLite would do that inside a COMMIT and wait for the
 * disk there. Therefore a thread syncs the log first, and little is left to copy and sync in the loop, after the
 * replies of a turn. */
#include <errno.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "sched/turn/turn.h"

#define LOG_PAGES 2000      /* a longer log is copied into the database ... */
#define LOG_PAGES_MAX 16000 /* ... without the thread, if the disk is too slow for it */
/* ... or before it is longer than it can be on a full disk */
#define LOG_PAGES_FULL (STORE_LOG_KEPT / 2 / 4096)
#define LOG_STEP 32 /* ... or if the disk may have no room for it later: checked after so many pages */

#define NICE 19

struct sync {
    struct disk_task task;
    struct sched *s;
    uint64_t log; /* store_log_id */
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
    free(y);
}

static void sync_log(struct sched *s) {
    struct sync *y = calloc(1, sizeof *y);
    if (!y)
        return;
    y->task = (struct disk_task){.work = work, .done = done};
    y->s = s;
    y->log = store_log_id(s->store);
    s->log_syncing = true;
    disk_submit(s->syncer, &y->task);
}

static bool is_synced(const struct sched *s) {
    return s->log_synced && s->log_synced == store_log_id(s->store);
}

static bool is_crowded(struct sched *s, unsigned pages) {
    bool step = pages / LOG_STEP != s->log_pages / LOG_STEP;
    s->log_pages = pages;
    if (!store_has_ballast(s->store) && pages >= s->log_tried + LOG_PAGES_FULL)
        return true;
    return (step || !store_has_ballast(s->store)) && !store_reserve(s->store);
}

void checkpoint_turn(struct sched *s) {
    unsigned pages = store_log_pages(s->store);
    if (pages < s->log_tried)
        s->log_tried = 0; /* it has begun anew */
    if (store_changed(s->store))
        return;
    bool crowded = is_crowded(s, pages), now = crowded || pages >= s->log_tried + LOG_PAGES_MAX;
    if (!now && pages < s->log_tried + LOG_PAGES)
        return;
    if (!now && !is_synced(s)) {
        if (!s->log_syncing)
            sync_log(s);
        return;
    }
    s->log_synced = 0;
    /* if it fails (no room, another reader) it is tried again when the log has doubled */
    s->log_tried = pages;
    store_checkpoint(s->store, crowded);
}
