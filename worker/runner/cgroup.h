/* A cgroup (version 2) for each worker and its jobs' processes, so that processes which fork faster than they can be
 * killed one after another are killed at once. These functions do nothing if we may not make cgroups. */
#ifndef PPFS_CGROUP_H
#define PPFS_CGROUP_H
#include <stdint.h>
#include <sys/types.h>

/* Fork server: */
void cgroup_start(void);             /* makes a cgroup for those of the workers, in its own */
void cgroup_sweep(void);             /* kills and removes the cgroups of dead fork servers; may take seconds */
void cgroup_kill(uint64_t serial);   /* kills all processes in a worker's cgroup */
void cgroup_kill_all(void);          /* the same for all workers */
void cgroup_remove(uint64_t serial); /* when its processes are dead */
void cgroup_end(void);               /* the same for all */

/* Guard: fork() of the worker, which begins in its own cgroup. */
pid_t cgroup_fork(uint64_t serial);
/* Worker: kills all processes in its cgroup except itself, which leaves it meanwhile. In a child of a worker:
 * nothing. */
void cgroup_clear(void);

/* Daemon: removes the cgroup of a dead fork server with that pid. */
void cgroup_bury(pid_t pid);
#endif
