/* Frames over a connected stream socket, bare or with TLS, in a libevent loop.
 *
 * Out: what the socket does not take at once waits in an evbuffer, and EV_WRITE is armed only while it is not empty.
 * In: one growing buffer, never larger than one frame and what was read with it. A turn reads READ_TURN bytes at most,
 * and of many links READ_ALL together, so that endless senders leave the others their turn, and writes no more than
 * WRITE_TURN and one write: a peer that reads while we write would take all that waits. An error while sending never
 * calls back from inside link_send: it is remembered, and the read event made active. link_destroy inside a callback:
 * the reader that called it notices through *gone, which is on its stack. TLS keeps bytes that it has read ahead, which
 * the loop cannot see: whoever stops reading before -EAGAIN goes on at the timer `again`, after what the others have
 * for this turn (an event made active would come before the next look at them). Its records are made from the head of
 * the buffer, as many frames in one as fit, and wait in the connection until they are sent, many with one write. */
#include "net/session/link.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <event2/buffer.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "net/event.h"
#include "net/session/link_files.h"
#include "net/session/shared_buffer.h"
#include "net/tls/tls_int.h"

enum { READ_MIN = 16 * 1024, READ_TURN = 256 * 1024, READ_CAP = FRAME_HEADER + FRAME_BODY_MAX };
enum { READ_ALL = 1024 * 1024, READ_LEAST = 256 };
enum { WRITE_TURN = 1024 * 1024, WRITE_PARTS = 16 };
enum { SMALL = 4 * 1024 }; /* bytes up to which copying is cheaper than sharing */

struct link {
    int fd;
    struct tls_conn *conn; /* owns fd; NULL: we do */
    struct tls_conn *tls;  /* the same; NULL: bare */
    struct link_events ev;
    void *arg;
    struct event *readable, *writable, *again; /* again: with TLS only */
    struct evbuffer *out;
    uint8_t *in;
    size_t in_cap, in_len;
    uint64_t received, given;
    uint64_t round; /* in which it was read last */
    int broken;     /* errno of a failed send, told at the next turn; -1 when closed() has been called */
    unsigned corked;
    struct link_files files; /* bare: their descriptors go with the next bytes */
    bool held;
    bool *gone;
};

/* The links of this process that are read one after another, until one of them comes again. */
static struct {
    uint64_t number;
    size_t links, before /* in the last round */;
} rounds = {.number = 1};

static void link_closed(struct link *l, int err) {
    if (l->broken == -1)
        return;
    l->broken = -1;
    event_del(l->readable);
    event_del(l->writable);
    l->ev.closed(l->arg, err);
}

static void link_broke(struct link *l, int err) {
    l->broken = err;
    event_active(l->readable, EV_READ, 0);
}

/* One write of what waits first. 0 or -errno. */
static int link_write_bare(struct link *l) {
    struct evbuffer_iovec parts[WRITE_PARTS];
    int n = evbuffer_peek(l->out, WRITE_TURN, NULL, parts, WRITE_PARTS);
    struct msghdr msg = {.msg_iov = (struct iovec *)parts, .msg_iovlen = (size_t)(n > WRITE_PARTS ? WRITE_PARTS : n)};
    ssize_t sent =
        l->files.count ? link_files_send(&l->files, l->fd, msg) : sendmsg(l->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);

    if (sent < 0)
        return -errno;
    evbuffer_drain(l->out, (size_t)sent);
    return 0;
}

/* The bytes of the next record: contiguous ones, in records of one size; small parts are copied together. */
static size_t link_record(struct link *l, const uint8_t **bytes) {
    struct evbuffer_iovec part;
    size_t all = evbuffer_get_length(l->out);

    evbuffer_peek(l->out, 1, NULL, &part, 1);
    if (part.iov_len < TLS_RECORD / 2 && part.iov_len < all) {
        size_t size = all < TLS_RECORD ? all : TLS_RECORD;
        *bytes = evbuffer_pullup(l->out, (ev_ssize_t)size);
        return size;
    }
    size_t records = (part.iov_len + TLS_RECORD - 1) / TLS_RECORD;
    *bytes = part.iov_base;
    return (part.iov_len + records - 1) / records;
}

