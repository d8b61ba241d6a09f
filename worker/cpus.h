/* How many processors this process may use: affinity mask, and the smallest cgroup v1 or v2 cpu quota on the way up
 * from its own (nested) group, rounded up, at least 1. */
#ifndef PPFS_CPUS_H
#define PPFS_CPUS_H
unsigned cpus_available(void);
#endif
