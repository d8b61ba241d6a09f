/* The pool's template process: starting it, hearing it, starting it again.
 *
 * It is given descriptors 0-2 and the control socket and nothing else. End of file on that socket means that it is
 * dead or dying; it is then killed and waited for, its workers die with it, and what they leave behind comes to us
 * as the nearest subreaper and is swept up: every child of this process but those it had before pool_create.
 *
 * After a template that died before HELLO the next start waits, longer each time; work that comes meanwhile waits for
 * it (pool_wait.c), and is refused with the reason when that start fails too. So a broken Python fails jobs slowly, not
 * a whole queue at once. A template that dies later is started again at once, unless that happens many times in a
 * row. */
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "net/clock.h"
#include "net/descriptors.h"
#include "worker/pool_parts.h"
#include "worker/reap.h"

enum {
    PAUSE_MIN_MS = 250, /* between starts that fail, doubled each time */
    PAUSE_MAX_MS = 30000,
    CALM_US = 1000000, /* a template that lived this long did not fail to start */
    QUICK_STARTS = 5,
    START_S = 60, /* for Python to come up */
    KILL_S = 20,  /* for a kill to be carried out; the template itself gives up waiting after 10 */
    SPAWN_S = 60, /* for the next of the workers that it was asked for */
    WATCH_S = 5,
    CLOSE_MS = 3000,
    SWEEP_MS = 5000,
    SWEEP_EVERY_US = 2000,
    SWEEP_QUIET = 3, /* rounds without a stranger after which there are none */
    GENERATIONS = 256,
};

void pool_trouble(struct pool *p, const char *format, ...) {
    char sentence[CONTROL_TEXT + 256];
    va_list args;

    va_start(args, format);
    vsnprintf(sentence, sizeof(sentence), format, args);
    va_end(args);
    if (p->ev.trouble)
        p->ev.trouble(p->arg, sentence);
}

/* In the child of vfork: system calls only. */
static void template_exec(const struct pool *p, int control, int null) {
    char *argv[] = {p->worker_path, p->program, p->root, NULL};
    sigset_t none;

    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (dup2(null, 0) < 0)
        _exit(127);
    if (dup2(2, 1) < 0) /* its stdout is nobody's result: stray prints go to the log, if there is one */
        if (dup2(null, 1) < 0 || dup2(null, 2) < 0)
            _exit(127);
    if (control == CONTROL_FD ? fcntl(control, F_SETFD, 0) : dup2(control, CONTROL_FD) < 0)
        _exit(127);
    close_range(CONTROL_FD + 1, ~0u, 0);
    descriptors_restore();
    execv(p->worker_path, argv);
    _exit(127);
}

static __attribute__((noinline)) pid_t template_fork(const struct pool *p, int control, int null) {
    pid_t pid = vfork();

    if (pid == 0)
        template_exec(p, control, null);
    return pid;
}

/* --- strangers --------------------------------------------------------------------------------------------------- */
static bool is_ours(void *arg, pid_t pid) {
    const struct pool *p = arg;

    if (pid == p->template)
        return true;
    for (size_t i = 0; i < p->other_count; i++)
        if (p->others[i] == pid)
            return true;
    return false;
}

static bool note_other(void *arg, pid_t pid) {
    struct pool *p = arg;
    pid_t *bigger = realloc(p->others, (p->other_count + 1) * sizeof(*bigger));

    if (bigger) {
        p->others = bigger;
        p->others[p->other_count++] = pid;
    }
    return true;
}

/* Waits for a stranger that the round before has killed; other children are left to whoever made them. */
static bool bury_or_know(void *arg, pid_t pid) {
    return is_ours(arg, pid) || waitpid(pid, NULL, WNOHANG) == pid;
}

/* One round; again soon, until a few in a row found nobody: what a dying process leaves may come a moment later. */
static void on_sweep(evutil_socket_t fd, short what, void *arg) {
    struct pool *p = arg;
    struct timeval soon = {.tv_usec = SWEEP_EVERY_US};

    (void)fd;
    (void)what;
    p->sweep_quiet = reap_round(bury_or_know, p) ? 0 : p->sweep_quiet + 1;
    if (p->sweep_quiet < SWEEP_QUIET && clock_us() < p->sweep_until_us)
        event_add(p->sweep, &soon);
}

/* --- who is below us ---------------------------------------------------------------------------------------------- */
uint64_t pool_job_of(struct pool *p, pid_t pid) {
    for (int generation = 0; pid > 1 && generation < GENERATIONS; generation++) {
        for (size_t i = 0; i < p->slot_count; i++)
            if (p->slots[i]->state == SLOT_BUSY && p->slots[i]->guard == pid)
                return p->slots[i]->job;
        pid = reap_parent(pid);
    }
    return 0;
}

/* --- its death --------------------------------------------------------------------------------------------------- */
/* Waits for a process that has been killed or has said that it leaves. */
static int bury_template(struct pool *p) {
    int status = 0;

    kill(p->template, SIGKILL);
    while (waitpid(p->template, &status, 0) < 0 && errno == EINTR)
        ;
    p->template = 0;
    return status;
}

