#include "fs/state.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static int default_path(char *buf, size_t size) {
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    int n = -1;
    if (state && state[0] == '/')
        n = snprintf(buf, size, "%s/ppfs", state);
    else if (home && home[0] == '/')
        n = snprintf(buf, size, "%s/.local/state/ppfs", home);
    return n < 0 ? -ENOENT : (size_t)n >= size ? -ENAMETOOLONG : 0;
}

/* mkdir -p; all that is made is ours alone. */
static int make_path(char *path) {
    for (char *slash = path + 1; (slash = strchr(slash, '/')); slash++) {
        *slash = '\0';
        int rc = mkdir(path, 0700);
        *slash = '/';
        if (rc < 0 && errno != EEXIST)
            return -errno;
    }
    return mkdir(path, 0700) < 0 && errno != EEXIST ? -errno : 0;
}

#define LOCK_WAIT_MS 5000
#define LOCK_STEP_MS 20

int state_open(const char *given, char **path, char *why, size_t why_size) {
    char buf[PATH_MAX];
    struct stat st;
    int rc = given ? ((size_t)snprintf(buf, sizeof buf, "%s", given) >= sizeof buf ? -ENAMETOOLONG : 0)
                   : default_path(buf, sizeof buf);
    if (rc) {
        snprintf(why, why_size, "cannot tell where to keep the queue: name a directory with --state DIR");
        return rc;
    }
    rc = make_path(buf);
    *path = rc ? NULL : realpath(buf, NULL);
    if (rc == 0 && (!*path || stat(*path, &st) < 0))
        rc = -errno;
    if (rc == 0 && !S_ISDIR(st.st_mode))
        rc = -ENOTDIR;
    if (rc == 0 && access(*path, R_OK | W_OK | X_OK) < 0)
        rc = -errno;
    if (rc) {
        snprintf(why, why_size, "cannot use %s as state directory: %s (give another one with --state DIR)", buf,
                 strerror(-rc));
        free(*path);
        *path = NULL;
    }
    return rc;
}

/* A zombie that nobody has waited for yet does not. */
static bool lives(pid_t pid) {
    struct pollfd p = {.fd = pidfd_open(pid, 0), .events = POLLIN};
    bool ended = p.fd < 0 || poll(&p, 1, 0) > 0;
    if (p.fd >= 0)
        close(p.fd);
    return !ended;
}

int state_lock(const char *dir, char *why, size_t why_size) {
    char path[PATH_MAX], pid[32] = "";
    if ((size_t)snprintf(path, sizeof path, "%s/lock", dir) >= sizeof path)
        return -ENAMETOOLONG;
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) {
        int rc = -errno;
        snprintf(why, why_size, "cannot open %s: %s", path, strerror(-rc));
        return rc;
    }
    for (int waited = 0;; waited += LOCK_STEP_MS) {
        if (flock(fd, LOCK_EX | LOCK_NB) == 0)
            return fd;
        ssize_t n = pread(fd, pid, sizeof pid - 1, 0);
        pid[n > 0 ? strspn(pid, "0123456789") : 0] = '\0';
        if (waited >= LOCK_WAIT_MS || !pid[0] || lives(atoi(pid)))
            break;
        /* Its keeper was killed; what was killed with it may still be waiting for a disk. */
        nanosleep(&(struct timespec){.tv_nsec = LOCK_STEP_MS * 1000000L}, NULL);
    }
    snprintf(why, why_size, "%s is in use by ppfs (pid %s): unmount that one first, or give another --state DIR", dir,
             pid[0] ? pid : "unknown");
    close(fd);
    return -EBUSY;
}

void state_lock_sign(int lock) {
    char pid[32];
    int n = snprintf(pid, sizeof pid, "%d\n", (int)getpid());
    if (ftruncate(lock, 0) < 0 || pwrite(lock, pid, (size_t)n, 0) < 0)
        return; /* the message names no pid then; the lock holds all the same */
}
