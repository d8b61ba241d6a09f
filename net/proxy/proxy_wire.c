#include "net/proxy/proxy_wire.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <unistd.h>

#include "net/event.h"

/* TURN: messages of one turn of the loop. AHEAD, FDS_AHEAD: messages read before their turn, and descriptors in
 * them. */
enum { TURN = 16, AHEAD = 4096, FDS_AHEAD = 64, AGAIN_MS = 20 };
static const struct timeval now = {0};

struct parcel {
    TAILQ_ENTRY(parcel) next;
    struct proxy_message m;
    int fds[PROXY_FDS];
};
TAILQ_HEAD(parcels, parcel);

struct proxy_wire {
    int fd;
    struct proxy_wire_events ev;
    void *arg;
    struct event *readable, *writable, *more; /* more: some of `in` is still to be told */
    struct event *again;                      /* the kernel is short of room for descriptors under way */
    struct parcels in, out;
    unsigned ahead, fds_ahead; /* in `in` */
    bool ended, closed;        /* the second has been told */
};

static void parcel_free(struct parcel *p) {
    for (unsigned i = 0; i < PROXY_FDS; i++)
        if (p->fds[i] >= 0)
            close(p->fds[i]);
    explicit_bzero(p, sizeof(*p)); /* there may be a key in it */
    free(p);
}

static unsigned parcel_fds(const struct parcel *p) {
    unsigned count = 0;

    while (count < PROXY_FDS && p->fds[count] >= 0)
        count++;
    return count;
}

static void empty(struct parcels *all) {
    for (struct parcel *p; (p = TAILQ_FIRST(all));) {
        TAILQ_REMOVE(all, p, next);
        parcel_free(p);
    }
}

/* --- out --------------------------------------------------------------------------------------------------------- */
/* Whether it may be sent later: when there is room, or (*soon) after a moment, as the kernel lacks memory. */
static bool for_later(int err, bool *soon) {
    *soon = err == -ETOOMANYREFS || err == -ENOBUFS || err == -ENOMEM;
    return *soon || err == -EAGAIN;
}

static void wait_to_send(struct proxy_wire *w, bool soon) {
    static const struct timeval pause = {0, AGAIN_MS * 1000};

    if (soon)
        event_add(w->again, &pause);
    else
        event_add(w->writable, NULL);
}

static void on_writable(evutil_socket_t fd, short what, void *arg) {
    struct proxy_wire *w = arg;
    struct parcel *p;
    bool soon;

    while ((p = TAILQ_FIRST(&w->out))) {
        int err = io_send(w->fd, &p->m, sizeof(p->m), p->fds, parcel_fds(p));
        if (for_later(err, &soon)) {
            wait_to_send(w, soon);
            return;
        }
        TAILQ_REMOVE(&w->out, p, next); /* another error is told by reading */
        parcel_free(p);
    }
}

static struct parcel *parcel_of(const struct proxy_message *m) {
    struct parcel *p = malloc(sizeof(*p));

    if (!p)
        return NULL;
    p->m = *m;
    for (unsigned i = 0; i < PROXY_FDS; i++)
        p->fds[i] = -1;
    return p;
}

int proxy_wire_send(struct proxy_wire *w, const struct proxy_message *m, const int *fds, unsigned fd_count) {
    bool soon = false;
    if (w->ended)
        return -EPIPE;
    int err = TAILQ_EMPTY(&w->out) ? io_send(w->fd, m, sizeof(*m), fds, fd_count) : -EAGAIN;

    if (!for_later(err, &soon))
        return err;
    struct parcel *p = parcel_of(m);
    if (!p)
        return -ENOMEM;
    for (unsigned i = 0; i < fd_count; i++) {
        p->fds[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 0);
        if (p->fds[i] < 0) {
            err = -errno;
            parcel_free(p);
            return err;
        }
    }
    if (TAILQ_EMPTY(&w->out))
        wait_to_send(w, soon);
    TAILQ_INSERT_TAIL(&w->out, p, next);
    return 0;
}