static void schedule_retry(struct pool *p) {
    int64_t ms = PAUSE_MIN_MS;

    for (unsigned i = 1; i < p->failures && ms < PAUSE_MAX_MS; i++)
        ms *= 2;
    if (ms > PAUSE_MAX_MS)
        ms = PAUSE_MAX_MS;
    struct timeval pause = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
    event_add(p->retry, &pause);
}

static void forget_control(struct pool *p) {
    if (p->control_event)
        event_free(p->control_event);
    if (p->writable)
        event_free(p->writable);
    p->control_event = p->writable = NULL;
    if (p->control >= 0)
        close(p->control);
    p->control = -1;
    p->kill_count = 0; /* they die with it */
    p->asked = 0;
}

static void template_gone(struct pool *p) {
    char words[128];
    bool was_up = p->up;

    forget_control(p);
    p->up = false;
    pid_t pid = p->template;
    int status = bury_template(p);
    p->sweep_until_us = clock_us() + SWEEP_MS * INT64_C(1000);
    p->sweep_quiet = 0;
    on_sweep(-1, 0, p);
    reap_status_words(status, words, sizeof(words));
    if (was_up) {
        p->failures = clock_us() - p->template_started_us > CALM_US ? 0 : p->failures + 1;
        if (p->stuck[0])
            snprintf(p->trouble, sizeof(p->trouble), "the template of the workers (process %d) was killed, for it %s", (int)pid,
                     p->stuck);
        else
            snprintf(p->trouble, sizeof(p->trouble), "the template of the workers (process %d) died (%s)", (int)pid, words);
        pool_trouble(p, "%s; it is started again", p->trouble);
    } else {
        p->failures++;
        if (!p->trouble[0])
            snprintf(p->trouble, sizeof(p->trouble), "the workers' Python %s does not start (%s)", p->program, words);
        pool_trouble(p, "%s", p->trouble);
    }
    if (!was_up || p->failures > QUICK_STARTS)
        schedule_retry(p);
    pool_on_template_gone(p, !was_up && !WIFSIGNALED(status));
    if (!was_up && !WIFSIGNALED(status) && p->ev.unable)
        p->ev.unable(p->arg);
    template_usable(p);
    if (p->waiting_count)
        wait_soon(p);
}

/* When the oldest kill was that has not come to its end; 0: none. */
static int64_t oldest_kill(const struct pool *p) {
    int64_t oldest = 0;

    for (size_t i = 0; i < p->slot_count; i++) {
        const struct slot *s = p->slots[i];
        if (s->state == SLOT_BUSY && s->killed && (!oldest || s->killed_us < oldest))
            oldest = s->killed_us;
    }
    return oldest;
}

static bool longer_than(int64_t since_us, int seconds) {
    return since_us && clock_us() - since_us >= seconds * INT64_C(1000000);
}

/* A template that does not come up, or does not do what it is told, is stuck (a job of our user can stop it): it goes. How
 * many orders it is behind says nothing, only for how long. */
static void on_watch(evutil_socket_t fd, short what, void *arg) {
    struct pool *p = arg;
    int64_t kill_us = oldest_kill(p);
    struct timeval again = {.tv_sec = WATCH_S};

    (void)fd;
    (void)what;
    if (!p->template)
        return;
    if (!p->up && longer_than(p->template_started_us, START_S))
        snprintf(p->trouble, sizeof(p->trouble), "the workers' Python %s did not start within %d seconds", p->program,
                 START_S);
    else if (p->up && longer_than(kill_us, KILL_S))
        snprintf(p->stuck, sizeof(p->stuck), "did not kill a worker within %d seconds", KILL_S);
    else if (p->up && p->asked && longer_than(p->heard_us, SPAWN_S))
        snprintf(p->stuck, sizeof(p->stuck), "made no worker within %d seconds", SPAWN_S);
    else if (p->up && p->kill_count && longer_than(p->heard_us, KILL_S))
        snprintf(p->stuck, sizeof(p->stuck), "took no orders for %d seconds", KILL_S);
    else {
        if (!p->up || kill_us || p->asked || p->kill_count)
            event_add(p->watch, &again);
        return;
    }
    kill(p->template, SIGKILL);
}

static void on_retry(evutil_socket_t fd, short what, void *arg) {
    (void)fd;
    (void)what;
    if (template_usable(arg))
        wait_over(arg);
}

