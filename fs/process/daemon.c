#include "fs/process/daemon.h"

#include <errno.h>
#include <linux/capability.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#include "fs/session/cache.h"
#include "fs/handles/handle.h"
#include "fs/log.h"
#include "fs/session/loop.h"
#include "fs/session/reply.h"
#include "fs/tree/dashboard.h"
#include "fs/tree/feed.h"
#include "fs/tree/text.h"
#include "fs/session/wait.h"
#include "net/privileges.h"
#include "net/states.h"

#define KEEP_BYTES (32 << 20) /* free memory that is not returned to the kernel */

static void on_changed(void *arg, uint64_t job) {
    struct fs *fs = arg;
    cache_forget(fs, job);
    waits_wake(fs, (struct wait_key){.id = job});
    handle_wake(fs, job);
}

/* All requests parked under a group, and all who poll it, wait for the same event, so one look decides for all. */
static void on_group_changed(void *arg, uint64_t group) {
    struct fs *fs = arg;
    struct wait_key key = {.id = group, .group = true};
    struct tally t;
    if ((waits_any(fs, key) || handles_first(fs->handles, group)) &&
        (sched_tally(fs->sched, group, &t) != 0 || !t.active)) {
        waits_wake(fs, key);
        handle_wake(fs, group);
    }
}

static void on_dropped(void *arg, uint64_t first, uint64_t end) {
    struct fs *fs = arg;
    waits_wake_range(fs, first, end);
    handle_wake_all(fs);
}

static void on_happened(void *arg) {
    feeds_happened(arg);
}

static void on_refused(void *arg, uint64_t on, uint64_t request, int rc) {
    waits_refuse(arg, on, request, rc);
}

static void on_log(void *arg, const char *sentence) {
    log_line("%s", sentence);
}

static void on_trace(const char *sentence) {
    log_line("%s", sentence);
}

static int create(const struct daemon_config *c, char *why, size_t why_size) {
    struct fs *fs = c->fs;
    size_t size;
    struct sched_config sched = {.state_dir = fs->state_dir,
                                 .mountpoint = c->mountpoint,
                                 .worker_path = c->worker_path,
                                 .python = c->python,
                                 .key = c->key,
                                 .listen = c->listen,
                                 .silence_ms = c->silence_ms,
                                 .keep_us = c->keep_us,
                                 .keep_results = c->keep_results,
                                 .suid_jobs = c->suid_jobs,
                                 .node_users = c->node_users,
                                 .resources = c->resources,
                                 .successors = shared_successors(c->shared),
                                 .quotas = c->quotas,
                                 .cpus = c->cpus,
                                 .sync_full = c->sync_full,
                                 .again = shared_init(c->shared, &size) != NULL,
                                 .changed = on_changed,
                                 .group_changed = on_group_changed,
                                 .dropped = on_dropped,
                                 .happened = on_happened,
                                 .refused = on_refused,
                                 .log = on_log,
                                 .arg = fs};
    snprintf(why, why_size, "not enough memory");
    fs->base = sched.base = event_base_new();
    int rc = fs->base ? 0 : -ENOMEM;
    if (rc == 0)
        rc = replies_create(&fs->replies);
    if (rc == 0)
        rc = waits_create(&fs->waits);
    if (rc == 0)
        rc = texts_create(&fs->texts);
    if (rc == 0)
        rc = dashboards_create(&fs->dashboards);
    if (rc == 0)
        rc = feeds_create(fs);
    if (rc == 0)
        rc = cache_create(&fs->cache);
    if (rc == 0)
        rc = handles_attach(&fs->handles, c->shared);
    if (rc == 0)
        rc = sched_create(&fs->sched, &sched, why, why_size);
    if (rc == 0 && (rc = sched_recover(fs->sched, handle_is_open, fs)) != 0)
        snprintf(why, why_size, "cannot take up the queue in %s: %s", fs->state_dir, strerror(-rc));
    if (rc == 0 && (rc = loop_create(fs, c->shared, c->ready, c->arg)) != 0)
        snprintf(why, why_size, "cannot serve the mount: %s", strerror(-rc));
    return rc;
}

static void destroy(struct fs *fs) {
    /* Parked requests are answered before the workers are killed: a job that waits in the mount could not die
     * otherwise. */
    if (fs->waits)
        waits_end(fs, -ESHUTDOWN);
    sched_destroy(fs->sched);
    loop_destroy(fs->loop);
    handles_destroy(fs->handles);
    cache_destroy(fs->cache);
    texts_destroy(fs->texts);
    dashboards_destroy(fs->dashboards);
    feeds_destroy(fs->feeds);
    waits_destroy(fs->waits);
    replies_destroy(fs->replies);
    if (fs->base)
        event_base_free(fs->base);
}

/* On root's mount the daemon keeps four capabilities: to kill processes of other users' jobs, to read a writer's
 * directory (writer.c), to have more pipes and descriptors than a user, and to listen below port 1024. */
static void drop_privileges(const struct daemon_config *c) {
    static const int needed[] = {CAP_KILL, CAP_SYS_PTRACE, CAP_SYS_RESOURCE, CAP_NET_BIND_SERVICE};
    const char *paths[] = {c->fs->state_dir, c->worker_path, c->key, getenv("TMPDIR")};
    int rc = privileges_keep(needed, sizeof needed / sizeof *needed, paths, sizeof paths / sizeof *paths);
    if (rc)
        log_line("the daemon keeps all its capabilities: %s", strerror(-rc));
}

int daemon_run(const struct daemon_config *c) {
    char why[1024];
    int status = DAEMON_CLEAN;
    drop_privileges(c);
    states_trace(shared_trace(c->shared), on_trace);
    signal(SIGPIPE, SIG_IGN);
    /* Without these settings the pages of each megabyte buffer come from the kernel, cleared, and go back to it. */
    mallopt(M_MMAP_THRESHOLD, KEEP_BYTES);
    mallopt(M_TRIM_THRESHOLD, KEEP_BYTES);
    /* Orphans of a dying fork server become the daemon's children, not the supervisor's, which reaps only after a
     * daemon's death. */
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    setenv("PPFS", c->mountpoint, 1); /* jobs submit to this mount by it; without it they look in the mount table */
    if (create(c, why, sizeof why) != 0) {
        c->failed(c->arg, why);
        status = DAEMON_NO_START;
    } else {
        int rc = loop_run(c->fs);
        if (rc) {
            log_line("the mount cannot be served any longer: %s", strerror(-rc));
            status = DAEMON_FAILED;
        }
    }
    destroy(c->fs);
    return status;
}
