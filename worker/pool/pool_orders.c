/* Orders to the fork server. Its socket holds some 160: it is asked for a few workers at a time, and kills that do not
 * fit wait here. Being behind is no fault; pool_forkserver.c looks for how long. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/clock.h"
#include "net/io.h"
#include "worker/pool/pool_parts.h"

enum { ASKED_MAX = 64 /* workers: the rest of its socket is for kills */, WATCH_S = 5 };

bool forkserver_busy(const struct forkserver *t) {
    return t->asked >= ASKED_MAX || t->kill_count;
}

void forkserver_watch(struct forkserver *t) {
    struct timeval then = {.tv_sec = WATCH_S};

    if (!event_pending(t->watch, EV_TIMEOUT, NULL))
        event_add(t->watch, &then);
}

/* Its first open order: its time counts from now. */
static void count_from_now(struct forkserver *t) {
    if (!t->asked && !t->kill_count)
        t->heard_us = clock_us();
    forkserver_watch(t);
}

int forkserver_spawn(struct forkserver *t, uint64_t serial, const int fds[SPAWN_FDS]) {
    struct control c = {.kind = CONTROL_SPAWN, .serial = serial};

    if (t->control < 0)
        return -EPIPE;
    int err = io_send(t->control, &c, sizeof(c), fds, SPAWN_FDS);
    if (err == -EAGAIN) {
        event_add(t->writable, NULL);
        return -EBUSY;
    }
    if (err == -EPIPE || err == -ECONNRESET)
        err = 0; /* it has just died: this ends like its other work */
    if (err)
        return err;
    count_from_now(t);
    t->asked++;
    return 0;
}

static int kill_order(struct forkserver *t, uint64_t serial) {
    struct control c = {.kind = CONTROL_KILL, .serial = serial};

    int err = io_send(t->control, &c, sizeof(c), NULL, 0);

    return err == -EAGAIN ? err : 0; /* any other: it has died, and its workers with it */
}

void forkserver_writable(evutil_socket_t fd, short what, void *arg) {
    struct forkserver *t = arg;
    size_t sent = 0;

    while (sent < t->kill_count && kill_order(t, t->kills[sent]) == 0)
        sent++;
    if (sent)
        t->heard_us = clock_us();
    t->kill_count -= sent;
    memmove(t->kills, t->kills + sent, t->kill_count * sizeof(*t->kills));
    if (t->kill_count)
        event_add(t->writable, NULL);
    else if (!TAILQ_EMPTY(&t->waiting))
        wait_soon(t->pool);
}

void forkserver_kill(struct forkserver *t, uint64_t serial) {
    if (t->control < 0)
        return;
    count_from_now(t);
    if (!t->kill_count && kill_order(t, serial) == 0)
        return;
    if (t->kill_count == t->kill_cap) {
        size_t cap = t->kill_cap ? 2 * t->kill_cap : 64;
        uint64_t *bigger = realloc(t->kills, cap * sizeof(*bigger));
        if (!bigger) { /* a kill that cannot be ordered: the fork server is killed with all workers */
            snprintf(t->stuck, sizeof(t->stuck), "could not be told what to kill: no memory");
            kill(t->pid, SIGKILL);
            return;
        }
        t->kills = bigger;
        t->kill_cap = cap;
    }
    t->kills[t->kill_count++] = serial;
    event_add(t->writable, NULL);
}
