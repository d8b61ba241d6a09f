/* Our side of ppfs-net: this file starts it, restarts it and gives it orders; proxy_hear.c takes its messages. */

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "net/clock.h"
#include "net/event.h"
#include "net/proxy/proxy_parts.h"

enum {
    CONTROL_FD = 3,
    PAUSE_MIN_MS = 100, /* before a restart, doubled after each life shorter than LASTED_MS */
    PAUSE_MAX_MS = 30000,
    LASTED_MS = 1000,
    BEAT_S = 5,
    BEATS = 3,     /* unanswered: it hangs */
    END_MS = 1000, /* for its end */
    ENVIRONMENT = 5
};

/* --- orders ------------------------------------------------------------------------------------------------------ */
static int tell(struct proxy *p, const struct proxy_message *m, const int *fds, unsigned count) {
    return p->wire ? proxy_wire_send(p->wire, m, fds, count) : -EOWNERDEAD;
}

static int tell_listener(const struct proxy_listener *l) {
    return tell(l->p, &(struct proxy_message){.kind = PROXY_LISTEN, .id = l->id}, &l->fd, 1);
}

static int tell_discovery(const struct proxy_discovery *d) {
    struct proxy_message m = {.kind = PROXY_DISCOVER, .id = d->id, .where = d->where, .port = d->port};
    int fds[DISCOVER_SOCKETS];
    unsigned count = 0;

    memcpy(m.hub, d->hub, SESSION_ID);
    for (int i = 0; i < DISCOVER_SOCKETS; i++) {
        m.where.use[i / 2] = d->sockets[i] >= 0;
        if (d->sockets[i] >= 0)
            fds[count++] = d->sockets[i];
    }
    return tell(d->p, &m, fds, count);
}

static void tell_end(struct proxy *p, uint32_t id) {
    tell(p, &(struct proxy_message){.kind = PROXY_END, .id = id}, NULL, 0);
}

static void tell_key(struct proxy *p, const struct tls_key *key) {
    struct proxy_message m = {.kind = PROXY_KEY, .key = *key};

    tell(p, &m, NULL, 0);
    explicit_bzero(&m, sizeof(m));
}

static void tell_no_key(struct proxy *p, const uint8_t id[TLS_KEY_ID]) {
    struct proxy_message m = {.kind = PROXY_NO_KEY};

    memcpy(m.key.id, id, TLS_KEY_ID);
    tell(p, &m, NULL, 0);
}

static const struct tls_proxy_ops keys_told = {.key = tell_key, .no_key = tell_no_key};

static void tell_all(struct proxy *p) {
    const struct tls_keys *keys = tls_keys(p->tls);
    struct proxy_message m = {.kind = PROXY_START, .flag = tls_side(p->tls)};
    struct proxy_listener *l;
    struct proxy_discovery *d;

    memcpy(m.key.psk, keys->find, TLS_PSK);
    tell(p, &m, NULL, 0);
    explicit_bzero(&m, sizeof(m));
    for (size_t i = 0; i < keys->count; i++)
        tell_key(p, &keys->at[i]);
    LIST_FOREACH(l, &p->listeners, next)
        tell_listener(l);
    LIST_FOREACH(d, &p->discoveries, next)
        tell_discovery(d);
}

/* --- its start --------------------------------------------------------------------------------------------------- */
/* In the child of vfork: system calls only. A process group of its own: no job can signal it with ours. */
static void net_exec(const struct proxy *p, int control, char *const *environment) {
    char *argv[] = {"ppfs-net", NULL};
    sigset_t none;

    setpgid(0, 0);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    int null = open("/dev/null", O_RDWR);
    if (null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 ||
        (control == CONTROL_FD ? fcntl(control, F_SETFD, 0) : dup2(control, CONTROL_FD)) < 0)
        _exit(127);
    close_range(CONTROL_FD + 1, ~0u, 0);
    execve(p->program, argv, environment);
    _exit(127);
}

static __attribute__((noinline)) pid_t net_fork(const struct proxy *p, int control, char *const *environment) {
    pid_t pid = vfork();

    if (pid == 0)
        net_exec(p, control, environment);
    return pid;
}

/* Variables by which libraries are found; all others may hold secrets. */
static void choose_environment(char lines[ENVIRONMENT][1024], char *environment[ENVIRONMENT + 1]) {
    static const char *const names[ENVIRONMENT] = {"LD_LIBRARY_PATH", "OPENSSL_CONF", "ASAN_OPTIONS", "UBSAN_OPTIONS",
                                                   "LSAN_OPTIONS"};
    unsigned count = 0;

    for (unsigned i = 0; i < ENVIRONMENT; i++) {
        const char *value = getenv(names[i]);
        if (value &&
            (size_t)snprintf(lines[count], sizeof(lines[count]), "%s=%s", names[i], value) < sizeof(lines[count])) {
            environment[count] = lines[count];
            count++;
        }
    }
    environment[count] = NULL;
}

