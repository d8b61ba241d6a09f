#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "scripts/ppfs_run/run.h"

enum { BEAT_MS = 1000, LOOK_MS = 10, LOOKS = 200, BEGUN_MS = 100 };

static const char *const prints[] = {"/stdout", "/stderr"};
static volatile sig_atomic_t caught;
static const int ends[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};

static void on_signal(int number) {
    caught = number;
}

static sigset_t blocked, open_to; /* while we work; while we wait */

void follow_signals(void) {
    sigprocmask(SIG_BLOCK, NULL, &open_to);
    blocked = open_to;
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        struct sigaction now, kept = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND};
        if (sigaction(ends[i], NULL, &now) != 0 || now.sa_handler == SIG_IGN) /* nohup, and what make ignores */
            continue;
        sigaction(ends[i], &kept, NULL);
        sigaddset(&blocked, ends[i]);
    }
    sigprocmask(SIG_SETMASK, &blocked, NULL);
    signal(SIGPIPE, SIG_IGN);
}

int follow_ready(struct pollfd *fds, nfds_t count, int timeout_ms) {
    struct timespec t = {.tv_sec = timeout_ms / 1000, .tv_nsec = timeout_ms % 1000 * 1000000L};
    const struct timespec *limit = timeout_ms < 0 ? NULL : &t;
    int n = caught ? 0 : ppoll(fds, count, limit, &open_to);
    if (caught)
        return -EINTR;
    if (n < 0)
        return errno == EINTR ? 0 : -errno;
    return n;
}

int follow_caught(void) {
    follow_ready(NULL, 0, 0);
    return caught;
}

void follow_die(int number) {
    signal(number, SIG_DFL);
    sigprocmask(SIG_SETMASK, &open_to, NULL);
    raise(number);
    _exit(128 + number);
}

static int open_info(const char *mount, const char *name, const char *what, int flags) {
    char path[PATH_MAX];
    if ((size_t)snprintf(path, sizeof path, "%s/info/%s/%s", mount, name, what) >= sizeof path)
        return -ENAMETOOLONG;
    int fd = open(path, O_RDONLY | O_CLOEXEC | flags);
    return fd < 0 ? -errno : fd;
}

/* Never so much at once that a pipe which has room blocks. */
static int put(int fd, const char *bytes, size_t size) {
    while (size) {
        struct pollfd out = {.fd = fd, .events = POLLOUT};
        int rc = follow_ready(&out, 1, -1);
        if (rc < 0)
            return caught ? caught : rc;
        ssize_t n = write(fd, bytes, size < PIPE_BUF ? size : PIPE_BUF);
        if (n < 0 && errno == EPIPE)
            return SIGPIPE;
        if (n < 0 && errno != EINTR && errno != EAGAIN)
            return -errno;
        if (n > 0) {
            bytes += n;
            size -= (size_t)n;
        }
    }
    return 0;
}

/* What has come by now. 1: its end. */
static int pass(int from, int to) {
    char buf[1 << 16];
    for (;;) {
        ssize_t n = read(from, buf, sizeof buf);
        if (n == 0)
            return 1;
        if (n < 0)
            return errno == EAGAIN || errno == EINTR ? 0 : -errno;
        int rc = put(to, buf, (size_t)n);
        if (rc)
            return rc < 0 ? rc : rc + 1;
    }
}

/* -1: there is no such file. */
static off_t size_of(const char *mount, const char *folder, const char *name, const char *what) {
    char path[PATH_MAX];
    struct stat st;
    if ((size_t)snprintf(path, sizeof path, "%s/%s/%s%s", mount, folder, name, what) >= sizeof path ||
        stat(path, &st) < 0)
        return -1;
    return st.st_size;
}

bool follow_ended(const char *mount, const char *name, struct follow_known *k) {
    if (size_of(mount, "info", name, "/exit") <= 0)
        return false;
    k->done = size_of(mount, "results", name, "") >= 0;
    for (int i = 0; i < 2; i++)
        k->silent[i] = size_of(mount, "info", name, prints[i]) == 0;
    return true;
}

