/* A fork server process of the pool: starting it, hearing it, starting it again, ending it.
 *
 * It is given descriptors 0-2 and the control socket and nothing else; one for another user's work is given an
 * environment without anything of ours as well. As it is executed and not forked, it has addresses and secrets of its
 * own. End of file on that socket means that it is dead or dying; it is then killed and waited for, its workers die
 * with it, and what they leave behind comes to us as the nearest subreaper and is swept up.
 *
 * After a fork server that died before HELLO the next start waits, longer each time; work that comes meanwhile waits
 * for it (pool_wait.c), and is refused with the reason when that start fails too. So a broken Python fails jobs slowly,
 * not a whole queue at once. A fork server that dies later is started again at once, unless that happens many times in
 * a row; one of another user's when there is work for it. */
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "net/clock.h"
#include "net/descriptors.h"
#include "net/event.h"
#include "net/trusted.h"
#include "worker/runner/cgroup.h"
#include "worker/pool/pool_parts.h"
#include "worker/runner/reap.h"

enum {
    PAUSE_MIN_MS = 250, /* between starts that fail, doubled each time */
    PAUSE_MAX_MS = 30000,
    CALM_US = 1000000, /* a fork server that lived this long did not fail to start */
    QUICK_STARTS = 5,
    START_S = 60, /* for Python to come up */
    KILL_S = 20,  /* for a kill to be carried out; the fork server itself gives up waiting after 10 */
    SPAWN_S = 60, /* for the next of the workers that it was asked for */
    END_S = 20,   /* for leaving; it gives up waiting for its workers earlier */
    FDS = 5,      /* for its start: a socket, /dev/null, its directory, one to read */
    WORDS = 5,    /* of another user's environment */
};

/* For another user: only variables that workers pass on to jobs. HOME is nobody's, so that no code is found there. */
static void bare_environment(char *env[WORDS]) {
    static const char *const kept[] = {"LANG=", "PPFS="};
    size_t count = 0;

    env[count++] = (char *)"PATH=/usr/local/bin:/usr/bin:/bin";
    env[count++] = (char *)"HOME=/";
    for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++)
        for (char **at = environ; *at; at++)
            if (strncmp(*at, kept[i], strlen(kept[i])) == 0) {
                env[count++] = *at;
                break;
            }
    env[count] = NULL;
}

/* In the child of vfork: system calls only. */
static void forkserver_exec(char *const argv[], char *const env[], int control, int null) {
    sigset_t none;

    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (dup2(null, 0) < 0)
        _exit(127);
    if (dup2(2, 1) < 0) /* stray prints go to the log, if there is one */
        if (dup2(null, 1) < 0 || dup2(null, 2) < 0)
            _exit(127);
    if (control == CONTROL_FD ? fcntl(control, F_SETFD, 0) : dup2(control, CONTROL_FD) < 0)
        _exit(127);
    close_range(CONTROL_FD + 1, ~0u, 0);
    descriptors_restore();
    execve(argv[0], argv, env);
    _exit(127);
}

static __attribute__((noinline)) pid_t forkserver_fork(const struct forkserver *t, int control, int null) {
    char uid[16], *bare[WORDS];
    char *argv[7] = {t->pool->worker_path, t->pool->program, t->root, uid};
    size_t count = 4;

    snprintf(uid, sizeof(uid), "%u", (unsigned)t->uid);
    if (t->pool->suid_jobs)
        argv[count++] = (char *)FORKSERVER_SUID;
    if (t->pool->check_groups)
        argv[count++] = (char *)FORKSERVER_GROUPS;
    bare_environment(bare);
    pid_t pid = vfork();
    if (pid == 0)
        forkserver_exec(argv, t == t->pool->own ? environ : bare, control, null);
    return pid;
}

/* --- its death --------------------------------------------------------------------------------------------------- */
static int bury(struct forkserver *t) {
    int status = 0;

    kill(t->pid, SIGKILL);
    while (waitpid(t->pid, &status, 0) < 0 && errno == EINTR)
        ;
    cgroup_bury(t->pid);
    t->pid = 0;
    return status;
}

void forkserver_bury(struct forkserver *t) {
    if (t->pid)
        bury(t);
}

static void schedule_retry(struct forkserver *t) {
    event_add_ms(t->retry, event_pause_ms(t->failures ? t->failures - 1 : 0, PAUSE_MIN_MS, PAUSE_MAX_MS));
}

static void forget_control(struct forkserver *t) {
    event_drop(t->control_event);
    event_drop(t->writable);
    t->control_event = t->writable = NULL;
    if (t->control >= 0)
        close(t->control);
    t->control = -1;
    t->kill_count = 0; /* its workers die with it */
    t->asked = 0;
}

/* " of user 1000", or "" for our own. */
static const char *whose(const struct forkserver *t, char words[32]) {
    words[0] = 0;
    if (t != t->pool->own)
        snprintf(words, 32, " of user %u", (unsigned)t->uid);
    return words;
}