/* Encrypts as many records as may wait, and sends as many as the socket takes. 0 or -errno. */
static int link_write_tls(struct link *l) {
    while (evbuffer_get_length(l->out)) {
        const uint8_t *bytes;
        size_t size = link_record(l, &bytes);
        ssize_t taken = bytes ? tls_write(l->tls, bytes, size) : -ENOMEM;
        if (taken == -EAGAIN)
            break;
        if (taken < 0)
            return (int)taken;
        evbuffer_drain(l->out, (size_t)taken);
    }
    return tls_flush(l->tls);
}

/* Writes as much as a turn may. Afterwards the write event is armed exactly if something still waits. */
static void link_flush(struct link *l) {
    size_t most = link_pending(l);

    while (!l->broken && link_pending(l)) {
        if (most >= link_pending(l) + WRITE_TURN) {
            event_add(l->writable, NULL);
            return;
        }
        int err = l->tls ? link_write_tls(l) : link_write_bare(l);
        if (err == -EAGAIN) {
            event_add(l->writable, NULL);
            return;
        }
        if (err && err != -EINTR)
            link_broke(l, -err);
    }
    event_del(l->writable);
}

static void on_writable(evutil_socket_t fd, short what, void *arg) {
    struct link *l = arg;

    link_flush(l);
    if (l->ev.drained && !l->broken && !link_pending(l))
        l->ev.drained(l->arg);
}

/* Hands on every whole frame in the buffer. False when the link must not be touched any more. */
static bool link_deliver(struct link *l, const bool *gone) {
    size_t at = 0;

    while (at < l->in_len) {
        struct frame f;
        int64_t took = frame_decode(l->in + at, l->in_len - at, &f);
        if (took < 0) {
            link_closed(l, EPROTO);
            return false;
        }
        if (took == 0)
            break;
        at += (size_t)took;
        l->ev.frame(l->arg, &f);
        if (*gone)
            return false;
    }
    memmove(l->in, l->in + at, l->in_len - at);
    l->in_len -= at;
    return true;
}

/* Makes room for the rest of the frame at the head of the buffer, or for READ_MIN bytes of new frames. */
static int link_room(struct link *l) {
    size_t want = l->in_len + READ_MIN;

    if (l->in_len >= FRAME_HEADER) {
        uint32_t size;
        memcpy(&size, l->in, sizeof(size));
        want = FRAME_HEADER + (size_t)le32toh(size); /* at most READ_CAP: link_deliver has seen this header */
    }
    if (want > READ_CAP)
        want = READ_CAP;
    if (want <= l->in_cap)
        return 0;
    uint8_t *bigger = realloc(l->in, want);
    if (!bigger)
        return -ENOMEM;
    l->in = bigger;
    l->in_cap = want;
    return 0;
}

static ssize_t link_recv(struct link *l, void *to, size_t room) {
    if (l->tls)
        return tls_read(l->tls, to, room);
    ssize_t n = recv(l->fd, to, room, MSG_DONTWAIT);
    return n < 0 ? -errno : n;
}

/* The bytes that a link may read in this turn: it has its part of READ_ALL. */
static size_t link_share(struct link *l) {
    if (l->round == rounds.number) {
        rounds.number++;
        rounds.before = rounds.links;
        rounds.links = 0;
    }
    l->round = rounds.number;
    rounds.links++;
    size_t share = READ_ALL / (rounds.links > rounds.before ? rounds.links : rounds.before);
    if (share > READ_TURN)
        return READ_TURN;
    return share > READ_LEAST ? share : READ_LEAST;
}

