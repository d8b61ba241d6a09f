/* Starting programs. The child of vfork shares our memory until it executes, so it makes system calls only, and its
 * errors are in our variables when vfork returns. */
#include "worker/forkserver/program.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "net/io.h"
#include "worker/runner/reap.h"

struct launch {
    const struct program *prog;
    const struct job_environment *environment;
    char **candidates; /* paths to try in turn, one malloc'd block */
    char **env;
    /* The failed step, set by the child; volatile, because the compiler sees that the writing function never
     * returns. */
    const char *volatile step;
    volatile int err;
    const char *volatile interpreter; /* named by the file's #! line, in head; NULL: none */
    volatile bool interpreter_there;
    char head[256];
};

/* dir/name for each directory of PATH, or the one path given. NULL without memory. */
static char **candidates_of(const struct program *prog, char **env) {
    const char *path = "/usr/local/bin:/usr/bin:/bin", *name = prog->path ? prog->path : prog->argv[0];

    for (size_t i = 0; env[i]; i++)
        if (strncmp(env[i], "PATH=", 5) == 0)
            path = env[i] + 5;
    if (strchr(name, '/'))
        path = NULL;
    size_t count = 1, size = 0;
    for (const char *p = path; p && (p = strchr(p, ':')); p++)
        count++;
    size = (count + 1) * sizeof(char *) + (path ? strlen(path) : 0) + count * (strlen(name) + 3);
    char **list = malloc(size);
    if (!list)
        return NULL;
    char *at = (char *)(list + count + 1);
    for (size_t i = 0; i < count; i++) {
        size_t len = path ? strcspn(path, ":") : 0;
        list[i] = at;
        if (!path)
            at += sprintf(at, "%s", name) + 1;
        else
            at += sprintf(at, "%.*s/%s", (int)(len ? len : 1), len ? path : ".", name) + 1;
        if (path)
            path += len + 1;
    }
    list[count] = NULL;
    return list;
}

/* In the child, which is the job's user by then: finds out why the file could not be executed. Opens regular files
 * only. */
static void inspect_program(struct launch *l, const char *path) {
    struct stat st;
    ssize_t n = -1;
    int fd =
        stat(path, &st) == 0 && S_ISREG(st.st_mode) ? open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY) : -1;

    if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
        n = read(fd, l->head, sizeof(l->head) - 1);
    if (fd >= 0)
        close(fd);
    if (n < 3 || memcmp(l->head, "#!", 2) != 0)
        return;
    l->head[n] = 0;
    char *start = l->head + 2 + strspn(l->head + 2, " \t");
    start[strcspn(start, " \t\r\n")] = 0;
    l->interpreter_there = access(start, F_OK) == 0;
    l->interpreter = *start ? start : NULL;
}

/* In the child. Never returns. */
static void launch_child(struct launch *l) {
    bool denied = false;

    if (l->prog->input >= 0 && dup2(l->prog->input, 0) < 0)
        l->step = "be given its input";
    else
        l->step = environment_enter(l->environment);
    if (!l->step) {
        close_range(3, ~0u, CLOSE_RANGE_CLOEXEC);
        for (size_t i = 0; i < l->prog->keep_count; i++)
            fcntl(l->prog->keep[i], F_SETFD, 0);
        for (char **path = l->candidates; *path; path++) {
            execve(*path, l->prog->argv, l->env);
            denied = denied || errno == EACCES;
            if (errno != ENOENT && errno != ENOTDIR && errno != EACCES)
                break;
        }
        if (denied && (errno == ENOENT || errno == ENOTDIR))
            errno = EACCES;
        l->err = errno;
        l->step = "";
        inspect_program(l, l->candidates[0]);
    } else {
        l->err = errno;
    }
    _exit(127);
}

static __attribute__((noinline)) pid_t launch_fork(struct launch *l) {
    pid_t pid = vfork();

    if (pid == 0)
        launch_child(l);
    return pid;
}

static void refuse(const struct launch *l, struct work_outcome *o) {
    const char *name = l->prog->path ? strrchr(l->prog->path, '/') + 1 : l->prog->argv[0];

    o->end = WORK_REFUSED;
    o->status = 0;
    if (l->step[0])
        snprintf(o->why, sizeof(o->why), "the job could not %s: %s", l->step, strerror(l->err));
    else if (l->interpreter && (l->err == ENOENT || l->err == EACCES))
        snprintf(o->why, sizeof(o->why), "its #! line names %s, which %s", l->interpreter,
                 l->interpreter_there ? "cannot be executed" : "does not exist here");
    else if (l->err == ENOENT)
        snprintf(o->why, sizeof(o->why),
                 strchr(name, '/') ? "there is no program %.300s" : "there is no program %.300s in PATH", name);
    else if (l->err == ENOEXEC)
        snprintf(o->why, sizeof(o->why), "%.300s is not a program for this machine, nor has it a #! line", name);
    else
        snprintf(o->why, sizeof(o->why), "%.300s could not be executed: %s", name, strerror(l->err));
}

void program_outcome(int status, const struct rusage *usage, struct work_outcome *o) {
    o->user_us = usage->ru_utime.tv_sec * INT64_C(1000000) + usage->ru_utime.tv_usec;
    o->system_us = usage->ru_stime.tv_sec * INT64_C(1000000) + usage->ru_stime.tv_usec;
    o->maxrss_kib = usage->ru_maxrss;
    o->why[0] = 0;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
        o->end = WORK_DONE;
        o->status = 0;
        return;
    }
    o->end = WIFSIGNALED(status) ? WORK_SIGNALED : WORK_EXITED;
    o->status = WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status);
    reap_status_words(status, o->why, sizeof(o->why));
}

void program_run(const struct program *prog, const struct job_environment *p, struct work_outcome *o) {
    struct launch l = {.prog = prog, .environment = p};
    struct rusage usage;

    l.env = environment_environ(p);
    l.candidates = l.env ? candidates_of(prog, l.env) : NULL;
    pid_t pid = l.candidates ? launch_fork(&l) : -1;
    if (pid < 0) {
        o->end = WORK_REFUSED;
        snprintf(o->why, sizeof(o->why), "no process could be made for the job: %s", strerror(errno));
    } else {
        int status = reap_until(pid, &usage);
        program_outcome(status, &usage, o);
        if (l.err)
            refuse(&l, o);
    }
    free(l.candidates);
    free(l.env);
}

int program_input(const void *bytes, size_t size) {
    int fd = memfd_create("ppfs-stdin", MFD_CLOEXEC);

    if (fd >= 0 && io_write(fd, bytes, size, IO_NEXT)) {
        int saved = errno;
        close(fd);
        errno = saved;
        return -1;
    }
    if (fd >= 0)
        lseek(fd, 0, SEEK_SET);
    return fd;
}
