#include <errno.h>
#include <limits.h>
#include <mntent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "scripts/ppfs_run/run.h"

/* The longest line of the mount table: a part of it that was cut off would be the number of another user. */
enum { LINE_MAX_BYTES = 1 << 16 };

#define PRIVATE "ppfs-private-" /* of Python's package: of one process alone */

/* false: errno says why. */
static bool is_mount(const char *path) {
    char jobs[PATH_MAX], results[PATH_MAX];
    return (size_t)snprintf(jobs, sizeof jobs, "%s/jobs/.", path) < sizeof jobs &&
           (size_t)snprintf(results, sizeof results, "%s/results/.", path) < sizeof results &&
           access(jobs, F_OK) == 0 && access(results, F_OK) == 0;
}

static bool is_private(const char *path) {
    const char *end = strrchr(path, '/'), *start = end;
    while (start && start > path && start[-1] != '/')
        start--;
    return start && strncmp(start, PRIVATE, strlen(PRIVATE)) == 0;
}

/* Who mounted it; -1: nobody that is known. */
static uid_t owner_of(const struct mntent *m) {
    const char *option = hasmntopt(m, "user_id");
    unsigned uid;
    return option && sscanf(option, "user_id=%u", &uid) == 1 ? (uid_t)uid : (uid_t)-1;
}

/* The newest of that owner's in the mount table, for free(). *count: how many he has. */
static char *newest_of(uid_t owner, unsigned *count) {
    struct mntent m;
    char buf[LINE_MAX_BYTES], *found = NULL;
    FILE *f = setmntent("/proc/self/mounts", "re");
    *count = 0;
    while (f && getmntent_r(f, &m, buf, sizeof buf)) {
        if (strcmp(m.mnt_type, "fuse.ppfs") != 0 || owner_of(&m) != owner || is_private(m.mnt_dir) ||
            !is_mount(m.mnt_dir) || (found && strcmp(found, m.mnt_dir) == 0))
            continue;
        free(found);
        found = strdup(m.mnt_dir);
        ++*count;
    }
    if (f)
        endmntent(f);
    return found;
}

char *find_mount(const char *named) {
    const char *from = named ? "" : " (named by $PPFS)";
    unsigned count = 0;
    if (!named)
        named = getenv("PPFS");
    if (named && *named) {
        char *path = realpath(named, NULL);
        if (path && is_mount(path))
            return path;
        int error = errno;
        free(path);
        if (error != ENOENT && error != ENOTDIR)
            run_cannot("%s%s cannot be used: %s", named, from, strerror(error));
        else
            run_cannot("there is no ppfs mounted on %s%s; mount one with: ppfs %s", named, from, named);
        return NULL;
    }
    char *path = newest_of(geteuid(), &count);
    if (!path && geteuid() != 0)
        path = newest_of(0, &count);
    if (path && count == 1)
        return path;
    if (path)
        run_cannot("%u ppfs are mounted, %s among them: name one with --mount, or set $PPFS", count, path);
    else
        run_cannot("no ppfs is mounted; name one with --mount, set $PPFS, or mount one with: ppfs DIRECTORY");
    free(path);
    return NULL;
}
