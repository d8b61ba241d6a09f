/* ppfs-worker, the fork server: initialises CPython once, then forks workers on demand, each below a guard.
 *
 *   fork server --fork--> guard --fork--> worker --> what jobs start
 *
 * The guard is a process that only waits. It is the parent that a call finds with getppid(): killing it costs that
 * worker and nobody else. When the worker dies the guard, a subreaper, kills what the job leaves behind and dies the
 * same death, so that our wait status of the guard is the worker's. When the guard is killed (by us, for KILL), the
 * worker dies with it and we, a subreaper too, kill what comes to us: any child of ours that is not a guard. Only
 * when nothing of that is left do we say EXITED. When the pool's end of the control socket closes we kill everything
 * and leave. */
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "net/clock.h"
#include "net/descriptors.h"
#include "net/io.h"
#include "worker/runner/cgroup.h"
#include "worker/runner/control.h"
#include "worker/forkserver/fresh.h"
#include "worker/runner/reap.h"
#include "worker/forkserver/worker.h"

#define KEEP_BYTES (32 << 20) /* free memory that a worker keeps */

enum { TREE_MS = 10000, OOM_SCORE = 500, ROUND_MS = 2, STUBBORN_MS = 50 };

struct guard {
    uint64_t serial; /* 0: not a guard, but a process that clears up after one */
    pid_t pid;       /* 0: dead, EXITED not yet said */
    int status;
    int64_t died_ms;
    struct rusage usage;
};

static struct forkserver {
    int signals;
    uid_t uid; /* whose work our workers do */
    struct guard *guards;
    size_t count, cap;
    bool orphans;  /* a stranger was seen at the last look */
    uint64_t mine; /* guard: its worker */
} me;

static void tell(const struct control *c) {
    while (send(CONTROL_FD, c, sizeof(*c), MSG_NOSIGNAL) < 0 && errno == EINTR)
        ;
}

static _Noreturn void give_up(const char *why) {
    struct control c = {.kind = CONTROL_FAILED};

    snprintf(c.text, sizeof(c.text), "%s", why);
    tell(&c);
    exit(1);
}

/* --- the guard --------------------------------------------------------------------------------------------------- */
/* Dies as the worker died, but without a second core file. */
static _Noreturn void die_like(int status) {
    sigset_t all;

    if (WIFSIGNALED(status)) {
        prctl(PR_SET_DUMPABLE, 0);
        signal(WTERMSIG(status), SIG_DFL);
        sigfillset(&all);
        sigprocmask(SIG_UNBLOCK, &all, NULL);
        kill(getpid(), WTERMSIG(status));
    }
    _exit(WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status));
}

static void kill_mine(void) {
    cgroup_kill(me.mine);
}

static _Noreturn void guard_main(uint64_t serial, const int fds[SPAWN_FDS], pid_t forkserver) {
    struct rusage usage;
    sigset_t none;

    prctl(PR_SET_NAME, "ppfs-guard");
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != forkserver)
        _exit(0);
    close(CONTROL_FD);
    close(me.signals);
    setpgid(0, 0);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    pid_t self = getpid(), pid = cgroup_fork(serial);
    if (pid == 0) {
        python_forked();
        worker_main(serial, me.uid, fds, self);
    }
    if (pid < 0)
        _exit(WORKER_EXIT_NO_FORK);
    close_range(3, ~0u, 0);
    int status = reap_until(pid, &usage);
    me.mine = serial;
    reap_stubborn = kill_mine;
    reap_all(TREE_MS);
    die_like(status);
}

/* Makes room for one more in the table. False, errno being ENOMEM, when there is none. */
static bool room_for_guard(void) {
    if (me.count < me.cap)
        return true;
    size_t cap = me.cap ? 2 * me.cap : 16;
    struct guard *bigger = realloc(me.guards, cap * sizeof(*bigger));
    if (!bigger)
        return false;
    me.guards = bigger;
    me.cap = cap;
    return true;
}

/* --- orders of the pool ------------------------------------------------------------------------------------------ */
static void spawn(uint64_t serial, const int fds[SPAWN_FDS]) {
    struct control answer = {.kind = CONTROL_SPAWNED, .serial = serial};
    pid_t self = getpid(), pid = -1;

    if (room_for_guard()) {
        python_before_fork();
        pid = fork();
        if (pid == 0)
            guard_main(serial, fds, self);
        int saved = errno;
        python_after_fork();
        errno = saved;
    }
    answer.value = pid > 0 ? pid : -errno;
    if (pid > 0)
        me.guards[me.count++] = (struct guard){.serial = serial, .pid = pid};
    tell(&answer);
}

