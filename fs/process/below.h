/* Which paths a mount would hide from the process that serves it: whoever looks one of them up would wait for an answer
 * of itself, for ever. */
#ifndef PPFS_BELOW_H
#define PPFS_BELOW_H
#include <stdbool.h>

/* Whether path is, or will be once it is made, the directory mountpoint or something below it: by symbolic links, "..",
 * or another mount of the same directory. False where the way to it cannot be followed. */
bool below(const char *path, const char *mountpoint);
/* Whether the way to path leads through that directory, wherever it ends. */
bool below_leads_through(const char *path, const char *mountpoint);
#endif
