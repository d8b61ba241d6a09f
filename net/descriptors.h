/* The descriptors of a process: 0 to 2 are open, the limit is raised as far as the system allows, and some are reserved
 * for its own work. Not for use by several threads at once. */
#ifndef PPFS_DESCRIPTORS_H
#define PPFS_DESCRIPTORS_H
#include <stdbool.h>

/* Descriptors that stay free beyond a request: workers leave some for files of jobs and streams, incoming nodes leave
 * some for workers. */
enum { DESCRIPTORS_FOR_FILES = 32, DESCRIPTORS_FOR_WORKERS = 256 };

/* Called first in main: opens /dev/null on closed ones of 0, 1 and 2, so that no other file ever gets these numbers. */
void descriptors_standard(void);
/* Raises the soft limit to the hard one. */
void descriptors_raise(void);
/* In a child, before exec: the soft limit as it was before descriptors_raise. A system call only. */
void descriptors_restore(void);
unsigned descriptors_limit(void);
/* Whether count descriptors are free, and beyond that `beyond`, or a quarter of the limit if that is less. About 0.3 us
 * each. */
bool descriptors_spare(unsigned count, unsigned beyond);
/* Whether an errno means that descriptors, or kernel memory for them, have run out: try again later. */
bool descriptors_short(int err);
#endif
