/* What a process has besides its memory, as one struct: noted once, looked at again, and put back by the rows of a
 * table where it differs. */
#include "worker/forkserver/order.h"

#include <fcntl.h>
#include <fenv.h>
#include <locale.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
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

struct file {
    dev_t dev;
    ino_t ino;
};

enum { LOCALE = 4096, STANDARD = 3 /* descriptors */, TIMERS = 3 };

static struct state { /* its bytes are compared */
    struct scheduling scheduling;
    cpu_set_t cpus;
    int io_priority;
    char name[NAME];
    mode_t mask;
    struct rlimit limits[RLIM_NLIMITS];
    bool timers[TIMERS]; /* they run */
    void (*handlers[WATCHED])(int);
    sigset_t blocked;
    char locale[LOCALE];
    int rounding;
    uid_t uids[3];
    gid_t gids[3];
    pid_t self, group;
    struct file root, files[STANDARD];
    bool crowded; /* a call that leaves files open leaves the next one fewer: half of what there is must be free */
} was, now;

static int link_fd, flags[STANDARD];
static struct file link_file;

static struct file file_of(const struct stat *st) {
    return (struct file){st->st_dev, st->st_ino};
}

/* The file of a descriptor; none if it is closed. */
static struct file file_at(int fd) {
    struct stat st;
    return fstat(fd, &st) == 0 ? file_of(&st) : (struct file){0};
}

static void look(struct state *s) {
    struct stat root;
    struct itimerval timer;
    struct sigaction action;

    memset(s, 0, sizeof(*s));
    syscall(SYS_sched_getattr, 0, &s->scheduling, sizeof(s->scheduling), 0);
    sched_getaffinity(0, sizeof(s->cpus), &s->cpus);
    s->io_priority = (int)syscall(SYS_ioprio_get, IOPRIO_WHO_PROCESS, 0);
    prctl(PR_GET_NAME, s->name);
    s->mask = umask(was.mask); /* there is no asking for it */
    for (int i = 0; i < RLIM_NLIMITS; i++)
        getrlimit((__rlimit_resource_t)i, &s->limits[i]);
    for (int i = 0; i < TIMERS; i++)
        s->timers[i] = getitimer((__itimer_which_t)i, &timer) || timer.it_value.tv_sec || timer.it_value.tv_usec;
    for (size_t i = 0; i < WATCHED; i++)
        s->handlers[i] = sigaction(watched_signals[i], NULL, &action) == 0 ? action.sa_handler : SIG_DFL;
    sigprocmask(SIG_BLOCK, NULL, &s->blocked);
    const char *locale = setlocale(LC_ALL, NULL);
    snprintf(s->locale, sizeof(s->locale), "%s", locale ? locale : "");
    s->rounding = fegetround();
    getresuid(&s->uids[0], &s->uids[1], &s->uids[2]);
    getresgid(&s->gids[0], &s->gids[1], &s->gids[2]);
    s->self = getpid();
    s->group = getpgrp();
    if (stat("/", &root) == 0)
        s->root = file_of(&root);
    for (int fd = 0; fd < STANDARD; fd++)
        s->files[fd] = file_at(fd);
    int free = dup(0);
    if (free >= 0)
        close(free);
    s->crowded = free < 0 || (rlim_t)free >= was.limits[RLIMIT_NOFILE].rlim_cur / 2;
}

/* --- the rows ---------------------------------------------------------------------------------------------------- */
static void scheduling_back(void) {
    syscall(SYS_sched_setattr, 0, &was.scheduling, 0);
}

static void cpus_back(void) {
    sched_setaffinity(0, sizeof(was.cpus), &was.cpus);
}

static void io_priority_back(void) {
    syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, was.io_priority);
}

static void name_back(void) {
    prctl(PR_SET_NAME, was.name);
}

static void limits_back(void) {
    for (int i = 0; i < RLIM_NLIMITS; i++)
        setrlimit((__rlimit_resource_t)i, &was.limits[i]);
}

static void timers_back(void) {
    static const struct itimerval off;

    for (int i = 0; i < TIMERS; i++)
        setitimer((__itimer_which_t)i, &off, NULL);
}

static void handlers_back(void) {
    int changed[WATCHED + 1] = {0};

    for (size_t i = 0, count = 0; i < WATCHED; i++)
        if (now.handlers[i] != was.handlers[i])
            changed[count++] = watched_signals[i];
    python_restore_signals(changed);
}

/* Signals that came meanwhile were for the call. */
static void blocked_back(void) {
    sigset_t waiting;

    if (sigpending(&waiting))
        sigemptyset(&waiting);
    for (size_t i = 0; i < WATCHED; i++)
        if (sigismember(&waiting, watched_signals[i]) == 1) {
            struct sigaction before, ignore = {.sa_handler = SIG_IGN};
            sigaction(watched_signals[i], &ignore, &before);
            sigaction(watched_signals[i], &before, NULL);
        }
    sigprocmask(SIG_SETMASK, &was.blocked, NULL);
}

static void locale_back(void) {
    setlocale(LC_ALL, was.locale);
}

static void rounding_back(void) {
    fesetround(was.rounding);
}

#define ROW(field, back)                                                                                               \
    { offsetof(struct state, field), sizeof(was.field), back }
static const struct {
    size_t at, size;
    void (*back)(void); /* NULL: nobody can; the worker leaves */
} rows[] = {
    ROW(scheduling, scheduling_back),
    ROW(cpus, cpus_back),
    ROW(io_priority, io_priority_back),
    ROW(name, name_back),
    ROW(mask, NULL), /* the look has put it back */
    ROW(limits, limits_back),
    ROW(timers, timers_back),
    ROW(handlers, handlers_back),
    ROW(blocked, blocked_back),
    ROW(locale, locale_back),
    ROW(rounding, rounding_back),
    ROW(uids, NULL),
    ROW(gids, NULL),
    ROW(self, NULL),
    ROW(group, NULL),
    ROW(root, NULL),
    ROW(files, NULL),
    ROW(crowded, NULL),
};

/* Looks whether all is as it was. put_back: and puts back what differs. */
static bool all_same(bool put_back) {
    bool same = true;

    look(&now);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (memcmp((char *)&now + rows[i].at, (char *)&was + rows[i].at, rows[i].size) != 0) {
            same = false;
            if (put_back && rows[i].back)
                rows[i].back();
        }
    return same;
}

/* --- all of them ------------------------------------------------------------------------------------------------- */
void order_note(int link) {
    link_fd = watch.link = link;
    link_file = file_at(link);
    was.mask = umask(022);
    look(&now); /* puts it back */
    now.mask = was.mask;
    was = now;
    was.crowded = false;
    for (int fd = 0; fd < STANDARD; fd++)
        flags[fd] = fcntl(fd, F_GETFL);
    watch.touched = watch.beyond = false;
}

bool order_rounding_same(void) {
    return fegetround() == was.rounding;
}

bool order_same(void) {
    bool touched = watch.touched, same = all_same(false);

    watch.foreign = false;
    watch.touched = touched; /* a look is no change, though it uses the same functions */
    return same;
}

bool order_restore(void) {
    struct file link = file_at(link_fd);

    if (memcmp(&link, &link_file, sizeof(link)) != 0)
        _exit(WORKER_EXIT_CUT);
    bool fine = (all_same(true) || all_same(false)) && !watch.beyond;
    order_descriptors();
    watch.touched = false;
    return fine;
}

void order_descriptors(void) {
    for (int fd = 1; fd <= 2; fd++)
        fcntl(fd, F_SETFL, flags[fd]);
    fcntl(link_fd, F_SETFL, O_RDWR);
}