static void tell_death(struct forkserver *t, pid_t pid, int status) {
    bool again = t == t->pool->own || users_busy(t);
    char words[128], user[32];

    reap_status_words(status, words, sizeof(words));
    snprintf(t->trouble, sizeof(t->trouble), "the fork server of the workers%s (process %d) %s%s%s", whose(t, user),
             (int)pid, t->stuck[0] ? "was killed, for it " : "died (", t->stuck[0] ? t->stuck : words,
             t->stuck[0] ? "" : ")");
    pool_trouble(t->pool, again ? "%s; it is started again" : "%s", t->trouble);
}

static void forkserver_gone(struct forkserver *t) {
    struct pool *p = t->pool;
    bool was_up = t->up, refused;
    char words[128], user[32];

    forget_control(t);
    t->up = false;
    pid_t pid = t->pid;
    int status = bury(t);
    users_sweep(p);
    if (t->ending_us) {
        forkserver_free(t);
        return;
    }
    if (was_up) {
        t->failures = clock_us() - t->started_us > CALM_US ? 0 : t->failures + 1;
        tell_death(t, pid, status);
    } else {
        t->failures++;
        reap_status_words(status, words, sizeof(words));
        if (!t->trouble[0])
            snprintf(t->trouble, sizeof(t->trouble), "the workers' Python %s%s does not start (%s)", p->program,
                     whose(t, user), words);
        pool_trouble(p, "%s", t->trouble);
    }
    if (!was_up || t->failures > QUICK_STARTS)
        schedule_retry(t);
    refused = !was_up && !WIFSIGNALED(status);
    pool_on_forkserver_gone(t, refused);
    if (refused && t == p->own && p->ev.unable)
        p->ev.unable(p->arg);
    if (t == p->own || !TAILQ_EMPTY(&t->waiting))
        forkserver_usable(t);
    if (p->waiting_count)
        wait_soon(p);
}

/* The time of the oldest unfinished kill; 0: none. */
static int64_t oldest_kill(const struct forkserver *t) {
    const struct pool *p = t->pool;
    int64_t oldest = 0;

    for (size_t i = 0; i < p->slot_count; i++) {
        const struct slot *s = p->slots[i];
        if (s->state == SLOT_BUSY && s->forkserver == t && s->killed && (!oldest || s->killed_us < oldest))
            oldest = s->killed_us;
    }
    return oldest;
}

static bool longer_than(int64_t since_us, int seconds) {
    return since_us && clock_us() - since_us >= seconds * INT64_C(1000000);
}

/* A fork server that does not come up, or does not carry out orders, is killed: a job of our user can have stopped it.
 * The number of open orders says nothing, only their age. */
static void on_watch(evutil_socket_t fd, short what, void *arg) {
    struct forkserver *t = arg;
    int64_t kill_us = oldest_kill(t);

    if (!t->pid)
        return;
    if (!t->up && longer_than(t->started_us, START_S))
        snprintf(t->trouble, sizeof(t->trouble), "the workers' Python %s did not start within %d seconds",
                 t->pool->program, START_S);
    else if (t->up && longer_than(kill_us, KILL_S))
        snprintf(t->stuck, sizeof(t->stuck), "did not kill a worker within %d seconds", KILL_S);
    else if (t->up && t->asked && longer_than(t->heard_us, SPAWN_S))
        snprintf(t->stuck, sizeof(t->stuck), "made no worker within %d seconds", SPAWN_S);
    else if (t->up && t->kill_count && longer_than(t->heard_us, KILL_S))
        snprintf(t->stuck, sizeof(t->stuck), "took no orders for %d seconds", KILL_S);
    else if (!longer_than(t->ending_us, END_S)) {
        if (!t->up || kill_us || t->asked || t->kill_count || t->ending_us)
            forkserver_watch(t);
        return;
    }
    kill(t->pid, SIGKILL);
}

static void on_retry(evutil_socket_t fd, short what, void *arg) {
    if (forkserver_usable(arg))
        wait_soon(((struct forkserver *)arg)->pool);
}

/* --- its words --------------------------------------------------------------------------------------------------- */
static void hear(struct forkserver *t, struct control *c) {
    struct pool *p = t->pool;

    c->text[sizeof(c->text) - 1] = 0;
    t->heard_us = clock_us();
    switch (c->kind) {
    case CONTROL_HELLO:
        t->up = true;
        t->trouble[0] = 0;
        if (t == p->own && strncmp(p->version, c->text, sizeof(p->version) - 1) != 0) {
            snprintf(p->version, sizeof(p->version), "%.31s", c->text);
            if (p->ev.python)
                p->ev.python(p->arg);
        }
        break;
    case CONTROL_SPAWNED: pool_on_spawned(t, c->serial, c->value); break;
    case CONTROL_EXITED: pool_on_exited(t, c); break;
    case CONTROL_FAILED: snprintf(t->trouble, sizeof(t->trouble), "%s", c->text); break;
    default: pool_trouble(p, "the fork server of the workers said something unknown (%u)", (unsigned)c->kind);
    }
}

