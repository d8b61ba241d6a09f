#include "fs/process/below.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LINKS_MAX 40 /* as many as the kernel follows */

/* A path that is resolved step by step: the directory reached, and the rest. */
struct way {
    int at;
    char left[2 * PATH_MAX];
    int links;
    unsigned deep; /* missing directories below that */
};

static bool is_same(const struct stat *a, const struct stat *b) {
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/* Puts the link's target before the rest of the path. */
static bool follow(struct way *w, const char *name) {
    char target[2 * PATH_MAX];
    ssize_t n = readlinkat(w->at, name, target, PATH_MAX);
    if (n <= 0 || ++w->links > LINKS_MAX ||
        (size_t)snprintf(target + n, sizeof target - (size_t)n, "/%s", w->left) >= sizeof target - (size_t)n)
        return false;
    if (target[0] == '/') {
        close(w->at);
        w->at = open("/", O_PATH | O_CLOEXEC);
    }
    strcpy(w->left, target);
    return w->at >= 0;
}

/* Takes the next component. False: none is left, or it cannot be entered. */
static bool step(struct way *w) {
    struct stat st = {0};
    char name[NAME_MAX + 2];
    size_t skip = strspn(w->left, "/"), n = strcspn(w->left + skip, "/");
    if (!n || n > NAME_MAX)
        return false;
    memcpy(name, w->left + skip, n);
    name[n] = '\0';
    memmove(w->left, w->left + skip + n, strlen(w->left + skip + n) + 1);
    if (w->deep || (fstatat(w->at, name, &st, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT)) {
        w->deep += strcmp(name, "..") == 0 ? -1u : strcmp(name, ".") != 0;
        return true;
    }
    if (S_ISLNK(st.st_mode))
        return follow(w, name);
    int next = openat(w->at, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (next < 0)
        return false;
    close(w->at);
    w->at = next;
    return true;
}

/* Whether the directory reached is the given one, or below it. */
static bool climb(struct way *w, const struct stat *point) {
    struct stat here, before = {0};
    for (;;) {
        if (fstat(w->at, &here) < 0 || is_same(&here, &before))
            return false;
        if (is_same(&here, point))
            return true;
        before = here;
        int up = openat(w->at, "..", O_PATH | O_CLOEXEC);
        if (up < 0)
            return false;
        close(w->at);
        w->at = up;
    }
}

static bool hides(const char *path, const char *mountpoint, bool on_the_way) {
    struct way w = {.at = open("/", O_PATH | O_CLOEXEC)};
    struct stat point, here;
    char *cwd = *path == '/' ? NULL : getcwd(NULL, 0);
    bool found = false;
    if (w.at >= 0 && stat(mountpoint, &point) == 0 && (*path == '/' || cwd) &&
        (size_t)snprintf(w.left, sizeof w.left, "%s/%s", cwd ? cwd : "", path) < sizeof w.left) {
        do
            found = on_the_way && fstat(w.at, &here) == 0 && is_same(&here, &point);
        while (!found && step(&w));
        found = found || climb(&w, &point);
    }
    if (w.at >= 0)
        close(w.at);
    free(cwd);
    return found;
}

bool below(const char *path, const char *mountpoint) {
    return hides(path, mountpoint, false);
}

bool below_leads_through(const char *path, const char *mountpoint) {
    return hides(path, mountpoint, true);
}
