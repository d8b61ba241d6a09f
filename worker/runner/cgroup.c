/* Nothing but the files that each cgroup has is used, no controller: those are there wherever a cgroup can be made, and
 * a cgroup with processes of its own may still have others in it.
 *
 *   where we are/          fork server, guards
 *     ppfs-NS-PID/         the fork server's: its pid namespace and its number there
 *       w-SERIAL/          a worker and what its jobs start */
#include "worker/runner/cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "net/io.h"

enum { PATH = 512, FILE_PATH = PATH + 32, CLEAR_MS = 1000, SWEEP_MS = 10000, SWEEP_STEP_MS = 10, PASSES = 64 };

#define WORKER "w-"

static char here[PATH], top[PATH]; /* empty: none can be made */
static char ours[32];   /* prefix of our fork servers' names: pids of other namespaces have no meaning here */
static char mine[PATH]; /* of a worker ... */
static pid_t me;        /* ... which this is */

/* --- where we are ------------------------------------------------------------------------------------------------ */
static bool find_here(char dir[PATH]) {
    char line[1024], where[PATH] = "", root[PATH], at[PATH];
    bool found = false;

    FILE *f = fopen("/proc/self/cgroup", "re");
    while (f && fgets(line, sizeof(line), f))
        if (strncmp(line, "0::/", 4) == 0 && strlen(line) < sizeof(where))
            strcpy(where, line + 3);
    if (f)
        fclose(f);
    where[strcspn(where, "\n")] = 0;
    f = *where ? fopen("/proc/self/mountinfo", "re") : NULL;
    while (f && !found && fgets(line, sizeof(line), f)) {
        if (!strstr(line, " - cgroup2 ") || sscanf(line, "%*s %*s %*s %511s %511s", root, at) != 2)
            continue;
        size_t skip = strcmp(root, "/") == 0 ? 0 : strlen(root);
        found = strncmp(where, root, skip) == 0 &&
                snprintf(dir, PATH, "%s%s", at, strcmp(where + skip, "/") == 0 ? "" : where + skip) < PATH;
    }
    if (f)
        fclose(f);
    return found;
}

static bool path_of(char path[PATH], const char *dir, const char *prefix, uint64_t number) {
    return *dir && snprintf(path, PATH, "%s/%s%llu", dir, prefix, (unsigned long long)number) < PATH;
}

static const char *file_of(char path[FILE_PATH], const char *dir, const char *name) {
    snprintf(path, FILE_PATH, "%s/%s", dir, name);
    return path;
}

static bool put(const char *dir, const char *name, const char *text) {
    char path[FILE_PATH];
    int fd = open(file_of(path, dir, name), O_WRONLY | O_CLOEXEC);
    bool done = fd >= 0 && write(fd, text, strlen(text)) > 0;

    if (fd >= 0)
        close(fd);
    return done;
}

static bool populated(const char *dir) {
    char path[FILE_PATH], text[128];

    io_read_text(file_of(path, dir, "cgroup.events"), text, sizeof(text));
    return strstr(text, "populated 1");
}

/* Calls what for each cgroup in dir whose name has the prefix. */
static void each_in(const char *dir, const char *prefix, void (*what)(const char *path, uint64_t number)) {
    DIR *d = *dir ? opendir(dir) : NULL;

    for (struct dirent *e; d && (e = readdir(d));) {
        char path[PATH], *end;
        if (strncmp(e->d_name, prefix, strlen(prefix)) != 0)
            continue;
        uint64_t number = strtoull(e->d_name + strlen(prefix), &end, 10);
        if (!*end && path_of(path, dir, prefix, number))
            what(path, number);
    }
    if (d)
        closedir(d);
}

/* --- killing ----------------------------------------------------------------------------------------------------- */
/* Before Linux 5.14: a frozen cgroup gets no new processes. */
static void kill_frozen(const char *dir) {
    put(dir, "cgroup.freeze", "1");
    for (int pass = 0; pass < PASSES && populated(dir); pass++) {
        char path[FILE_PATH];
        FILE *f = fopen(file_of(path, dir, "cgroup.procs"), "re");
        for (int pid; f && fscanf(f, "%d", &pid) == 1;)
            if (pid > 1)
                kill(pid, SIGKILL);
        if (f)
            fclose(f);
    }
    put(dir, "cgroup.freeze", "0");
}

