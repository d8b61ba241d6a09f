/* A table of what a process has besides its memory: each row looks, and puts back what it noted. */
#include "worker/forkserver/order.h"

#include <fcntl.h>
#include <fenv.h>
#include <locale.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include "worker/runner/control.h"
#include "worker/forkserver/python.h"
#include "worker/forkserver/watch.h"

enum { NAME = 16, IOPRIO_WHO_PROCESS = 1 };

struct scheduling { /* the kernel's struct sched_attr, first version */
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period;
};

/* Signals that come to a process unasked. */
static const int watched_signals[] = {SIGHUP,  SIGINT,  SIGQUIT, SIGPIPE, SIGALRM,   SIGTERM,
                                      SIGUSR1, SIGUSR2, SIGCHLD, SIGXFSZ, SIGVTALRM, SIGPROF};
enum { WATCHED = sizeof(watched_signals) / sizeof(watched_signals[0]) };

struct limits {
    struct rlimit of[RLIM_NLIMITS];
};

static struct {
    struct scheduling scheduling;
    cpu_set_t cpus;
    int io_priority;
    char name[NAME];
    mode_t mask;
    struct limits limits;
    char *locale;
    int rounding;
    uid_t uids[3];
    gid_t gids[3];
    pid_t self, group;
    struct stat root, files[4]; /* of descriptors 0, 1, 2 and the link */
    int flags[3], link;
    void (*handlers[WATCHED])(int);
} was;

/* --- the rows ---------------------------------------------------------------------------------------------------- */
static struct scheduling scheduling_now(void) {
    struct scheduling s = {0};

    syscall(SYS_sched_getattr, 0, &s, sizeof(s), 0);
    return s;
}

static bool scheduling_same(void) {
    struct scheduling now = scheduling_now();
    return memcmp(&now, &was.scheduling, sizeof(now)) == 0;
}

static bool scheduling_back(void) {
    return syscall(SYS_sched_setattr, 0, &was.scheduling, 0) == 0;
}

static cpu_set_t cpus_now(void) {
    cpu_set_t s;

    CPU_ZERO(&s);
    sched_getaffinity(0, sizeof(s), &s);
    return s;
}

static bool cpus_same(void) {
    cpu_set_t now = cpus_now();
    return CPU_EQUAL(&now, &was.cpus);
}

static bool cpus_back(void) {
    return sched_setaffinity(0, sizeof(was.cpus), &was.cpus) == 0 && cpus_same();
}

static int io_priority_now(void) {
    return (int)syscall(SYS_ioprio_get, IOPRIO_WHO_PROCESS, 0);
}

static bool io_priority_same(void) {
    return io_priority_now() == was.io_priority;
}

static bool io_priority_back(void) {
    return syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, was.io_priority) == 0;
}

static bool name_same(void) {
    char now[NAME] = "";

    prctl(PR_GET_NAME, now);
    return memcmp(now, was.name, NAME) == 0;
}

static bool name_back(void) {
    return prctl(PR_SET_NAME, was.name) == 0;
}

static bool mask_same(void) { /* there is no asking for it */
    return umask(was.mask) == was.mask;
}

static struct limits limits_now(void) {
    struct limits l = {0};

    for (int i = 0; i < RLIM_NLIMITS; i++)
        getrlimit((__rlimit_resource_t)i, &l.of[i]);
    return l;
}

static bool limits_same(void) {
    struct limits now = limits_now();
    return memcmp(&now, &was.limits, sizeof(now)) == 0;
}

static bool limits_back(void) {
    bool fine = true;

    for (int i = 0; i < RLIM_NLIMITS; i++)
        fine = setrlimit((__rlimit_resource_t)i, &was.limits.of[i]) == 0 && fine;
    return fine || limits_same();
}

static bool timers_same(void) {
    static const int timers[] = {ITIMER_REAL, ITIMER_VIRTUAL, ITIMER_PROF};
    bool same = true;

    for (size_t i = 0; i < sizeof(timers) / sizeof(timers[0]); i++) {
        struct itimerval now;
        same = getitimer(timers[i], &now) == 0 && !now.it_value.tv_sec && !now.it_value.tv_usec && same;
    }
    return same;
}

static bool timers_back(void) {
    static const struct itimerval off;

    setitimer(ITIMER_REAL, &off, NULL);
    setitimer(ITIMER_VIRTUAL, &off, NULL);
    setitimer(ITIMER_PROF, &off, NULL);
    return true;
}

/* The watched signals whose handlers differ from python3's, ended by 0. How many. */
static size_t handlers_changed(int changed[WATCHED + 1]) {
    size_t count = 0;

    for (size_t i = 0; i < WATCHED; i++) {
        struct sigaction now;
        if (sigaction(watched_signals[i], NULL, &now) == 0 && now.sa_handler != was.handlers[i])
            changed[count++] = watched_signals[i];
    }
    changed[count] = 0;
    return count;
}

static bool handlers_same(void) {
    int changed[WATCHED + 1];
    return handlers_changed(changed) == 0;
}

static bool handlers_back(void) {
    int changed[WATCHED + 1];

    handlers_changed(changed);
    python_restore_signals(changed);
    return handlers_same();
}