/* Reads up to limit bytes; by_force: also while it is held. The link may be gone afterwards. */
static void link_read(struct link *l, size_t limit, bool by_force) {
    bool gone = false, more = true;
    size_t total = 0;

    assert(!l->gone); /* a callback of this link may not read this link */
    l->gone = &gone;  /* cppcheck-suppress autoVariables ; taken back at the end */
    while (more && total < limit && l->broken != -1 && (!l->held || by_force)) {
        if (link_room(l)) {
            link_closed(l, ENOMEM);
            break;
        }
        size_t room = l->in_cap - l->in_len;
        room = room < limit - total ? room : limit - total;
        ssize_t n = link_recv(l, l->in + l->in_len, room);
        if (n == -EINTR)
            continue;
        if (n <= 0) {
            int fate = n != -EAGAIN && l->conn ? tls_conn_fate(l->conn) : 0;
            more = false;
            if (l->broken > 0 || fate) /* told after the peer's last bytes were read */
                link_closed(l, fate ? fate : l->broken);
            else if (n == 0)
                link_closed(l, l->in_len ? ECONNRESET : 0);
            else if (n != -EAGAIN)
                link_closed(l, (int)-n);
            break;
        }
        l->in_len += (size_t)n;
        l->received += (size_t)n;
        total += (size_t)n;
        if (!link_deliver(l, &gone))
            break;
        if (!l->tls && (size_t)n < room && !l->broken)
            more = false; /* a short read means empty */
    }
    if (gone)
        return;
    l->gone = NULL;
    if (l->tls && tls_unsent(l->tls) && l->broken == 0 && !event_pending(l->writable, EV_WRITE, NULL))
        link_flush(l); /* TLS has written a message of its own */
    if (l->tls && more && !l->held && l->broken != -1)
        event_add(l->again, &(struct timeval){0});
}

static void on_readable(evutil_socket_t fd, short what, void *arg) {
    link_read(arg, link_share(arg), false);
}

static int link_init(struct link **out, struct event_base *base, int fd, struct tls_conn *conn,
                     const struct link_events *ev, void *arg) {
    struct tls_conn *tls = conn && !tls_conn_is_bare(conn) ? conn : NULL;
    struct link *l = calloc(1, sizeof(*l));
    int err = -ENOMEM;

    if (!l) {
        conn ? tls_conn_destroy(conn) : (void)close(fd);
        return err;
    }
    *l = (struct link){.fd = fd, .conn = conn, .tls = tls, .ev = *ev, .arg = arg};
    if (evutil_make_socket_nonblocking(fd)) {
        err = -errno;
        goto out;
    }
    l->out = evbuffer_new();
    l->readable = event_new(base, fd, EV_READ | EV_PERSIST, on_readable, l);
    l->writable = event_new(base, fd, EV_WRITE | EV_PERSIST, on_writable, l);
    if (tls)
        l->again = evtimer_new(base, on_readable, l);
    if (!l->out || !l->readable || !l->writable || (tls && !l->again) || event_add(l->readable, NULL))
        goto out;
    if (tls)
        event_active(l->readable, EV_READ, 0); /* frames may have come with the end of the handshake */
    *out = l;
    return 0;
out:
    link_destroy(l);
    return err;
}

int link_create(struct link **out, struct event_base *base, int fd, const struct link_events *ev, void *arg) {
    return link_init(out, base, fd, NULL, ev, arg);
}

int link_create_tls(struct link **out, struct event_base *base, struct tls_conn *conn, const struct link_events *ev,
                    void *arg) {
    return link_init(out, base, tls_conn_fd(conn), conn, ev, arg);
}

void link_watch(struct link *l, const struct link_events *ev, void *arg) {
    l->ev = *ev;
    l->arg = arg;
}

void link_destroy(struct link *l) {
    if (!l)
        return;
    if (l->gone)
        *l->gone = true;
    event_drop(l->readable);
    event_drop(l->writable);
    event_drop(l->again);
    link_files_drop(&l->files);
    if (l->out)
        evbuffer_free(l->out);
    free(l->in);
    if (l->conn)
        tls_conn_destroy(l->conn);
    else
        close(l->fd);
    free(l);
}

/* Bytes were queued; try: the socket may take them. */
static void link_queued(struct link *l, bool try) {
    if (l->corked)
        return;
    if (try)
        link_flush(l);
    else
        event_add(l->writable, NULL);
}

