#include "fs/process/state.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include "fs/process/mount.h"
#include "net/trusted.h"

static int default_path(char *buf, size_t size) {
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    int n = -1;
    if (state && state[0] == '/')
        n = snprintf(buf, size, "%s/ppfs", state);
    else if (home && home[0] == '/')
        n = snprintf(buf, size, "%s/.local/state/ppfs", home);
    if (n < 0)
        return -ENOENT;
    return (size_t)n >= size ? -ENAMETOOLONG : 0;
}

int state_path(const char *given, char **path, char *why, size_t why_size) {
    char buf[PATH_MAX];
    int rc = 0;
    if (!given)
        rc = default_path(buf, sizeof buf);
    else if ((size_t)snprintf(buf, sizeof buf, "%s", given) >= sizeof buf)
        rc = -ENAMETOOLONG;
    if (rc) {
        snprintf(why, why_size, "cannot tell where to keep the queue: name a directory with --state DIR");
        return rc;
    }
    *path = strdup(buf);
    if (!*path)
        snprintf(why, why_size, "not enough memory");
    return *path ? 0 : -ENOMEM;
}

int state_open(const char *dir, char **path, char *why, size_t why_size) {
    char what[768] = "";
    int fd = trusted_directory(dir, true, what, sizeof what);
    int rc = fd < 0 ? fd : trusted_contents(fd, what, sizeof what);
    *path = rc ? NULL : realpath(dir, NULL);
    if (rc == 0 && (!*path || access(*path, R_OK | W_OK | X_OK) < 0)) {
        rc = -errno;
        snprintf(what, sizeof what, "%s", strerror(-rc));
    }
    if (rc == 0)
        return fd;
    snprintf(why, why_size, "cannot use %.300s as state directory: %s%s (give another one with --state DIR)", dir, what,
             rc == -EPERM || rc == -ELOOP ? ", but what it keeps there must be out of the reach of others" : "");
    free(*path);
    *path = NULL;
    if (fd >= 0)
        close(fd);
    return rc;
}

void state_remove(int directory, const char *path) {
    static const char *const files[] = {"ballast",     "id",          "join.key", "key",      "mounted", "ppfs.db",
                                        "ppfs.db-shm", "ppfs.db-wal", "ppfs.log", "ppfs.pid", "lock"};
    unlinkat(directory, "spool", AT_REMOVEDIR);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        unlinkat(directory, files[i], 0);
    rmdir(path); /* unless there is more in it */
}

/* A zombie does not. */
static bool lives(const char *pid) {
    char path[64], state = 'Z';
    snprintf(path, sizeof path, "/proc/%s/stat", pid);
    FILE *f = fopen(path, "re");
    if (f && fscanf(f, "%*d (%*[^)]) %c", &state) != 1)
        state = 'Z';
    if (f)
        fclose(f);
    return state != 'Z' && state != 'X';
}

/* Reads the single line of that file; "": there is none. */
static void read_line(int directory, const char *name, char *line, size_t size) {
    int fd = trusted_file(directory, name, O_RDONLY);
    ssize_t n = fd >= 0 ? read(fd, line, size - 1) : 0;
    if (fd >= 0)
        close(fd);
    line[n > 0 ? n : 0] = '\0';
    line[strcspn(line, "\n")] = '\0';
}

/* its supervisor was killed; its other processes may still wait for a disk */
#define DEAD_WAIT_MS 5000
/* it was unmounted; its supervisor kills the others by then */
#define LEAVING_WAIT_MS 35000
#define LOCK_STEP_MS 20

int state_lock(int directory, const char *path, char *why, size_t why_size) {
    char pid[32] = "", mounted[PATH_MAX] = "";
    bool there = false;
    int fd = trusted_file(directory, "lock", O_RDWR | O_CREAT);
    if (fd < 0) {
        snprintf(why, why_size, "cannot open %.512s/lock: %s", path, strerror(-fd));
        return fd;
    }
    for (int waited = 0;; waited += LOCK_STEP_MS) {
        if (flock(fd, LOCK_EX | LOCK_NB) == 0)
            return fd;
        ssize_t n = pread(fd, pid, sizeof pid - 1, 0);
        pid[n > 0 ? strspn(pid, "0123456789") : 0] = '\0';
        read_line(directory, "mounted", mounted, sizeof mounted);
        there = mounted[0] && mount_is_there(mounted);
        bool alive = pid[0] && lives(pid);
        if (!pid[0] || (alive && (there || !mounted[0])) || waited >= (alive ? LEAVING_WAIT_MS : DEAD_WAIT_MS))
            break;
        nanosleep(&(struct timespec){.tv_nsec = LOCK_STEP_MS * 1000000L}, NULL);
    }
    if (there || !mounted[0])
        snprintf(why, why_size,
                 "%s is in use by ppfs (pid %s)%s%.512s: unmount that one first, or give another --state DIR", path,
                 pid[0] ? pid : "unknown", there ? ", mounted on " : "", mounted);
    else
        snprintf(why, why_size,
                 "%s is still in use by ppfs (pid %s), which is mounted on %.512s no more but does not end: open files "
                 "there may hold "
                 "it; kill it, or give another --state DIR",
                 path, pid[0] ? pid : "unknown", mounted);
    close(fd);
    return -EBUSY;
}

void state_lock_sign(int lock, int directory, const char *mountpoint) {
    char pid[32];
    int fd = trusted_file(directory, "mounted", O_WRONLY | O_CREAT | O_TRUNC);
    if (fd >= 0) { /* without it a second ppfs is refused at once */
        dprintf(fd, "%s\n", mountpoint);
        close(fd);
    }
    int n = snprintf(pid, sizeof pid, "%d\n", (int)getpid());
    if (ftruncate(lock, 0) < 0 || pwrite(lock, pid, (size_t)n, 0) < 0)
        return; /* the message then names no pid; the lock is valid all the same */
}
