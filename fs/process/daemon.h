/* The daemon: serves the mount until it is told to stop or the mount is gone. The supervisor forks it, without exec, as
 * often as it dies; a new one takes over the open handles and unanswered requests of the last (shared.h, loop.h). */
#ifndef PPFS_DAEMON_H
#define PPFS_DAEMON_H
#include "fs/fs.h"

enum { DAEMON_CLEAN = 0, DAEMON_FAILED = 1, DAEMON_NO_START = 3 }; /* exit statuses */

struct daemon_config {
    struct fs *fs; /* the userdata of the session; session and the options in it are set */
    struct shared *shared;
    const char *mountpoint; /* absolute */
    const char *worker_path, *python;
    const char *key, *listen; /* NULL: the default, none */
    const struct resources *resources;
    const char *node_users; /* as in sched_config */
    int64_t keep_us;
    unsigned keep_results;
    unsigned cpus, silence_ms;
    const struct quotas *quotas; /* NULL: nobody else writes here */
    bool sync_full, suid_jobs;
    void (*ready)(void *arg);                        /* INIT has been answered (once in the life of a mount) */
    void (*failed)(void *arg, const char *sentence); /* it cannot start */
    void *arg;
};

/* Returns an exit status. */
int daemon_run(const struct daemon_config *c);
#endif