bool proxy_wire_ended(const struct proxy_wire *w) {
    return w->ended;
}

/* --- in ---------------------------------------------------------------------------------------------------------- */
/* One message into the queue, without the descriptors for which this process has no room. False: there is none. */
static bool receive_one(struct proxy_wire *w) {
    struct parcel *p = calloc(1, sizeof(*p));
    if (!p)
        return false; /* the socket stays readable */
    ssize_t n = io_receive(w->fd, &p->m, sizeof(p->m), p->fds);
    if (n != (ssize_t)sizeof(p->m)) { /* end of file, or no message of ours */
        w->ended |= n != -EAGAIN;
        parcel_free(p);
        return false;
    }
    TAILQ_INSERT_TAIL(&w->in, p, next);
    w->ahead++;
    w->fds_ahead += parcel_fds(p);
    return true;
}

static void fill(struct proxy_wire *w) {
    for (int i = 0; i < TURN && w->ahead < AHEAD && w->fds_ahead < FDS_AHEAD && !w->ended && receive_one(w); i++)
        continue;
}

/* In the next turn: an endless writer must not keep this one. */
static void go_on(struct proxy_wire *w) {
    if (!w->closed && (w->ended || w->ahead))
        event_add(w->more, &now);
}

static void on_readable(evutil_socket_t fd, short what, void *arg) {
    struct proxy_wire *w = arg;
    struct parcel *p;

    if (w->closed)
        return;
    if (w->ahead < TURN)
        fill(w);
    for (int i = 0; i < TURN && (p = TAILQ_FIRST(&w->in)); i++) {
        TAILQ_REMOVE(&w->in, p, next);
        w->ahead--;
        w->fds_ahead -= parcel_fds(p);
        if (!w->ev.message(w->arg, &p->m, p->fds)) {
            w->ended = true;
            empty(&w->in);
            w->ahead = w->fds_ahead = 0;
        }
        parcel_free(p);
    }
    if (!w->ended || w->ahead) {
        go_on(w);
        return;
    }
    w->closed = true;
    event_del(w->readable);
    event_del(w->writable);
    event_del(w->more);
    event_del(w->again);
    w->ev.closed(w->arg);
}

const struct proxy_message *proxy_wire_find(struct proxy_wire *w, enum proxy_kind kind, uint32_t link) {
    struct parcel *p;

    fill(w);
    go_on(w);
    TAILQ_FOREACH(p, &w->in, next)
        if (p->m.kind == kind && p->m.link == link)
            return &p->m;
    return NULL;
}

/* --- life -------------------------------------------------------------------------------------------------------- */
int proxy_wire_create(struct proxy_wire **out, struct event_base *base, int fd, const struct proxy_wire_events *ev,
                      void *arg) {
    struct proxy_wire *w = calloc(1, sizeof(*w));

    if (!w) {
        close(fd);
        return -ENOMEM;
    }
    *w = (struct proxy_wire){.fd = fd, .ev = *ev, .arg = arg};
    TAILQ_INIT(&w->in);
    TAILQ_INIT(&w->out);
    w->readable = event_new(base, fd, EV_READ | EV_PERSIST, on_readable, w);
    w->writable = event_new(base, fd, EV_WRITE, on_writable, w);
    w->more = evtimer_new(base, on_readable, w);
    w->again = evtimer_new(base, on_writable, w);
    if (!w->readable || !w->writable || !w->more || !w->again || event_add(w->readable, NULL)) {
        proxy_wire_destroy(w);
        return -ENOMEM;
    }
    *out = w;
    return 0;
}

void proxy_wire_destroy(struct proxy_wire *w) {
    if (!w)
        return;
    empty(&w->in);
    empty(&w->out);
    event_drop(w->readable);
    event_drop(w->writable);
    event_drop(w->more);
    event_drop(w->again);
    close(w->fd);
    free(w);
}
