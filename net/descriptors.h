/* The descriptors of a process: 0-2 are open, there are as many as the system lets it have, and some are kept back for
 * its own work. Not for use by several threads at once. */
#ifndef PPFS_DESCRIPTORS_H
#define PPFS_DESCRIPTORS_H
#include <stdbool.h>

/* Beyond what is being asked for, so many stay free: workers leave them to files of jobs and streams, nodes that dial
 * in leave them to workers. */
enum { DESCRIPTORS_FOR_FILES = 32, DESCRIPTORS_FOR_WORKERS = 256 };

/* The first thing in main: /dev/null on those of 0, 1 and 2 that are closed, so that no other file ever gets these
 * numbers. */
void descriptors_standard(void);
/* Raises the soft limit to the hard one. */
void descriptors_raise(void);
/* In a child, before exec: the soft limit as it was before descriptors_raise. A system call only. */
void descriptors_restore(void);
unsigned descriptors_limit(void);
/* Whether count more can be had, and after that `beyond`, or a quarter of the limit where that is less. About 0.3 us
 * each. */
bool descriptors_spare(unsigned count, unsigned beyond);
/* An errno that says that descriptors, or what the kernel keeps for them, have run out: to be tried again later. */
bool descriptors_short(int err);
#endif