int link_send(struct link *l, uint8_t kind, uint64_t id, const void *body, uint32_t size) {
    uint8_t header[FRAME_HEADER];
    struct iovec parts[2] = {{header, FRAME_HEADER}, {(void *)body, size}};
    struct msghdr msg = {.msg_iov = parts, .msg_iovlen = size ? 2 : 1};
    size_t done = 0;

    if (l->broken)
        return -EPIPE;
    frame_encode(header, kind, id, size);
    l->given += sizeof(header) + size;
    bool first = !link_pending(l);
    if (!l->corked && first && !l->tls) {
        ssize_t sent = sendmsg(l->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno != EAGAIN && errno != EINTR) {
            link_broke(l, errno);
            return 0; /* accepted; that the peer has failed is told by closed() */
        }
        done = sent > 0 ? (size_t)sent : 0;
        if (done == FRAME_HEADER + (size_t)size)
            return 0;
    }
    size_t head = done < FRAME_HEADER ? done : FRAME_HEADER;
    size_t tail = done - head;
    if (evbuffer_expand(l->out, FRAME_HEADER + (size_t)size - done)) {
        if (!done)
            return -ENOMEM;
        link_broke(l, ENOMEM); /* half a frame is out: the stream cannot be saved */
        return 0;
    }
    evbuffer_add(l->out, header + head, FRAME_HEADER - head);
    if (size > tail)
        evbuffer_add(l->out, (const uint8_t *)body + tail, size - tail);
    link_queued(l, first && l->tls); /* a bare socket was tried above */
    return 0;
}

static void let_go(const void *bytes, size_t size, void *arg) {
    shared_buffer_release(arg);
}

int link_send_shared(struct link *l, uint8_t kind, uint64_t id, const void *body, uint32_t size,
                     struct shared_buffer *shared) {
    uint8_t header[FRAME_HEADER];
    bool first = !link_pending(l);

    if (!shared || size <= SMALL)
        return link_send(l, kind, id, body, size);
    if (l->broken)
        return -EPIPE;
    struct evbuffer *frame = evbuffer_new(); /* header and body, or nothing */
    if (!frame)
        return -ENOMEM;
    frame_encode(header, kind, id, size);
    int err = evbuffer_add(frame, header, FRAME_HEADER) ? -ENOMEM : 0;
    if (!err && evbuffer_add_reference(frame, body, size, let_go, shared))
        err = -ENOMEM;
    else if (!err)
        shared_buffer_hold(shared);
    if (!err && evbuffer_add_buffer(l->out, frame))
        err = -ENOMEM;
    evbuffer_free(frame);
    if (err)
        return err;
    l->given += sizeof(header) + size;
    link_queued(l, first);
    return 0;
}

int link_send_file(struct link *l, uint8_t kind, uint64_t id, const void *body, uint32_t size,
                   struct shared_buffer *shared) {
    uint8_t header[FRAME_HEADER];
    bool first = !link_pending(l);

    if (l->broken)
        return -EPIPE;
    if (l->files.count == LINK_FILES)
        return -EAGAIN;
    if (evbuffer_expand(l->out, FRAME_HEADER + (size_t)size))
        return -ENOMEM;
    frame_encode(header, kind, id, size);
    evbuffer_add(l->out, header, FRAME_HEADER);
    evbuffer_add(l->out, body, size);
    l->files.of[l->files.count++] = shared_buffer_hold(shared);
    l->given += sizeof(header) + size;
    link_queued(l, first);
    return 0;
}

int link_lend(struct link *l, const void *frames, size_t size,
              void (*free_cb)(const void *frames, size_t size, void *arg), void *arg) {
    bool first = !link_pending(l);

    if (l->broken)
        return -EPIPE;
    if (size <= SMALL) {
        if (evbuffer_add(l->out, frames, size))
            return -ENOMEM;
        free_cb(frames, size, arg);
    } else if (evbuffer_add_reference(l->out, frames, size, free_cb, arg)) {
        return -ENOMEM;
    }
    l->given += size;
    link_queued(l, first);
    return 0;
}

void link_cork(struct link *l) {
    l->corked++;
}

void link_uncork(struct link *l) {
    assert(l->corked);
    if (--l->corked == 0)
        link_flush(l);
}

size_t link_pending(const struct link *l) {
    return evbuffer_get_length(l->out) + (l->tls ? tls_unsent(l->tls) : 0);
}

uint64_t link_received(const struct link *l) {
    return l->received;
}

uint64_t link_given(const struct link *l) {
    return l->given;
}

void link_hold(struct link *l, bool hold) {
    if (l->held == hold || l->broken == -1)
        return;
    l->held = hold;
    if (hold)
        event_del(l->readable);
    else
        event_add(l->readable, NULL);
    if (!hold && (l->tls || l->broken))
        event_active(l->readable, EV_READ, 0);
}

void link_drain(struct link *l) {
    int waits = 0;

    ioctl(l->fd, FIONREAD, &waits); /* who goes on writing keeps nobody here */
    link_read(l, (size_t)waits + 1, true);
}
