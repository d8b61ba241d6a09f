/* A tree is removed through descriptors, as its user may put links in the place of directories meanwhile. */
#include "worker/forkserver/removal.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { DEPTH = 200 }; /* one descriptor each; what lies deeper is moved up and removed afterwards */

static const char *to;
static unsigned moved;

static void spare_path(unsigned number, char path[PATH_MAX]) {
    snprintf(path, PATH_MAX, "%s%u", to, number);
}

static void remove_part(int parent, const char *name, int depth);

static void empty_part(int parent, const char *name, int depth) {
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;

    for (struct dirent *e; dir && (e = readdir(dir));)
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            remove_part(fd, e->d_name, depth + 1);
    if (dir)
        closedir(dir);
    else if (fd >= 0)
        close(fd);
}

static void remove_part(int parent, const char *name, int depth) {
    char path[PATH_MAX];

    if (unlinkat(parent, name, 0) == 0 || unlinkat(parent, name, AT_REMOVEDIR) == 0)
        return;                                                         /* most working directories are empty */
    if (geteuid() && fchmodat(parent, name, 0700, AT_SYMLINK_NOFOLLOW)) /* a job may have closed it */
        return;
    if (depth > DEPTH) {
        spare_path(moved, path);
        moved += renameat(parent, name, AT_FDCWD, path) == 0;
        return;
    }
    empty_part(parent, name, depth);
    unlinkat(parent, name, AT_REMOVEDIR);
}

static void remove_moved(void) {
    char path[PATH_MAX];

    for (unsigned i = 0; i < moved; i++) {
        spare_path(i, path);
        remove_part(AT_FDCWD, path, 0);
    }
    moved = 0;
}

void removal_tree(int parent, const char *name, const char *spare) {
    to = spare;
    remove_part(parent, name, 0);
    if (!moved)
        return;
    remove_moved();
    unlinkat(parent, name, AT_REMOVEDIR); /* into which they may have been moved */
}

void removal_inside(const char *path, const char *spare) {
    to = spare;
    empty_part(AT_FDCWD, path, 0);
    remove_moved();
}
