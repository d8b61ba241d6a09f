/* A process tree is dead when every child that we have, and every one that we come to have, is dead: with
 * PR_SET_CHILD_SUBREAPER set, whatever a job double-forks or detaches comes back to us when its parent dies. So we list
 * our children, kill, wait, and list again until there are none. Children belong to the thread that made them, hence
 * the walk over all threads.
 *
 * Processes that make others faster than they are listed survive that, one generation after the other. So the process
 * group of each is killed too, which the kernel does at once: no fork of a member gets away. What is in many groups is
 * left to reap_stubborn. */
#include "worker/runner/reap.h"

#include <assert.h>
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "net/clock.h"
#include "net/io.h"

enum { STUBBORN_US = 50000 };

void (*reap_stubborn)(void);

pid_t reap_parent(pid_t pid) {
    char path[64], text[512];

    /* the stat of the thread: for that of the process the kernel adds up all threads */
    snprintf(path, sizeof(path), "/proc/%d/task/%d/stat", (int)pid, (int)pid);
    io_read_text(path, text, sizeof(text));
    const char *after = strrchr(text, ')'); /* the name before it may hold anything */
    int parent = 0;
    if (!after || sscanf(after + 1, " %*c %d", &parent) != 1)
        return 0;
    return parent;
}

enum { SPARED = 4 };
static pid_t spared[SPARED]; /* 0: a free place */

void reap_spare(pid_t pid, bool spare) {
    for (int i = 0; i < SPARED; i++)
        if (spared[i] == (spare ? 0 : pid)) {
            spared[i] = spare ? pid : 0;
            return;
        }
}

static bool is_spared(pid_t pid) {
    for (int i = 0; i < SPARED; i++)
        if (spared[i] == pid)
            return true;
    return false;
}

struct round {
    bool (*known)(void *, pid_t);
    void *arg;
    unsigned signalled;
    pid_t group; /* looked at last */
};

/* Kills the process group of a stranger, but for one whose leader lives as somebody else's child: of a job that runs,
 * and the stranger has only joined it. */
static void round_kill_group(struct round *r, pid_t pid) {
    pid_t group = getpgid(pid), self = getpid();

    if (group <= 1 || group == r->group)
        return;
    r->group = group;
    if (group == getpgrp()) { /* what a call left is in ours: we step out of it meanwhile */
        if (group == self && setpgid(0, getpgid(getppid())) == 0) {
            kill(-group, SIGKILL);
            setpgid(0, 0);
        }
        return;
    }
    if (r->known && r->known(r->arg, group))
        return;
    pid_t parent = reap_parent(group);
    if (parent == 0 || parent == self)
        kill(-group, SIGKILL);
}

static void round_kill(struct round *r, pid_t pid) {
    if (is_spared(pid) || (r->known && r->known(r->arg, pid)))
        return;
    round_kill_group(r, pid);
    if (kill(pid, SIGKILL) == 0)
        r->signalled++;
}

/* One thread's children. False when this kernel does not list them. */
static bool round_thread(struct round *r, const char *tid) {
    char path[64];

    snprintf(path, sizeof(path), "/proc/self/task/%.20s/children", tid);
    FILE *f = fopen(path, "re");
    if (!f)
        return errno != ENOENT;
    for (int pid; fscanf(f, "%d", &pid) == 1;)
        round_kill(r, pid);
    fclose(f);
    return true;
}

static void round_everything(struct round *r) {
    DIR *proc = opendir("/proc");
    pid_t self = getpid();

    if (!proc)
        return;
    for (struct dirent *e; (e = readdir(proc));) {
        pid_t pid = isdigit((unsigned char)e->d_name[0]) ? atoi(e->d_name) : 0;
        if (pid > 0 && reap_parent(pid) == self)
            round_kill(r, pid);
    }
    closedir(proc);
}

unsigned reap_round(bool (*known)(void *, pid_t), void *arg) {
    struct round r = {.known = known, .arg = arg};
    DIR *tasks = opendir("/proc/self/task");
    bool listed = false;

    for (struct dirent *e; tasks && (e = readdir(tasks));)
        if (isdigit((unsigned char)e->d_name[0]) && round_thread(&r, e->d_name))
            listed = true;
    if (tasks)
        closedir(tasks);
    if (!listed) /* a kernel without CONFIG_PROC_CHILDREN */
        round_everything(&r);
    return r.signalled;
}

bool reap_all(unsigned max_ms) {
    struct timespec pause = {.tv_nsec = 50 * 1000};
    int64_t start = clock_us(), stubborn = start + STUBBORN_US, now = start;

    for (; now - start < (int64_t)max_ms * 1000; now = clock_us()) {
        pid_t pid = waitpid(-1, NULL, WNOHANG);
        if (pid > 0 || (pid < 0 && errno == EINTR))
            continue;
        if (pid < 0)
            return true;
        if (!reap_round(NULL, NULL))
            break; /* what is left belongs to another user: a set-uid program that only its owner can kill */
        nanosleep(&pause, NULL);
        if (reap_stubborn && now >= stubborn) {
            reap_stubborn();
            stubborn = now + STUBBORN_US;
        }
        if (pause.tv_nsec < 4000000)
            pause.tv_nsec *= 2;
    }
    return waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD;
}

bool reap_goes_on(pid_t pid, int status) {
    if (!WIFSTOPPED(status))
        return false;
    int sig = WSTOPSIG(status);
    ptrace(PTRACE_DETACH, pid, NULL, (long)(sig == SIGTRAP ? 0 : sig)); /* SIGTRAP: it has called exec */
    return true;
}

int reap_until(pid_t pid, struct rusage *usage) {
    for (;;) {
        int status;
        struct rusage one;
        pid_t ended = wait4(-1, &status, 0, &one);
        if (ended > 0 && reap_goes_on(ended, status))
            continue;
        if (ended == pid) {
            *usage = one;
            return status;
        }
        assert(ended > 0 || errno == EINTR); /* pid is a child of ours and only we wait for it */
    }
}

const char *reap_status_words(int status, char *buf, size_t size) {
    if (WIFSIGNALED(status)) {
        const char *name = sigabbrev_np(WTERMSIG(status));
        if (name)
            snprintf(buf, size, "killed by SIG%s", name);
        else
            snprintf(buf, size, "killed by signal %d", WTERMSIG(status));
    } else {
        snprintf(buf, size, "exit status %d", WEXITSTATUS(status));
    }
    return buf;
}
