#include "worker/where.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef PKGLIBEXECDIR
#define PKGLIBEXECDIR "/usr/local/libexec/ppfs"
#endif

void where_worker(char path[PATH_MAX]) {
    const char *given = getenv("PPFS_WORKER");
    ssize_t n = readlink("/proc/self/exe", path, PATH_MAX - sizeof "/ppfs-worker");

    path[n > 0 ? n : 0] = '\0';
    char *slash = strrchr(path, '/');
    if (slash)
        strcpy(slash, "/ppfs-worker");
    if (given && *given)
        snprintf(path, PATH_MAX, "%s", given);
    else if (!slash || access(path, X_OK) < 0)
        snprintf(path, PATH_MAX, "%s/ppfs-worker", PKGLIBEXECDIR);
}