static void kill_worker(uint64_t serial) {
    for (size_t i = 0; i < me.count; i++)
        if (me.guards[i].serial == serial && me.guards[i].pid)
            kill(me.guards[i].pid, SIGKILL);
}

/* Obeys one message. False when the pool is gone. */
static bool obey(void) {
    struct control order = {0};
    int fds[SPAWN_FDS];
    ssize_t n = io_receive(CONTROL_FD, &order, sizeof(order), fds);

    if (n == -EAGAIN)
        return true;
    if (n == sizeof(order) && order.kind == CONTROL_SPAWN && fds[SPAWN_FDS - 1] >= 0)
        spawn(order.serial, fds);
    else if (n == sizeof(order) && order.kind == CONTROL_KILL)
        kill_worker(order.serial);
    else if (n > 0)
        fprintf(stderr, "ppfs-worker: an order of the pool was not understood\n");
    for (int i = 0; i < SPAWN_FDS && fds[i] >= 0; i++)
        close(fds[i]);
    return n > 0;
}

/* --- the dead ---------------------------------------------------------------------------------------------------- */
static bool is_guard(void *arg, pid_t pid) {
    for (size_t i = 0; i < me.count; i++)
        if (me.guards[i].pid == pid)
            return true;
    return false;
}

static void add_usage(struct rusage *to, const struct rusage *more) {
    timeradd(&to->ru_utime, &more->ru_utime, &to->ru_utime);
    timeradd(&to->ru_stime, &more->ru_stime, &to->ru_stime);
    if (to->ru_maxrss < more->ru_maxrss)
        to->ru_maxrss = more->ru_maxrss;
}

static void bury(pid_t pid, int status, const struct rusage *usage) {
    struct guard *last_dead = NULL; /* an orphan's usage is counted for a worker that just died */

    for (size_t i = 0; i < me.count; i++) {
        struct guard *g = &me.guards[i];
        if (g->pid == pid) {
            g->pid = 0;
            g->status = status;
            g->died_ms = clock_ms();
            add_usage(&g->usage, usage);
            me.orphans = true; /* perhaps: look */
            return;
        }
        if (!g->pid)
            last_dead = g;
    }
    if (last_dead)
        add_usage(&last_dead->usage, usage);
}

/* Runs what in a child, because it may take long; the child is waited for as guards are. */
static void do_beside(void (*what)(uint64_t), uint64_t serial) {
    if (!room_for_guard())
        return;
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        what(serial);
        _exit(0);
    }
    if (pid > 0)
        me.guards[me.count++] = (struct guard){.pid = pid};
}

static void sweep(uint64_t serial) {
    environment_sweep();
    cgroup_sweep();
}

/* A worker that was killed could not remove its job's directories. They may hold any number of files, so a process
 * of its own does that, while we go on. */
static void clear_up_after(uint64_t serial) {
    if (environment_left_by(serial))
        do_beside(environment_clear, serial);
}

static void say_exited(const struct guard *g) {
    struct control c = {.kind = CONTROL_EXITED, .serial = g->serial, .value = g->status};

    c.user_us = g->usage.ru_utime.tv_sec * INT64_C(1000000) + g->usage.ru_utime.tv_usec;
    c.system_us = g->usage.ru_stime.tv_sec * INT64_C(1000000) + g->usage.ru_stime.tv_usec;
    c.maxrss_kib = g->usage.ru_maxrss;
    tell(&c);
}

/* Reaps children, kills those that are no guards, and says EXITED for each worker of which nothing is left. */
static void reap_children(void) {
    struct rusage usage;
    int status;

    for (pid_t pid; (pid = wait4(-1, &status, WNOHANG, &usage)) > 0;)
        if (!reap_goes_on(pid, status))
            bury(pid, status, &usage);
    me.orphans = reap_round(is_guard, NULL) > 0;
    for (size_t i = 0; i < me.count;) {
        struct guard g = me.guards[i];
        if (g.pid || (me.orphans && clock_ms() - g.died_ms <= TREE_MS)) {
            if (!g.pid && g.serial && clock_ms() - g.died_ms > STUBBORN_MS)
                cgroup_kill(g.serial);
            i++;
            continue;
        }
        me.guards[i] = me.guards[--me.count];
        if (g.serial) {
            cgroup_remove(g.serial);
            say_exited(&g);
            clear_up_after(g.serial);
        }
    }
}