int follow(const char *mount, const char *name, const struct follow_known *k, void (*beat)(void *arg), void *arg) {
    struct pollfd fds[2] = {{.fd = -1, .events = POLLIN}, {.fd = -1, .events = POLLIN}};
    int rc = 0;
    for (int i = 0; i < 2 && rc == 0; i++)
        if (!k || !k->silent[i]) {
            fds[i].fd = open_info(mount, name, prints[i] + 1, O_NONBLOCK);
            rc = fds[i].fd < 0 ? fds[i].fd : 0;
        }
    while (rc == 0 && (fds[0].fd >= 0 || fds[1].fd >= 0)) {
        int n = follow_ready(fds, 2, beat ? BEAT_MS : -1);
        if (n < 0)
            rc = caught ? caught : n;
        else if (n == 0 && beat)
            beat(arg);
        for (int i = 0; i < 2 && n > 0 && rc == 0; i++) {
            int to = i == 0 ? STDOUT_FILENO : STDERR_FILENO, passed = fds[i].revents ? pass(fds[i].fd, to) : 0;
            if (passed == 1) {
                close(fds[i].fd);
                fds[i].fd = -1;
            } else if (passed) {
                rc = passed < 0 ? passed : passed - 1;
            }
        }
    }
    for (int i = 0; i < 2; i++)
        if (fds[i].fd >= 0)
            close(fds[i].fd);
    return rc;
}

/* One of its values without the newline. Blocks where that is wait, until the job has ended. 0 or -errno. */
static int value(const char *mount, const char *name, const char *what, char *buf, size_t size) {
    int fd = open_info(mount, name, what, 0);
    ssize_t n = fd < 0 ? fd : read(fd, buf, size - 1);
    if (fd >= 0) {
        n = n < 0 ? -errno : n;
        close(fd);
    }
    buf[n > 0 ? n : 0] = '\0';
    buf[strcspn(buf, "\n")] = '\0';
    return n < 0 ? (int)n : 0;
}

void follow_end(const char *mount, const char *name) {
    char state[64];
    sigprocmask(SIG_SETMASK, &open_to, NULL);
    value(mount, name, "wait", state, sizeof state);
}

int follow_taken(const char *mount, const char *name) {
    char state[64] = "draft", attempt[16], why[1024];
    int rc = 0;
    for (int left = LOOKS; rc == 0 && left; left--) { /* a large one is read in slices */
        rc = value(mount, name, "state", state, sizeof state);
        if (rc < 0 || strcmp(state, "draft") != 0)
            break;
        follow_ready(NULL, 0, LOOK_MS);
    }
    if (rc < 0 || strcmp(state, "failed") != 0 || value(mount, name, "attempt", attempt, sizeof attempt) < 0 ||
        strcmp(attempt, "0") != 0 || value(mount, name, "why", why, sizeof why) < 0)
        return 0;
    return run_cannot("%s: %s", name, why);
}

int follow_begun(const char *mount, const char *name) {
    char state[64], why[1024];
    while (value(mount, name, "state", state, sizeof state) == 0) {
        bool ended = strcmp(state, "failed") == 0 || strcmp(state, "cancelled") == 0;
        if (ended && value(mount, name, "why", why, sizeof why) == 0)
            return run_cannot("%s: %s", name, why);
        if (follow_ready(NULL, 0, BEGUN_MS) < 0)
            return follow_caught();
    }
    return 0;
}

static int signal_of(const char *name) {
    for (int i = 1; i < NSIG; i++) {
        const char *known = sigabbrev_np(i);
        if (known && strncmp(name, "SIG", 3) == 0 && strcmp(name + 3, known) == 0)
            return i;
    }
    return 0;
}

int follow_status(const char *mount, const char *name) {
    char state[64], ended[64], why[1024], path[PATH_MAX];
    int rc = value(mount, name, "wait", state, sizeof state);
    if (rc == 0 && strcmp(state, "done") == 0)
        return 0;
    if (rc == 0)
        rc = value(mount, name, "exit", ended, sizeof ended);
    if (rc == 0)
        rc = value(mount, name, "why", why, sizeof why);
    if (rc < 0)
        return run_cannot("how %s ended is not known: %s", name, strerror(-rc));
    int status = atoi(ended), number = signal_of(ended);
    if (status > 0)
        return status;
    run_cannot("%s: %s", name, *why ? why : state);
    snprintf(path, sizeof path, "%s/results/%s", mount, name);
    if (access(path, F_OK) < 0 && errno == ETIMEDOUT)
        return RUN_TIMED_OUT;
    return number ? 128 + number : RUN_CANNOT;
}
