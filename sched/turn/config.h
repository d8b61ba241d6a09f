/* What the scheduler is given, and tells. */
#ifndef PPFS_SCHED_CONFIG_H
#define PPFS_SCHED_CONFIG_H
#include <event2/event.h>
#include <stdbool.h>
#include <stdint.h>

struct quotas;
struct sched;
typedef void sched_done(void *arg, int rc);

struct sched_config {
    struct event_base *base;
    const char *state_dir;             /* existing, ours, locked by the supervisor */
    const char *mountpoint;            /* absolute; jobs of writers whose directory is below it run in a fresh one */
    const char *worker_path;           /* the ppfs-worker binary */
    const char *python;                /* as given to --python, or NULL */
    unsigned cpus;                     /* local slots */
    const char *key;                   /* file of the shared key, NULL: key in state_dir, made if it is not there */
    const char *listen;                /* ADDR:PORT for nodes that dial in, or NULL */
    int64_t keep_us;                   /* after which an ended job is forgotten, 0: never (--keep) */
    uint64_t keep_results;             /* so many ended jobs of a user are kept, 0: all (--keep-results) */
    unsigned silence_ms;               /* after which a node is cut off; 0: 5000 */
    bool sync_full;                    /* --sync full */
    const struct quotas *quotas;       /* NULL: nobody else writes here, and nothing is counted */
    bool suid_jobs;                    /* --suid-jobs */
    const struct resources *resources; /* of this machine: --resource; or NULL */
    const char *node_users;            /* lines NAME=UID: --node-user; or NULL */
    struct successors *successors; /* outlive a daemon, and so do what the kernel has open; NULL: of this one alone */
    bool again;                    /* a daemon ran on this mount before: what was set in nodes/ holds */
    /* After a commit, for each job that changed (state, output, disappeared), at most once a turn. */
    void (*changed)(void *arg, uint64_t job);
    /* After a commit in which a job in this group (or below it) ended or was queued. */
    void (*group_changed)(void *arg, uint64_t group);
    /* jobs that were only announced, with these ids among others, will not be; NULL: nobody waits for such */
    void (*dropped)(void *arg, uint64_t first, uint64_t end);
    /* After a commit since which there are events to read, or a job has gone; or NULL. */
    void (*happened)(void *arg);
    /* The parked request that waits for that (sched_blocked) is refused: it fails with rc. */
    void (*refused)(void *arg, uint64_t on, uint64_t request, int rc);
    void (*log)(void *arg, const char *sentence);
    void *arg;
};
#endif