static void kill_in(const char *dir, uint64_t number) {
    if (!put(dir, "cgroup.kill", "1") && populated(dir))
        kill_frozen(dir);
}

static void kill_and_remove(const char *dir, uint64_t number) {
    kill_in(dir, number);
    rmdir(dir);
}

static void remove_dead(const char *dir, uint64_t pid) {
    if (pid > INT_MAX || kill((pid_t)pid, 0) == 0 || errno != ESRCH)
        return;
    for (int ms = 0; ms < SWEEP_MS; ms += SWEEP_STEP_MS) {
        struct timespec pause = {.tv_nsec = SWEEP_STEP_MS * 1000000};
        each_in(dir, WORKER, kill_and_remove);
        if (rmdir(dir) == 0 || errno != EBUSY)
            return;
        nanosleep(&pause, NULL); /* they are still dying */
    }
}

void cgroup_sweep(void) {
    each_in(here, ours, remove_dead);
}

void cgroup_kill(uint64_t serial) {
    char dir[PATH];

    if (path_of(dir, top, WORKER, serial))
        kill_in(dir, serial);
}

void cgroup_kill_all(void) {
    each_in(top, WORKER, kill_in);
}

/* --- coming and going -------------------------------------------------------------------------------------------- */
static bool find_ours(void) {
    struct stat ns;

    if (stat("/proc/self/ns/pid", &ns) || !find_here(here)) {
        here[0] = 0;
        return false;
    }
    snprintf(ours, sizeof(ours), "ppfs-%llu-", (unsigned long long)ns.st_ino);
    return true;
}

void cgroup_start(void) {
    if (!find_ours())
        return;
    if (!path_of(top, here, ours, (uint64_t)getpid()) || mkdir(top, 0755))
        top[0] = 0;
}

void cgroup_remove(uint64_t serial) {
    char dir[PATH];

    if (path_of(dir, top, WORKER, serial))
        rmdir(dir);
}

void cgroup_end(void) {
    each_in(top, WORKER, kill_and_remove);
    if (*top)
        rmdir(top);
}

void cgroup_bury(pid_t pid) {
    char dir[PATH];

    if (find_ours() && path_of(dir, here, ours, (uint64_t)pid)) {
        each_in(dir, WORKER, kill_and_remove);
        rmdir(dir);
    }
}

/* Forks the child into that cgroup, because entering it later takes some 20 ms, until all processors have noticed.
 * glibc has no call for this, so its fork's other work is done here: the thread's number and its list of robust
 * mutexes. -1: not possible here. */
static pid_t fork_into(const char *dir) {
    void *tid = NULL, *mutexes;
    size_t size;
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    pid_t pid = -1;

    if (fd >= 0 && prctl(PR_GET_TID_ADDRESS, &tid) == 0 && tid &&
        syscall(SYS_get_robust_list, 0, &mutexes, &size) == 0) {
        struct clone_args how = {.flags = CLONE_INTO_CGROUP | CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID,
                                 .child_tid = (uintptr_t)tid,
                                 .exit_signal = SIGCHLD,
                                 .cgroup = (uint64_t)fd};
        pid = (pid_t)syscall(SYS_clone3, &how, sizeof(how));
        if (pid == 0)
            syscall(SYS_set_robust_list, mutexes, size);
    }
    if (fd >= 0)
        close(fd);
    return pid;
}

pid_t cgroup_fork(uint64_t serial) {
    bool made = path_of(mine, top, WORKER, serial) && mkdir(mine, 0755) == 0;
    pid_t pid = made ? fork_into(mine) : -1;
    bool inside = pid >= 0;

    if (!inside)
        pid = fork();
    if (pid == 0 && (inside || (made && put(mine, "cgroup.procs", "0"))))
        me = getpid();
    return pid;
}

void cgroup_clear(void) {
    struct timespec pause = {.tv_nsec = 1000000};

    if (!me || getpid() != me || !put(here, "cgroup.procs", "0"))
        return;
    for (int ms = 0; ms < CLEAR_MS && populated(mine); ms++) {
        kill_in(mine, 0);
        nanosleep(&pause, NULL);
    }
    put(mine, "cgroup.procs", "0");
}
