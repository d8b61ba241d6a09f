#include "fs/keeper.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "fs/holders.h"
#include "fs/log.h"
#include "fs/mount.h"
#include "net/clock.h"

#define CRASHES_MAX 10    /* deaths of its own making, each within a second of its start: it will not live */
#define STOP_SECONDS 30   /* a clean stop may take so long */
#define STRANGERS_MS 1000 /* what the daemon left may take so long to die; more of it dies while the next one runs */

struct keeper {
    struct keeper_config *c;
    sigset_t signals;
    pid_t daemon;
    int64_t started_ms;
    int crashes;
    bool stopping, ready;
};

static void tell(struct keeper *k, const char *text) {
    if (k->c->tell >= 0 && write(k->c->tell, text, strlen(text)) < 0)
        log_line("%s", text); /* the command that asked is gone */
}

/* In the daemon. */
static void on_ready(void *arg) {
    struct keeper *k = arg;
    if (k->c->tell >= 0) {
        tell(k, "+");
        close(k->c->tell);
        k->c->tell = -1;
    }
}

static void on_failed(void *arg, const char *sentence) {
    struct keeper *k = arg;
    log_line("%s", sentence);
    tell(k, sentence);
}

static int start(struct keeper *k) {
    k->started_ms = clock_ms();
    k->daemon = fork();
    if (k->daemon < 0)
        return -errno;
    if (k->daemon > 0)
        return 0;
    sigprocmask(SIG_UNBLOCK, &k->signals, NULL);
    exit(daemon_run(&k->c->daemon));
}

/* Kills whatever came to us from the dead daemon: its template, workers, and what those had started. */
static void kill_strangers(void) {
    char path[64];
    int64_t until = clock_ms() + STRANGERS_MS;
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

/* The daemon has ended with this wait status: true when it shall be started again. */
static bool again(struct keeper *k, int status) {
    if (WIFEXITED(status) && WEXITSTATUS(status) == DAEMON_CLEAN)
        return false;
    if (WIFEXITED(status) && WEXITSTATUS(status) == DAEMON_NO_START && !k->ready)
        return false;
    if (k->stopping)
        return false;
    if (WIFSIGNALED(status))
        log_line("the daemon (pid %d) was killed by signal %d (SIG%s); starting it again", (int)k->daemon,
                 WTERMSIG(status), sigabbrev_np(WTERMSIG(status)) ? sigabbrev_np(WTERMSIG(status)) : "?");
    else
        log_line("the daemon (pid %d) ended with status %d; starting it again", (int)k->daemon, WEXITSTATUS(status));
    bool killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
    if (killed || clock_ms() - k->started_ms >= 1000)
        k->crashes = 0;
    else if (++k->crashes >= CRASHES_MAX) {
        log_line("the daemon died %d times in a row right after its start: unmounting", CRASHES_MAX);
        return false;
    }
    return true;
}

/* Waits for a signal and does what it says. 0 while the daemon lives or was started anew, else the end: exit status + 1. */
static int step(struct keeper *k) {
    int status, sig = k->stopping ? sigtimedwait(&k->signals, NULL, &(struct timespec){.tv_sec = STOP_SECONDS})
                                  : sigwaitinfo(&k->signals, NULL);
    if (sig < 0) {
        if (errno == EAGAIN) {
            log_line("the daemon did not stop within %d seconds: killing it", STOP_SECONDS);
            kill(k->daemon, SIGKILL);
        }
        return 0;
    }
    if (sig != SIGCHLD) {
        k->stopping = true;
        kill(k->daemon, SIGTERM);
        return 0;
    }
    for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
        if (pid != k->daemon)
            continue;
        size_t n;
        k->ready |= shared_init(k->c->daemon.shared, &n) != NULL;
        if (k->ready && k->c->tell >= 0) {
            close(k->c->tell);
            k->c->tell = -1;
        }
        kill_strangers();
        if (!again(k, status))
            return (WIFEXITED(status) && WEXITSTATUS(status) == DAEMON_CLEAN) || k->stopping ? 1 : 2;
        int rc = start(k);
        if (rc) {
            log_line("cannot start the daemon again: %s", strerror(-rc));
            return 2;
        }
    }
    return 0;
}

int keeper_run(struct keeper_config *c) {
    struct keeper k = {.c = c};
    struct fuse_session *session = c->daemon.fs->session;
    char why[1024];
    int ended = 0;
    sigemptyset(&k.signals);
    sigaddset(&k.signals, SIGTERM);
    sigaddset(&k.signals, SIGINT);
    sigaddset(&k.signals, SIGHUP);
    sigaddset(&k.signals, SIGCHLD);
    sigprocmask(SIG_BLOCK, &k.signals, NULL);
    signal(SIGPIPE, SIG_IGN);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    c->daemon.ready = on_ready;
    c->daemon.failed = on_failed;
    c->daemon.arg = &k;
    if (mount_start(session, c->daemon.mountpoint, why, sizeof why) != 0) {
        on_failed(&k, why);
        return 1;
    }
    int rc = start(&k);
    if (rc) {
        snprintf(why, sizeof why, "cannot start the daemon: %s", strerror(-rc));
        on_failed(&k, why);
        ended = 2;
    }
    while (!ended)
        ended = step(&k);
    if (k.stopping)
        holders_log(c->daemon.mountpoint);
    fuse_session_unmount(session);
    return ended - 1;
}

int keeper_wait_ready(int told, const char *state_dir) {
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
