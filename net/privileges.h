/* Gives up the capabilities that a process no longer needs. A process without any, as an ordinary user's, does not
 * change. A program that root executes afterwards has all of them again. */
#ifndef PPFS_PRIVILEGES_H
#define PPFS_PRIVILEGES_H
#include <stddef.h>

/* Keeps only those in keep (CAP_... of linux/capability.h), and CAP_DAC_READ_SEARCH if one of paths (NULLs are skipped)
 * cannot be reached without it. For this thread and its later ones, so call it while there is no other. 0 or -errno. */
int privileges_keep(const int *keep, size_t keep_count, const char *const *paths, size_t path_count);
int privileges_none(void); /* gives up all. 0 or -errno */
#endif
