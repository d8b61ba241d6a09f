/* The capabilities of a process: what it does not need any more it gives up. For a process that has none, as that of an
 * ordinary user, nothing changes. A program that root executes afterwards has all of them again. */
#ifndef PPFS_PRIVILEGES_H
#define PPFS_PRIVILEGES_H
#include <stddef.h>

/* Gives up all but those of keep (CAP_... of linux/capability.h), and CAP_DAC_READ_SEARCH where one of paths (NULLs are
 * skipped) lies below a directory that is closed without it. For this thread and those it starts: call it while there
 * is no other. 0 or -errno. */
int privileges_keep(const int *keep, size_t keep_count, const char *const *paths, size_t path_count);
int privileges_none(void); /* gives up all. 0 or -errno */
#endif