/* --- its words --------------------------------------------------------------------------------------------------- */
static void hear(struct pool *p, struct control *c) {
    c->text[sizeof(c->text) - 1] = 0;
    p->heard_us = clock_us();
    switch (c->kind) {
    case CONTROL_HELLO:
        p->up = true;
        p->trouble[0] = 0;
        if (strncmp(p->version, c->text, sizeof(p->version) - 1) != 0) {
            snprintf(p->version, sizeof(p->version), "%.31s", c->text);
            if (p->ev.python)
                p->ev.python(p->arg);
        }
        break;
    case CONTROL_SPAWNED:
        pool_on_spawned(p, c->serial, c->value);
        break;
    case CONTROL_EXITED:
        pool_on_exited(p, c);
        break;
    case CONTROL_FAILED:
        snprintf(p->trouble, sizeof(p->trouble), "%s", c->text);
        break;
    default:
        pool_trouble(p, "the template of the workers said something unknown (%u)", (unsigned)c->kind);
    }
}

static void on_control(evutil_socket_t fd, short what, void *arg) {
    struct pool *p = arg;
    struct control c;

    (void)what;
    for (int turn = 0; turn < 64; turn++) {
        ssize_t n = recv(fd, &c, sizeof(c), MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n != sizeof(c)) {
            template_gone(p);
            return;
        }
        hear(p, &c);
    }
}

/* --- its start ------------------------------------------------------------------------------------------------------ */
void template_watch(struct pool *p) {
    struct timeval then = {.tv_sec = WATCH_S};

    if (!event_pending(p->watch, EV_TIMEOUT, NULL))
        event_add(p->watch, &then);
}

static int start(struct pool *p) {
    int ends[2], err = 0;
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    if (null < 0)
        return -errno;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends)) {
        err = -errno;
        close(null);
        return err;
    }
    pid_t pid = template_fork(p, ends[1], null);
    if (pid < 0)
        err = -errno;
    close(ends[1]);
    close(null);
    if (err) {
        close(ends[0]);
        return err;
    }
    p->template = pid;
    p->control = ends[0];
    p->template_started_us = clock_us();
    p->stuck[0] = 0;
    template_watch(p);
    p->control_event = event_new(p->base, p->control, EV_READ | EV_PERSIST, on_control, p);
    p->writable = event_new(p->base, p->control, EV_WRITE, template_writable, p);
    if (!p->control_event || !p->writable || event_add(p->control_event, NULL)) {
        forget_control(p);
        bury_template(p);
        return -ENOMEM;
    }
    return 0;
}

/* A name in $TMPDIR or /tmp that is ours from now on: as long as we live we lock it, and the template of another pool removes what
 * nobody locks. That may be quicker than we are here. */
static int choose_root(struct pool *p) {
    const char *dir = getenv("TMPDIR");
    struct stat st;

    for (;;) {
        free(p->root);
        if (asprintf(&p->root, "%s/ppfs-jobs-XXXXXX", dir && dir[0] == '/' && strlen(dir) < 1024 ? dir : "/tmp") < 0) {
            p->root = NULL;
            return -ENOMEM;
        }
        if (!mkdtemp(p->root))
            return -errno;
        p->root_fd = open(p->root, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (p->root_fd < 0 && errno != ENOENT)
            return -errno;
        if (p->root_fd >= 0 && flock(p->root_fd, LOCK_EX | LOCK_NB) == 0 && fstat(p->root_fd, &st) == 0 && st.st_nlink)
            return fchmod(p->root_fd, 0711) == 0 ? 0 : -errno; /* other users' jobs pass through it */
        if (p->root_fd >= 0)
            close(p->root_fd);
        p->root_fd = -1;
    }
}

int template_open(struct pool *p) {
    p->control = -1;
    p->retry = evtimer_new(p->base, on_retry, p);
    p->sweep = evtimer_new(p->base, on_sweep, p);
    p->watch = evtimer_new(p->base, on_watch, p);
    if (!p->watch || !p->retry || !p->sweep)
        return -ENOMEM;
    int err = choose_root(p);
    if (err)
        return err;
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    reap_round(note_other, p);
    return start(p);
}

bool template_usable(struct pool *p) {
    if (p->template)
        return true;
    if (event_pending(p->retry, EV_TIMEOUT, NULL))
        return false;
    int err = start(p);
    if (err) {
        p->failures++;
        snprintf(p->trouble, sizeof(p->trouble), "the template of the workers cannot be started: %s", strerror(-err));
        pool_trouble(p, "%s", p->trouble);
        schedule_retry(p);
    }
    return !err;
}

void template_close(struct pool *p) {
    struct timespec pause = {.tv_nsec = 1000000};
    int64_t until = clock_us() + CLOSE_MS * INT64_C(1000);

    forget_control(p); /* at which it kills everything and leaves */
    while (p->template && clock_us() < until && waitpid(p->template, NULL, WNOHANG) == 0)
        nanosleep(&pause, NULL);
    if (p->template)
        bury_template(p);
    while (clock_us() < until && reap_round(bury_or_know, p))
        nanosleep(&pause, NULL);
    if (p->retry)
        event_free(p->retry);
    if (p->sweep)
        event_free(p->sweep);
    if (p->watch)
        event_free(p->watch);
    if (p->root)
        rmdir(p->root); /* if the template had no time to */
    if (p->root_fd >= 0)
        close(p->root_fd);
    free(p->others);
    free(p->kills);
    free(p->root);
}