static void serve(void) {
    struct pollfd polled[2] = {{.fd = CONTROL_FD, .events = POLLIN}, {.fd = me.signals, .events = POLLIN}};

    for (;;) {
        int n = poll(polled, 2, me.orphans ? ROUND_MS : -1);
        if (n < 0)
            continue;
        if (polled[1].revents) {
            struct signalfd_siginfo info[8];
            if (read(me.signals, info, sizeof(info)) < 0)
                continue;
        }
        if (n == 0 || polled[1].revents)
            reap_children();
        if (polled[0].revents && !obey())
            return;
    }
}

/* --- start ------------------------------------------------------------------------------------------------------- */
/* Whatever the daemon ignored or blocked, jobs start with a clean table. */
static void reset_signals(void) {
    sigset_t children;

    for (int number = 1; number < NSIG; number++)
        signal(number, SIG_DFL);
    sigemptyset(&children);
    sigprocmask(SIG_SETMASK, &children, NULL);
    sigaddset(&children, SIGCHLD);
    sigprocmask(SIG_BLOCK, &children, NULL);
    me.signals = signalfd(-1, &children, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* The daemon has no umask, because its clients give the modes of its files; the files of jobs need one. */
static void restore_umask(void) {
    mode_t mask = umask(022);

    if (mask)
        umask(mask);
}

/* Memory that runs out should cost a job, never the daemon. */
static void offer_to_oom_killer(void) {
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

    if (fd >= 0) {
        dprintf(fd, "%d\n", OOM_SCORE);
        close(fd);
    }
}

static bool take_options(char **at) {
    for (; *at; at++)
        if (strcmp(*at, FORKSERVER_SUID) == 0)
            login_allow_suid();
        else if (strcmp(*at, FORKSERVER_GROUPS) == 0)
            login_check_groups();
        else
            return false;
    return true;
}

int main(int argc, char **argv) {
    struct control hello = {.kind = CONTROL_HELLO};
    char why[CONTROL_TEXT];
    int type;
    socklen_t len = sizeof(type);

    descriptors_standard();
    if (argc > 1 && strcmp(argv[1], FRESH_WORD) == 0)
        job_process_fresh(argc, argv);
    if (argc < 4 || !take_options(argv + 4) || getsockopt(CONTROL_FD, SOL_SOCKET, SO_TYPE, &type, &len) ||
        type != SOCK_SEQPACKET) {
        fprintf(stderr, "ppfs-worker: ppfs starts this program by itself; run ppfs instead\n");
        return 2;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* only while Python starts and nobody watches the control socket */
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    fcntl(CONTROL_FD, F_SETFD, FD_CLOEXEC);
    setsid();
    reset_signals();
    offer_to_oom_killer();
    restore_umask();
    unsetenv("OLDPWD"); /* both are of the shell that mounted; each job gets a PWD of its own */
    unsetenv("PWD");
    /* glibc sets these by itself after the first large array; set here, calls with arguments of a megabyte run twice as
     * fast from the start. */
    mallopt(M_MMAP_THRESHOLD, KEEP_BYTES);
    mallopt(M_TRIM_THRESHOLD, KEEP_BYTES);
    if (me.signals < 0 || chdir("/"))
        give_up("the fork server of the workers could not set itself up");
    me.uid = (uid_t)strtoul(argv[3], NULL, 10);
    environment_root(argv[2]);
    environment_threads();
    environment_clear_root(false); /* an earlier fork server may have left something */
    if (python_start(argv[1], why, sizeof(why)))
        give_up(why);
    cgroup_start();
    snprintf(hello.text, sizeof(hello.text), "%s", python_version());
    tell(&hello);
    prctl(PR_SET_PDEATHSIG, 0);
    prctl(PR_SET_NAME, "ppfs-forkserver");
    do_beside(sweep, 0);
    serve();
    for (size_t i = 0; i < me.count; i++)
        if (me.guards[i].pid)
            kill(me.guards[i].pid, SIGKILL);
    reap_stubborn = cgroup_kill_all;
    reap_all(TREE_MS / 10);
    cgroup_end();
    environment_clear_root(true);
    return 0;
}
