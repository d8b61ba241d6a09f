/* What this process has of its machine.
 *
 * How many processors this process may use: affinity mask, and the smallest cgroup v1 or v2 cpu quota on the way up
 * from its own (nested) group, rounded up, at least 1. */
#ifndef PPFS_CPUS_H
#define PPFS_CPUS_H
#include <stdint.h>

unsigned cpus_available(void);
/* Bytes of memory: of the machine, or the smallest limit of a cgroup on the way up; 0: neither can be read. */
uint64_t cpus_memory(void);
#endif
