/* Which paths a mount would hide from the process that serves it: looking one of them up, that process would wait for
 * its own answer for ever. */
#ifndef PPFS_BELOW_H
#define PPFS_BELOW_H
#include <stdbool.h>

/* Whether path is, or will be once it is made, the directory mountpoint or below it, also by symbolic links, "..", or
 * another mount of the same directory. False if the path cannot be resolved. */
bool below(const char *path, const char *mountpoint);
/* Whether path leads through that directory, wherever it ends. */
bool below_leads_through(const char *path, const char *mountpoint);
#endif
