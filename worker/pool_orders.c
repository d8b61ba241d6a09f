/* Orders to the template. Its socket holds some 160 of them: it is asked for a few workers at a time, and what it does not take
 * of the rest waits here. That it is behind is no fault; for how long is looked at in pool_template.c. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "net/clock.h"
#include "worker/pool_parts.h"

enum { ASKED_MAX = 64 /* workers: the rest of its socket is for kills */ };

/* 0, -EAGAIN: its socket is full, or -errno. */
static int send_order(struct pool *p, const struct control *c, const int *fds) {
    char room[CMSG_SPACE(SPAWN_FDS * sizeof(int))] __attribute__((aligned(8))) = {0};
    struct iovec part = {(void *)c, sizeof(*c)};
    struct msghdr msg = {.msg_iov = &part, .msg_iovlen = 1};

    if (fds) {
        msg.msg_control = room;
        msg.msg_controllen = sizeof(room);
        struct cmsghdr *head = CMSG_FIRSTHDR(&msg);
        head->cmsg_level = SOL_SOCKET;
        head->cmsg_type = SCM_RIGHTS;
        head->cmsg_len = CMSG_LEN(SPAWN_FDS * sizeof(int));
        memcpy(CMSG_DATA(head), fds, SPAWN_FDS * sizeof(int));
    }
    while (sendmsg(p->control, &msg, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
        if (errno != EINTR)
            return -errno;
    return 0;
}

bool template_busy(const struct pool *p) {
    return p->asked >= ASKED_MAX || p->kill_count;
}

/* It has begun to be behind, or to have something to do: its time counts from now. */
static void count_from_now(struct pool *p) {
    if (!p->asked && !p->kill_count)
        p->heard_us = clock_us();
    template_watch(p);
}

int template_spawn(struct pool *p, uint64_t serial, const int fds[SPAWN_FDS]) {
    struct control c = {.kind = CONTROL_SPAWN, .serial = serial};

    if (p->control < 0)
        return -EPIPE;
    int err = send_order(p, &c, fds);
    if (err == -EAGAIN) {
        event_add(p->writable, NULL);
        return -EBUSY;
    }
    if (err == -EPIPE || err == -ECONNRESET)
        err = 0; /* it has just died: what is asked of it ends as all that it had does */
    if (err)
        return err;
    count_from_now(p);
    p->asked++;
    return 0;
}

static int kill_order(struct pool *p, uint64_t serial) {
    struct control c = {.kind = CONTROL_KILL, .serial = serial};

    return send_order(p, &c, NULL) == -EAGAIN ? -EAGAIN : 0; /* it has died: so has whom it was to kill */
}

void template_writable(evutil_socket_t fd, short what, void *arg) {
    struct pool *p = arg;
    size_t sent = 0;

    (void)fd;
    (void)what;
    while (sent < p->kill_count && kill_order(p, p->kills[sent]) == 0)
        sent++;
    if (sent)
        p->heard_us = clock_us();
    p->kill_count -= sent;
    memmove(p->kills, p->kills + sent, p->kill_count * sizeof(*p->kills));
    if (p->kill_count)
        event_add(p->writable, NULL);
    else if (p->waiting_count)
        wait_soon(p);
}

void template_kill(struct pool *p, uint64_t serial) {
    if (p->control < 0)
        return;
    count_from_now(p);
    if (!p->kill_count && kill_order(p, serial) == 0)
        return;
    if (p->kill_count == p->kill_cap) {
        size_t cap = p->kill_cap ? 2 * p->kill_cap : 64;
        uint64_t *bigger = realloc(p->kills, cap * sizeof(*bigger));
        if (!bigger) { /* a worker that must die and cannot be told so: all of them do */
            snprintf(p->stuck, sizeof(p->stuck), "could not be told what to kill: no memory");
            kill(p->template, SIGKILL);
            return;
        }
        p->kills = bigger;
        p->kill_cap = cap;
    }
    p->kills[p->kill_count++] = serial;
    event_add(p->writable, NULL);
}
