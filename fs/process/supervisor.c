#include "fs/process/supervisor.h"

#include <errno.h>
#include <limits.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "fs/process/holders.h"
#include "fs/log.h"
#include "fs/process/mount.h"
#include "fs/handles/shared.h"
#include "net/clock.h"
#include "net/io.h"
#include "net/privileges.h"

#define CRASHES_MAX 10  /* deaths within a second of the start, in a row: given up */
#define STOP_SECONDS 30 /* limit of a clean stop */
/* between two checks of the daemon; the limits below count checks, so only time in which the supervisor runs */
#define CHECK_S 2
#define QUIET_CHECKS 5  /* without a turn and without processor time: it is stopped or blocked */
#define BUSY_CHECKS 60  /* without a turn, but with processor time */
#define ORPHANS_MS 1000 /* limit for the death of the daemon's orphans; the others die while the next daemon runs */

struct supervisor {
    struct supervisor_config *c;
    sigset_t signals;
    pid_t daemon;
    int64_t started_ms;
    int crashes;
    bool stopping, ready;
    int stop_checks; /* since it began to stop */
    struct {
        uint64_t turns;    /* of its loop, at the last check with a new one */
        uint64_t cpu;      /* of its loop's thread, at the last check */
        int quiet, checks; /* checks since then: in a row without processor time; all */
        char why[64];      /* the reason why it was killed: it ... */
    } watch;
};

static void tell(struct supervisor *s, const char *text) {
    if (s->c->tell >= 0 && write(s->c->tell, text, strlen(text)) < 0)
        log_line("%s", text); /* the command that mounted is gone */
}

/* In the daemon. */
static void on_ready(void *arg) {
    struct supervisor *s = arg;
    if (s->c->tell >= 0) {
        tell(s, "+");
        close(s->c->tell);
        s->c->tell = -1;
    }
}

static void on_failed(void *arg, const char *sentence) {
    struct supervisor *s = arg;
    log_line("%s", sentence);
    tell(s, sentence);
}

/* killall signals the daemon as well, so only the supervisor turns the switch. */
static void on_trace(int signal) {
}

static int start(struct supervisor *s) {
    s->started_ms = clock_ms();
    memset(&s->watch, 0, sizeof s->watch);
    atomic_store(shared_turns(s->c->daemon.shared), TURNS_NONE);
    s->daemon = fork();
    if (s->daemon < 0)
        return -errno;
    if (s->daemon > 0)
        return 0;
    signal(SIGUSR2, on_trace);
    sigprocmask(SIG_UNBLOCK, &s->signals, NULL);
    exit(daemon_run(&s->c->daemon));
}

/* Kills the orphans of the dead daemon: its fork servers, workers and their processes. */
static void kill_orphans(void) {
    char path[64];
    int64_t until = clock_ms() + ORPHANS_MS;
    snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)getpid());
    for (;;) {
        int pid, alive = 0;
        while (waitpid(-1, NULL, WNOHANG) > 0)
            ;
        FILE *f = fopen(path, "re");
        if (!f)
            return;
        while (fscanf(f, "%d", &pid) == 1) {
            kill(pid, SIGKILL);
            alive++;
        }
        fclose(f);
        if (!alive || clock_ms() >= until)
            return;
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
}

/* The daemon has ended with this wait status. True: it is started again. */
static bool again(struct supervisor *s, int status) {
    if (WIFEXITED(status) && WEXITSTATUS(status) == DAEMON_CLEAN)
        return false;
    if (WIFEXITED(status) && WEXITSTATUS(status) == DAEMON_NO_START && !s->ready)
        return false;
    if (s->stopping)
        return false;
    if (s->watch.why[0])
        log_line("the daemon (pid %d) %s: killed; starting it again", (int)s->daemon, s->watch.why);
    else if (WIFSIGNALED(status))
        log_line("the daemon (pid %d) was killed by signal %d (SIG%s); starting it again", (int)s->daemon,
                 WTERMSIG(status), sigabbrev_np(WTERMSIG(status)) ? sigabbrev_np(WTERMSIG(status)) : "?");
    else
        log_line("the daemon (pid %d) ended with status %d; starting it again", (int)s->daemon, WEXITSTATUS(status));
    bool killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
    if (killed || clock_ms() - s->started_ms >= 1000)
        s->crashes = 0;
    else if (++s->crashes >= CRASHES_MAX) {
        log_line("the daemon died %d times in a row right after its start: unmounting", CRASHES_MAX);
        return false;
    }
    return true;
}

/* Reads the stat of a thread from /proc. False: the thread has gone. */
static bool thread_stat(pid_t pid, char *state, uint64_t *cpu) {
    char path[64], text[1024];
    unsigned long user = 0, system = 0;
    snprintf(path, sizeof path, "/proc/%d/task/%d/stat", (int)pid, (int)pid);
    io_read_text(path, text, sizeof text);
    const char *after = strrchr(text, ')'); /* its name may contain any character */
    bool ok =
        after && sscanf(after, ") %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", state, &user, &system) == 3;
    *cpu = user + system;
    return ok;
}

/* A daemon under a debugger may stand still. */
static bool is_traced(pid_t pid) {
    char path[64], line[256];
    int tracer = 0;
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    FILE *f = fopen(path, "re");
    while (f && fgets(line, sizeof line, f) && sscanf(line, "TracerPid: %d", &tracer) != 1)
        ;
    if (f)
        fclose(f);
    return tracer;
}

