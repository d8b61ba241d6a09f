/* ppfs-net, the network process of a ppfs or ppfs-node (proxy.h): it ends TLS, and gives whoever started it a bare
 * socket for each connection of somebody with a key. It is told over descriptor 3 what to do, first its keys; then it
 * gives up all that it could do but that (jail.h). When that descriptor ends it sends what it was given, for half a
 * second, and ends. */
#include "net/proxy/proxy_wire.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <unistd.h>

#include "net/untrusted/discover_core.h"
#include "net/untrusted/handshake.h"
#include "net/program/relay.h"
#include "net/untrusted/jail.h"
#include "net/untrusted/acceptor.h"

enum { CONTROL_FD = 3, LINGER_MS = 500, WAIT_MS = 10000 };

/* Tasks of this process, by their numbers. */
struct task {
    LIST_ENTRY(task) next;
    uint32_t id;
    struct acceptor *acceptor; /* one of these */
    struct handshake *handshake;
    struct discover_core *discovery;
};

struct line {
    LIST_ENTRY(line) next;
    uint32_t number;
    struct relay *relay;
};

static struct {
    struct event_base *base;
    struct proxy_wire *wire; /* NULL: we are to end */
    struct tls *tls;
    uint32_t last_line;
    LIST_HEAD(, task) tasks;
    LIST_HEAD(, line) lines;
} me;

static void leave_when_done(void) {
    if (!me.wire && LIST_EMPTY(&me.lines))
        _exit(0);
}

static int tell(const struct proxy_message *m, const int *fds, unsigned count) {
    return me.wire ? proxy_wire_send(me.wire, m, fds, count) : -EPIPE;
}

/* --- lines ------------------------------------------------------------------------------------------------------- */
static void on_ended(void *arg, struct relay *r, int err) {
    struct line *line = arg;

    tell(&(struct proxy_message){.kind = PROXY_FATE, .link = line->number, .err = -err}, NULL, 0);
    relay_destroy(r);
    LIST_REMOVE(line, next);
    free(line);
    leave_when_done();
}

/* Hands over a connection whose handshake is done, which it takes, with what else is in m. 0 or -errno. */
static int hand_over(struct proxy_message *m, struct tls_conn *conn) {
    struct line *line = calloc(1, sizeof(*line));
    int ends[2], err = 0;

    tls_conn_proof(conn, &m->proof);
    if (!line || socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends)) {
        err = line ? -errno : -ENOMEM;
        tls_conn_destroy(conn);
        free(line);
        return err;
    }
    line->number = m->link = ++me.last_line;
    err = relay_create(&line->relay, me.base, conn, ends[0], on_ended, line);
    if (!err && (err = tell(m, &ends[1], 1)))
        relay_destroy(line->relay);
    close(ends[1]);
    if (err)
        free(line);
    else
        LIST_INSERT_HEAD(&me.lines, line, next);
    return err;
}

/* --- tasks ------------------------------------------------------------------------------------------------------- */
static void task_end(struct task *t) {
    acceptor_destroy(t->acceptor);
    handshake_destroy(t->handshake);
    discover_core_destroy(t->discovery);
    LIST_REMOVE(t, next);
    free(t);
}

static void on_known(void *arg, struct tls_conn *conn, const struct sockaddr_storage *from) {
    struct task *t = arg;
    struct proxy_message m = {.kind = PROXY_KNOWN, .id = t->id, .address = *from};

    hand_over(&m, conn); /* a dropped peer comes again */
}

static void on_refused(void *arg, const struct sockaddr_storage *from, int err) {
    struct task *t = arg;

    tell(&(struct proxy_message){.kind = PROXY_REFUSED, .id = t->id, .address = *from, .err = err}, NULL, 0);
}

static void on_handshake(void *arg, struct tls_conn *conn, int err) {
    struct task *t = arg;
    struct proxy_message m = {.kind = PROXY_SHAKEN, .id = t->id, .err = err};

    if (conn)
        m.err = hand_over(&m, conn);
    if (m.err)
        tell(&m, NULL, 0);
    task_end(t);
}

static void on_found(void *arg, const struct sockaddr_storage *at, const uint8_t id[SESSION_ID]) {
    struct task *t = arg;
    struct proxy_message m = {.kind = PROXY_FOUND, .id = t->id, .address = *at};

    memcpy(m.hub, id, SESSION_ID);
    tell(&m, NULL, 0);
}

/* --- orders ------------------------------------------------------------------------------------------------------ */
static int take(int *fd) {
    int taken = *fd;

    *fd = -1;
    return taken;
}

