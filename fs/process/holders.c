#include "fs/process/holders.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "fs/log.h"
#include "net/io.h"
#include "net/clock.h"

#define HOLDERS_MAX 20 /* lines */
#define SEARCH_MS 2000 /* limit of the search */

/* Whether the link in /proc points into the mount. */
static bool leads_in(const char *link, const char *mountpoint, char target[PATH_MAX]) {
    size_t n = strlen(mountpoint);
    ssize_t got = readlink(link, target, PATH_MAX - 1);
    target[got > 0 ? got : 0] = '\0';
    return strncmp(target, mountpoint, n) == 0 && (target[n] == '/' || target[n] == '\0');
}

static bool holds(int pid, const char *mountpoint, char target[PATH_MAX]) {
    static const char *const places[] = {"cwd", "root", "exe"};
    char path[64 + NAME_MAX];
    bool found = false;
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        snprintf(path, sizeof path, "/proc/%d/%s", pid, places[i]);
        if (leads_in(path, mountpoint, target))
            return true;
    }
    snprintf(path, sizeof path, "/proc/%d/fd", pid);
    DIR *fds = opendir(path);
    for (struct dirent *e; fds && !found && (e = readdir(fds));) {
        snprintf(path, sizeof path, "/proc/%d/fd/%s", pid, e->d_name);
        found = leads_in(path, mountpoint, target);
    }
    if (fds)
        closedir(fds);
    return found;
}

static void log_all(const char *mountpoint) {
    char target[PATH_MAX], path[64], name[32];
    int said = 0;
    DIR *proc = opendir("/proc");
    for (struct dirent *e; proc && said < HOLDERS_MAX && (e = readdir(proc));) {
        int pid = atoi(e->d_name);
        if (pid <= 0 || pid == getpid() || !holds(pid, mountpoint, target))
            continue;
        snprintf(path, sizeof path, "/proc/%d/comm", pid);
        if (io_read_text(path, name, sizeof name) <= 0)
            strcpy(name, "?");
        name[strcspn(name, "\n")] = '\0';
        log_line("unmounted while process %d (%s) still had %s", pid, name, target);
        said++;
    }
    if (proc)
        closedir(proc);
}

/* By a process of its own, which is ended when that takes too long: /proc says nothing of a process in the middle of
 * exec before the filesystems have answered on which that closes files, and ours is one of them. */
void holders_log(const char *mountpoint) {
    pid_t pid = fork();
    if (pid == 0) {
        log_all(mountpoint);
        _exit(0);
    }
    int64_t until = clock_ms() + SEARCH_MS;
    bool ended = pid < 0;
    while (!ended && clock_ms() < until) {
        ended = waitpid(pid, NULL, WNOHANG) != 0;
        if (!ended)
            nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    if (!ended) { /* else its number may be another process's by now */
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
    }
}
