#include "worker/runner/where.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef PKGLIBEXECDIR
#define PKGLIBEXECDIR "/usr/local/libexec/ppfs"
#endif

/* $variable, else beside this program, else where it is installed. */
static void where(const char *variable, const char *name, char path[PATH_MAX]) {
    const char *given = getenv(variable);
    ssize_t n = readlink("/proc/self/exe", path, PATH_MAX - sizeof "/ppfs-worker");

    path[n > 0 ? n : 0] = '\0';
    char *slash = strrchr(path, '/');
    if (slash)
        strcpy(slash + 1, name);
    if (given && *given)
        snprintf(path, PATH_MAX, "%s", given);
    else if (!slash || access(path, X_OK) < 0)
        snprintf(path, PATH_MAX, "%s/%s", PKGLIBEXECDIR, name);
}

void where_worker(char path[PATH_MAX]) {
    where("PPFS_WORKER", "ppfs-worker", path);
}

void where_net(char path[PATH_MAX]) {
    where("PPFS_NET", "ppfs-net", path);
}