static int begin(struct task *t, const struct proxy_message *m, int fds[PROXY_FDS]) {
    static const struct acceptor_events events = {.known = on_known, .refused = on_refused};
    static const struct discover_core_events discovery = {.found = on_found, .refused = on_refused};
    int sockets[DISCOVER_SOCKETS];
    unsigned at = 0;

    if (fds[0] < 0)
        return -EMFILE; /* there was no room for it */
    if (m->kind == PROXY_LISTEN)
        return acceptor_create(&t->acceptor, me.base, me.tls, take(&fds[0]), &events, t);
    if (m->kind == PROXY_SHAKE)
        return handshake_create(&t->handshake, me.base, me.tls, take(&fds[0]), m->flag, on_handshake, t);
    for (int i = 0; i < DISCOVER_SOCKETS; i++)
        sockets[i] = m->where.use[i / 2] ? take(&fds[at++]) : -1;
    return discover_core_create(&t->discovery, me.base, me.tls, &m->where, sockets, m->hub, (uint16_t)m->port,
                                &discovery, t);
}

static void on_task(const struct proxy_message *m, int fds[PROXY_FDS]) {
    struct task *t = calloc(1, sizeof(*t));
    int err = -ENOMEM;

    if (t) {
        t->id = m->id;
        LIST_INSERT_HEAD(&me.tasks, t, next);
        err = begin(t, m, fds);
    }
    if (!err)
        return;
    if (t)
        task_end(t);
    if (m->kind == PROXY_SHAKE)
        tell(&(struct proxy_message){.kind = PROXY_SHAKEN, .id = m->id, .err = err}, NULL, 0);
    else
        exit(1); /* a new process may have enough memory */
}

static bool on_message(void *arg, const struct proxy_message *m, int fds[PROXY_FDS]) {
    struct task *t;

    switch (m->kind) {
    case PROXY_KEY:
        if (tls_add_key(me.tls, &m->key) == -ENOMEM)
            exit(1);
        return true;
    case PROXY_NO_KEY: tls_drop_key(me.tls, m->key.id); return true;
    case PROXY_LISTEN:
    case PROXY_SHAKE:
    case PROXY_DISCOVER: on_task(m, fds); return true;
    case PROXY_END:
        LIST_FOREACH(t, &me.tasks, next)
            if (t->id == m->id) {
                task_end(t);
                break;
            }
        return true;
    case PROXY_PING: tell(&(struct proxy_message){.kind = PROXY_PONG}, NULL, 0); return true;
    default: return false;
    }
}

static void on_linger(evutil_socket_t fd, short what, void *arg) {
    _exit(0);
}

/* The lines end with their sockets, which our parent has closed, or its death has. */
static void on_closed(void *arg) {
    struct timeval limit = {0, LINGER_MS * 1000};

    proxy_wire_destroy(me.wire);
    me.wire = NULL;
    while (!LIST_EMPTY(&me.tasks))
        task_end(LIST_FIRST(&me.tasks));
    struct event *linger = evtimer_new(me.base, on_linger, NULL);
    if (!linger || event_add(linger, &limit))
        _exit(1);
    leave_when_done();
}

/* --- life -------------------------------------------------------------------------------------------------------- */
static bool is_started_rightly(void) {
    int type = 0;
    socklen_t size = sizeof(type);

    return getsockopt(CONTROL_FD, SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type == SOCK_SEQPACKET;
}

/* Makes TLS by the first message, before the jail, as OpenSSL reads files at its first use. */
static bool make_tls(void) {
    struct pollfd control = {.fd = CONTROL_FD, .events = POLLIN};
    struct proxy_message m;
    uint8_t unused[16];
    char why[200];

    if (poll(&control, 1, WAIT_MS) != 1 || recv(CONTROL_FD, &m, sizeof(m), MSG_DONTWAIT) != (ssize_t)sizeof(m) ||
        m.kind != PROXY_START || m.flag > TLS_NODE || tls_random(unused, sizeof(unused)) ||
        tls_create(&me.tls, (enum tls_side)m.flag, m.key.psk, why, sizeof(why)))
        return false;
    explicit_bzero(&m, sizeof(m));
    return true;
}

int main(void) {
    static const struct proxy_wire_events events = {.message = on_message, .closed = on_closed};
    struct proxy_message ready = {.kind = PROXY_READY};
    int err = 0;

    if (!is_started_rightly()) {
        fputs("ppfs-net: ppfs and ppfs-node start it, for what they have with the network\n", stderr);
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    signal(SIGINT, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    LIST_INIT(&me.tasks);
    LIST_INIT(&me.lines);
    me.base = event_base_new();
    if (!me.base || !make_tls())
        return 1;
    ready.flag = jail_enter(&err);
    ready.err = err;
    if (proxy_wire_create(&me.wire, me.base, CONTROL_FD, &events, NULL))
        return 1;
    tell(&ready, NULL, 0);
    event_base_dispatch(me.base);
    return 1;
}