static void on_closed(void *arg);

static int start(struct proxy *p) {
    static const struct proxy_wire_events events = {.message = proxy_hear, .closed = on_closed};
    static const struct timeval beat = {.tv_sec = BEAT_S};
    char lines[ENVIRONMENT][1024], *environment[ENVIRONMENT + 1];
    int ends[2];

    choose_environment(lines, environment);
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends))
        return -errno;
    pid_t pid = net_fork(p, ends[1], environment);
    int err = pid < 0 ? -errno : 0;
    close(ends[1]);
    if (err)
        close(ends[0]);
    else
        err = proxy_wire_create(&p->wire, p->base, ends[0], &events, p);
    if (err) {
        if (pid > 0) { /* its socket has no other end */
            kill(pid, SIGKILL);
            waitpid(pid, NULL, 0);
        }
        p->wire = NULL;
        return err;
    }
    p->pid = pid;
    p->started_ms = clock_ms();
    p->unanswered = 0;
    if (p->ev.child)
        p->ev.child(p->arg, pid, true);
    memset(p->fates, 0, sizeof(p->fates)); /* it counts from 1 */
    event_add(p->beat, &beat);
    tell_all(p);
    return 0;
}

static bool pauses(const struct proxy *p) {
    return event_pending(p->retry, EV_TIMEOUT, NULL);
}

static void start_later(struct proxy *p) {
    event_add_ms(p->retry, event_pause_ms(p->failures, PAUSE_MIN_MS, PAUSE_MAX_MS));
}

/* Without listeners and discovery the next dial starts it. */
static void on_retry(evutil_socket_t fd, short what, void *arg) {
    struct proxy *p = arg;

    if (p->wire || (LIST_EMPTY(&p->listeners) && LIST_EMPTY(&p->discoveries)))
        return;
    int err = start(p);
    if (!err)
        return;
    p->failures++;
    proxy_say(p, "the network process cannot be started: %s; it is tried again", strerror(-err));
    start_later(p);
}

/* --- its end ----------------------------------------------------------------------------------------------------- */
static void let_go(struct proxy *p) {
    if (p->ev.child)
        p->ev.child(p->arg, p->pid, false);
    p->pid = 0;
    proxy_wire_destroy(p->wire);
    p->wire = NULL;
    event_del(p->beat);
}

static void complain(struct proxy *p, pid_t pid, int status) {
    const char *hung = p->unanswered > BEATS ? "did not answer and " : "";

    if (WIFSIGNALED(status))
        proxy_say(p,
                  "the network process (pid %d) %swas killed by signal %d (SIG%s); it is started again, and "
                  "connections come back",
                  (int)pid, hung, WTERMSIG(status),
                  sigabbrev_np(WTERMSIG(status)) ? sigabbrev_np(WTERMSIG(status)) : "?");
    else if (WEXITSTATUS(status) == 127)
        proxy_say(p, "%s cannot be run (is ppfs installed completely?); it is tried again", p->program);
    else
        proxy_say(p,
                  "the network process (pid %d) ended with status %d; it is started again, and connections come back",
                  (int)pid, WEXITSTATUS(status));
}

static void on_closed(void *arg) {
    struct proxy *p = arg;
    struct proxy_shake *s;
    pid_t pid = p->pid;
    int status = 0;

    kill(pid, SIGKILL);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    p->failures = clock_ms() - p->started_ms >= LASTED_MS ? 0 : p->failures + 1;
    let_go(p);
    complain(p, pid, status);
    start_later(p);
    while ((s = LIST_FIRST(&p->shakes))) {
        LIST_REMOVE(s, next);
        s->p = NULL;
        s->done(s->arg, NULL, -EOWNERDEAD);
    }
}

static void on_beat(evutil_socket_t fd, short what, void *arg) {
    struct proxy *p = arg;

    if (p->unanswered++ < BEATS)
        tell(p, &(struct proxy_message){.kind = PROXY_PING}, NULL, 0);
    else
        kill(p->pid, SIGKILL); /* on_closed follows */
}

/* --- tasks ------------------------------------------------------------------------------------------------------- */
/* Starts the process if there is none; not in the pause after its death. */
static int begin(struct proxy *p) {
    return p->wire || pauses(p) ? 0 : start(p);
}

