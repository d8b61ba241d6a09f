/* A cgroup (version 2) for each worker and all that its jobs start: so that processes which make others faster than
 * they are killed one after another can be killed at once. Where we may make none, these do nothing. */
#ifndef PPFS_CGROUP_H
#define PPFS_CGROUP_H
#include <stdint.h>
#include <sys/types.h>

/* Template: */
void cgroup_start(void);             /* makes one, in the cgroup it is in, for the workers' */
void cgroup_sweep(void);             /* kills and removes what dead ones left; may take seconds */
void cgroup_kill(uint64_t serial);   /* all that is in a worker's */
void cgroup_kill_all(void);          /* in those of all workers */
void cgroup_remove(uint64_t serial); /* when all in it are dead */
void cgroup_end(void);               /* the same of them all */

/* Guard: fork() of the worker, which is in its own from its first moment on. */
pid_t cgroup_fork(uint64_t serial);
/* Worker: kills all that are in it, but for itself: it steps out meanwhile. In a child of a worker: nothing. */
void cgroup_clear(void);

/* Daemon: of a template that is dead, with that pid. */
void cgroup_bury(pid_t pid);
#endif