static void on_control(evutil_socket_t fd, short what, void *arg) {
    struct forkserver *t = arg;
    struct control c;

    for (int turn = 0; turn < 64; turn++) {
        ssize_t n = recv(fd, &c, sizeof(c), MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n != sizeof(c)) {
            forkserver_gone(t);
            return;
        }
        hear(t, &c);
    }
}

/* --- its start ---------------------------------------------------------------------------------------------------- */
int forkserver_start(struct forkserver *t) {
    struct event_base *base = t->pool->base;
    int ends[2], err = 0;

    if (t != t->pool->own && !descriptors_spare(FDS, DESCRIPTORS_FOR_FILES))
        return -EMFILE;
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0)
        return -errno;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends)) {
        err = -errno;
        close(null);
        return err;
    }
    pid_t pid = forkserver_fork(t, ends[1], null);
    if (pid < 0)
        err = -errno;
    close(ends[1]);
    close(null);
    if (err) {
        close(ends[0]);
        return err;
    }
    t->pid = t->last = pid;
    t->control = ends[0];
    t->started_us = clock_us();
    t->stuck[0] = 0;
    forkserver_watch(t);
    t->control_event = event_new(base, t->control, EV_READ | EV_PERSIST, on_control, t);
    t->writable = event_new(base, t->control, EV_WRITE, forkserver_writable, t);
    if (!t->control_event || !t->writable || event_add(t->control_event, NULL)) {
        forget_control(t);
        bury(t);
        return -ENOMEM;
    }
    return 0;
}

/* Makes a directory in $TMPDIR or /tmp, locked while we live: fork servers of other pools remove unlocked ones, perhaps
 * before we have locked this one. */
static int choose_root(struct forkserver *t) {
    struct stat st;

    for (;;) {
        free(t->root);
        if (asprintf(&t->root, "%s/ppfs-jobs-XXXXXX", trusted_temporary()) < 0) {
            t->root = NULL;
            return -ENOMEM;
        }
        if (!mkdtemp(t->root))
            return -errno;
        t->root_fd = open(t->root, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (t->root_fd < 0 && errno != ENOENT)
            return -errno;
        if (t->root_fd >= 0 && flock(t->root_fd, LOCK_EX | LOCK_NB) == 0 && fstat(t->root_fd, &st) == 0 && st.st_nlink)
            return fchmod(t->root_fd, 0711) == 0 ? 0 : -errno; /* other users' jobs pass through it */
        if (t->root_fd >= 0)
            close(t->root_fd);
        t->root_fd = -1;
    }
}

struct forkserver *forkserver_new(struct pool *p, uid_t uid) {
    struct forkserver *t = calloc(1, sizeof(*t));

    if (!t)
        return NULL;
    *t = (struct forkserver){.pool = p, .uid = uid, .control = -1, .root_fd = -1, .used_us = clock_us()};
    TAILQ_INIT(&t->waiting);
    t->retry = evtimer_new(p->base, on_retry, t);
    t->watch = evtimer_new(p->base, on_watch, t);
    int err = t->retry && t->watch ? choose_root(t) : -ENOMEM;
    if (err) {
        forkserver_free(t);
        errno = -err;
        return NULL;
    }
    TAILQ_INSERT_TAIL(&p->forkservers, t, next);
    return t;
}

void forkserver_free(struct forkserver *t) {
    if (!t)
        return;
    if (t->next.tqe_prev)
        TAILQ_REMOVE(&t->pool->forkservers, t, next);
    wait_drop(t);
    event_drop(t->retry);
    event_drop(t->watch);
    if (t->root)
        rmdir(t->root); /* if the fork server had no time to */
    if (t->root_fd >= 0)
        close(t->root_fd);
    free(t->kills);
    free(t->root);
    free(t);
}

bool forkserver_usable(struct forkserver *t) {
    struct pool *p = t->pool;
    char user[32];

    if (t->pid)
        return !t->ending_us;
    if (event_pending(t->retry, EV_TIMEOUT, NULL))
        return false;
    int err = forkserver_start(t);
    if (err && users_make_room(p))
        err = forkserver_start(t);
    if (err) {
        t->failures++;
        snprintf(t->trouble, sizeof(t->trouble), "the fork server of the workers%s cannot be started: %s",
                 whose(t, user), strerror(-err));
        pool_trouble(p, "%s", t->trouble);
        schedule_retry(t);
    }
    return !err;
}

void forkserver_end(struct forkserver *t) {
    t->ending_us = clock_us();
    shutdown(t->control, SHUT_WR); /* at which it kills everything and ends; end of file tells so */
    forkserver_watch(t);
}

void forkserver_close(struct forkserver *t) {
    forget_control(t);
}