static bool blocked_same(void) {
    sigset_t now;
    return sigprocmask(SIG_BLOCK, NULL, &now) == 0 && sigisemptyset(&now);
}

/* Signals that came meanwhile were for the call. */
static bool blocked_back(void) {
    sigset_t none, waiting;

    if (sigpending(&waiting))
        sigemptyset(&waiting);
    for (size_t i = 0; i < WATCHED; i++)
        if (sigismember(&waiting, watched_signals[i]) == 1) {
            struct sigaction now, ignore = {.sa_handler = SIG_IGN};
            sigaction(watched_signals[i], &ignore, &now);
            sigaction(watched_signals[i], &now, NULL);
        }
    sigemptyset(&none);
    return sigprocmask(SIG_SETMASK, &none, NULL) == 0;
}

static bool locale_same(void) {
    const char *now = setlocale(LC_ALL, NULL);
    return was.locale && now && strcmp(now, was.locale) == 0;
}

static bool locale_back(void) {
    return was.locale && setlocale(LC_ALL, was.locale);
}

bool order_rounding_same(void) {
    return fegetround() == was.rounding;
}

static bool rounding_back(void) {
    return fesetround(was.rounding) == 0;
}

static bool user_same(void) {
    uid_t u[3] = {0};
    gid_t g[3] = {0};

    return getresuid(&u[0], &u[1], &u[2]) == 0 && getresgid(&g[0], &g[1], &g[2]) == 0 &&
           memcmp(u, was.uids, sizeof(u)) == 0 && memcmp(g, was.gids, sizeof(g)) == 0;
}

static bool group_same(void) {
    return getpgrp() == was.group && getpid() == was.self;
}

static bool same_file(const struct stat *a, const struct stat *b) {
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

static bool root_same(void) {
    struct stat now;
    return stat("/", &now) == 0 && same_file(&now, &was.root);
}

static bool files_same(void) {
    struct stat now;

    for (int fd = 0; fd < 3; fd++)
        if (fstat(fd, &now) || !same_file(&now, &was.files[fd]))
            return false;
    return true;
}

/* A call that leaves files open leaves the next one fewer: half of what there is must be free. */
static bool descriptors_same(void) {
    int free = dup(0);

    if (free >= 0)
        close(free);
    return free >= 0 && (rlim_t)free < was.limits.of[RLIMIT_NOFILE].rlim_cur / 2;
}

static const struct {
    bool (*same)(void);
    bool (*back)(void); /* NULL: nobody can; the worker leaves */
} rows[] = {
    {scheduling_same, scheduling_back},
    {cpus_same, cpus_back},
    {io_priority_same, io_priority_back},
    {name_same, name_back},
    {mask_same, mask_same},
    {limits_same, limits_back},
    {timers_same, timers_back},
    {handlers_same, handlers_back},
    {blocked_same, blocked_back},
    {locale_same, locale_back},
    {order_rounding_same, rounding_back},
    {user_same, NULL},
    {group_same, NULL},
    {root_same, NULL},
    {files_same, NULL},
    {descriptors_same, NULL},
};

/* --- all of them ------------------------------------------------------------------------------------------------- */
void order_note(int link) {
    was.link = watch.link = link;
    was.scheduling = scheduling_now();
    was.cpus = cpus_now();
    was.io_priority = io_priority_now();
    prctl(PR_GET_NAME, was.name);
    was.mask = umask(022);
    umask(was.mask);
    was.limits = limits_now();
    free(was.locale);
    const char *locale = setlocale(LC_ALL, NULL);
    was.locale = locale ? strdup(locale) : NULL;
    was.rounding = fegetround();
    getresuid(&was.uids[0], &was.uids[1], &was.uids[2]);
    getresgid(&was.gids[0], &was.gids[1], &was.gids[2]);
    was.self = getpid();
    was.group = getpgrp();
    stat("/", &was.root);
    for (int fd = 0; fd < 3; fd++) {
        was.flags[fd] = fcntl(fd, F_GETFL);
        fstat(fd, &was.files[fd]);
    }
    fstat(link, &was.files[3]);
    for (size_t i = 0; i < WATCHED; i++) {
        struct sigaction now;
        was.handlers[i] = sigaction(watched_signals[i], NULL, &now) == 0 ? now.sa_handler : SIG_DFL;
    }
    watch.touched = watch.beyond = false;
}

bool order_same(void) {
    bool same = true, touched = watch.touched;

    for (size_t i = 0; same && i < sizeof(rows) / sizeof(rows[0]); i++)
        same = rows[i].same();
    watch.foreign = false;
    watch.touched = touched; /* a look is no change, though it uses the same functions */
    return same;
}

bool order_restore(void) {
    struct stat link;
    bool fine = !watch.beyond;

    if (fstat(was.link, &link) || !same_file(&link, &was.files[3]))
        _exit(WORKER_EXIT_CUT);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (!rows[i].same() && !(rows[i].back && rows[i].back()))
            fine = false;
    order_descriptors();
    watch.touched = false;
    return fine;
}

void order_descriptors(void) {
    for (int fd = 1; fd <= 2; fd++)
        fcntl(fd, F_SETFL, was.flags[fd]);
    fcntl(was.link, F_SETFL, O_RDWR);
}