int proxy_listen(struct proxy_listener **out, struct proxy *p, int fd, const struct acceptor_events *ev, void *arg) {
    struct proxy_listener *l = calloc(1, sizeof(*l));
    int err = l ? begin(p) : -ENOMEM;

    if (err) {
        close(fd);
        free(l);
        return err;
    }
    *l = (struct proxy_listener){.p = p, .id = ++p->last_id, .fd = fd, .ev = *ev, .arg = arg};
    LIST_INSERT_HEAD(&p->listeners, l, next);
    tell_listener(l); /* if it is dead the next process is told */
    *out = l;
    return 0;
}

void proxy_listener_destroy(struct proxy_listener *l) {
    if (!l)
        return;
    tell_end(l->p, l->id);
    LIST_REMOVE(l, next);
    close(l->fd);
    free(l);
}

int proxy_discover(struct proxy_discovery **out, struct proxy *p, const struct discover_where *where,
                   const int sockets[DISCOVER_SOCKETS], const uint8_t id[SESSION_ID], uint16_t port,
                   const struct discover_core_events *ev, void *arg) {
    struct proxy_discovery *d = calloc(1, sizeof(*d));
    int err = d ? begin(p) : -ENOMEM;

    if (err) {
        discover_close(sockets);
        free(d);
        return err;
    }
    *d = (struct proxy_discovery){.p = p, .id = ++p->last_id, .where = *where, .port = port, .ev = *ev, .arg = arg};
    memcpy(d->hub, id, SESSION_ID);
    memcpy(d->sockets, sockets, sizeof(d->sockets));
    LIST_INSERT_HEAD(&p->discoveries, d, next);
    tell_discovery(d);
    *out = d;
    return 0;
}

void proxy_discovery_destroy(struct proxy_discovery *d) {
    if (!d)
        return;
    tell_end(d->p, d->id);
    LIST_REMOVE(d, next);
    discover_close(d->sockets);
    free(d);
}

int proxy_shake(struct proxy_shake **out, struct proxy *p, int fd, bool dialled, handshake_cb *done, void *arg) {
    struct proxy_shake *s = calloc(1, sizeof(*s));
    int err = s ? begin(p) : -ENOMEM;
    if (!err && !p->wire)
        err = -EOWNERDEAD; /* until it is started again */

    if (!err) {
        *s = (struct proxy_shake){.p = p, .id = ++p->last_id, .done = done, .arg = arg};
        err = tell(p, &(struct proxy_message){.kind = PROXY_SHAKE, .id = s->id, .flag = dialled}, &fd, 1);
    }
    close(fd);
    if (err) {
        free(s);
        return err == -EPIPE ? -EOWNERDEAD : err;
    }
    LIST_INSERT_HEAD(&p->shakes, s, next);
    *out = s;
    return 0;
}

void proxy_shake_destroy(struct proxy_shake *s) {
    if (!s)
        return;
    if (s->p) {
        tell_end(s->p, s->id);
        LIST_REMOVE(s, next);
    }
    free(s);
}

/* --- life -------------------------------------------------------------------------------------------------------- */
int proxy_create(struct proxy **out, struct event_base *base, struct tls *tls, const char *program,
                 const struct proxy_events *ev, void *arg, char *why, size_t why_size) {
    if (access(program, X_OK)) {
        int err = -errno;
        snprintf(why, why_size, "%.800s cannot be run: %s (is ppfs installed completely?)", program, strerror(-err));
        return err;
    }
    struct proxy *p = calloc(1, sizeof(*p));
    if (!p)
        goto out;
    *p = (struct proxy){.base = base, .tls = tls, .program = strdup(program), .ev = *ev, .arg = arg};
    LIST_INIT(&p->listeners);
    LIST_INIT(&p->discoveries);
    LIST_INIT(&p->shakes);
    p->retry = evtimer_new(base, on_retry, p);
    p->beat = event_new(base, -1, EV_PERSIST, on_beat, p);
    if (!p->program || !p->retry || !p->beat)
        goto out;
    tls_set_proxy(tls, p, &keys_told);
    *out = p;
    return 0;
out:
    proxy_destroy(p);
    snprintf(why, why_size, "not enough memory");
    return -ENOMEM;
}

/* It ends by itself when what it was given is sent. */
static void wait_end(struct proxy *p) {
    static const struct timespec moment = {.tv_nsec = 1000000};
    pid_t pid = p->pid;

    let_go(p);
    for (int64_t until = clock_ms() + END_MS; clock_ms() < until; nanosleep(&moment, NULL))
        if (waitpid(pid, NULL, WNOHANG) != 0)
            return;
    kill(pid, SIGKILL);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        continue;
}

void proxy_destroy(struct proxy *p) {
    if (!p)
        return;
    if (p->pid)
        wait_end(p);
    if (p->tls && tls_proxy(p->tls) == p)
        tls_set_proxy(p->tls, NULL, NULL);
    event_drop(p->retry);
    event_drop(p->beat);
    free((char *)p->program);
    free(p);
}