/* Kills a daemon that hangs, because the processes that wait for it cannot be killed, not even an ls of the directory
 * above the mount. The daemon's loop counts its turns in shared memory; an idle one turns every 2 seconds and is
 * checked as often. It is killed after QUIET_CHECKS in a row without a turn and without processor time (stopped,
 * deadlocked, a disk that does not answer), or after BUSY_CHECKS without a turn; never under a debugger, and during its
 * start only if it is stopped. Checks are counted, not seconds, so a supervisor that was stopped as well, or a machine
 * that slept, kills no daemon. */
static void check(struct supervisor *s) {
    uint64_t cpu, turns = atomic_load(shared_turns(s->c->daemon.shared));
    char state = '?';
    if (s->stopping || turns == TURNS_OVER) {
        if (++s->stop_checks != STOP_SECONDS / CHECK_S)
            return;
        log_line("the daemon did not stop within %d seconds: killing it", STOP_SECONDS);
        s->stopping = true;
        kill(s->daemon, SIGKILL);
        return;
    }
    if (!thread_stat(s->daemon, &state, &cpu))
        return;
    bool computed = cpu != s->watch.cpu;
    s->watch.cpu = cpu;
    /* A start takes as long as the database needs, unless the daemon is stopped. */
    if (turns != s->watch.turns || (turns == TURNS_NONE && state != 'T') || is_traced(s->daemon)) {
        s->watch.turns = turns;
        s->watch.quiet = s->watch.checks = 0;
        return;
    }
    s->watch.quiet = computed ? 0 : s->watch.quiet + 1;
    s->watch.checks++;
    if (s->watch.quiet < QUIET_CHECKS && s->watch.checks < BUSY_CHECKS)
        return;
    snprintf(s->watch.why, sizeof s->watch.why,
             state == 'T' ? "was stopped for %d seconds" : "did not turn its loop for %d seconds",
             s->watch.checks * CHECK_S);
    kill(s->daemon, SIGKILL);
}

/* Waits for a signal and handles it. 0 while a daemon runs; at the end the exit status + 1. */
static int step(struct supervisor *s) {
    int status, sig = sigtimedwait(&s->signals, NULL, &(struct timespec){.tv_sec = CHECK_S});
    if (sig < 0) {
        if (errno == EAGAIN)
            check(s);
        return 0;
    }
    if (sig == SIGUSR2) {
        atomic_bool *trace = shared_trace(s->c->daemon.shared);
        atomic_store(trace, !atomic_load(trace));
        log_line("transitions are traced%s", atomic_load(trace) ? "" : " no longer");
        return 0;
    }
    if (sig != SIGCHLD) {
        s->stopping = true;
        kill(s->daemon, SIGTERM);
        return 0;
    }
    for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
        if (pid != s->daemon)
            continue;
        size_t n;
        s->ready |= shared_init(s->c->daemon.shared, &n) != NULL;
        if (s->ready && s->c->tell >= 0) {
            close(s->c->tell);
            s->c->tell = -1;
        }
        kill_orphans();
        if (!again(s, status))
            return (WIFEXITED(status) && WEXITSTATUS(status) == DAEMON_CLEAN) || s->stopping ? 1 : 2;
        int rc = start(s);
        if (rc) {
            log_line("cannot start the daemon again: %s", strerror(-rc));
            return 2;
        }
    }
    return 0;
}

/* The daemon's capabilities (daemon.c), and two more: to unmount, and to find open files of the mount (holders.c). */
static void drop_privileges(void) {
    static const int needed[] = {
        CAP_KILL, CAP_SYS_PTRACE, CAP_SYS_RESOURCE, CAP_NET_BIND_SERVICE, CAP_DAC_READ_SEARCH, CAP_SYS_ADMIN};
    int rc = privileges_keep(needed, sizeof needed / sizeof *needed, NULL, 0);
    if (rc)
        log_line("the supervisor keeps all its capabilities: %s", strerror(-rc));
}

int supervisor_run(struct supervisor_config *c) {
    struct supervisor s = {.c = c};
    struct fuse_session *session = c->daemon.fs->session;
    char why[1024];
    int ended = 0;
    sigemptyset(&s.signals);
    sigaddset(&s.signals, SIGTERM);
    sigaddset(&s.signals, SIGINT);
    sigaddset(&s.signals, SIGHUP);
    sigaddset(&s.signals, SIGUSR2);
    sigaddset(&s.signals, SIGCHLD);
    sigprocmask(SIG_BLOCK, &s.signals, NULL);
    signal(SIGPIPE, SIG_IGN);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    c->daemon.ready = on_ready;
    c->daemon.failed = on_failed;
    c->daemon.arg = &s;
    if (mount_start(session, c->daemon.mountpoint, why, sizeof why) != 0) {
        on_failed(&s, why);
        return 1;
    }
    drop_privileges();
    int rc = start(&s);
    if (rc) {
        snprintf(why, sizeof why, "cannot start the daemon: %s", strerror(-rc));
        on_failed(&s, why);
        ended = 2;
    }
    while (!ended)
        ended = step(&s);
    if (s.stopping)
        holders_log(c->daemon.mountpoint);
    fuse_session_unmount(session);
    return ended - 1;
}

int supervisor_wait_ready(int told, const char *state_dir) {
    char text[1024];
    size_t n = 0;
    for (;;) {
        ssize_t more = read(told, text + n, sizeof text - 1 - n);
        if (more < 0 && errno == EINTR)
            continue;
        if (more <= 0)
            break;
        n += (size_t)more;
        if (text[0] == '+')
            return 0;
        if (n == sizeof text - 1)
            break;
    }
    text[n] = '\0';
    if (n)
        fprintf(stderr, "ppfs: %s\n", text);
    else
        fprintf(stderr, "ppfs: it died while it started; %s/ppfs.log may say why\n", state_dir);
    return 1;
}
