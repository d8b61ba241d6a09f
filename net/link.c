/* Frames over a connected stream socket in a libevent loop.
 *
 * Out: what the socket does not take at once waits in an evbuffer, and EV_WRITE is armed only while it is not empty.
 * In: one growing buffer, never larger than one frame and what was read with it. A turn reads READ_TURN bytes at most,
 * so that a peer that sends without end leaves the others their turn.
 * An error while sending never calls back from inside link_send: it is remembered, and the read event made active.
 * link_destroy inside a callback: the reader that called it notices through *gone, which is on its stack. */
#include "net/link.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <event2/buffer.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

enum { READ_MIN = 16 * 1024, READ_TURN = 256 * 1024, READ_CAP = FRAME_HEADER + FRAME_BODY_MAX };

struct link {
    int fd;
    struct link_events ev;
    void *arg;
    struct event *readable, *writable;
    struct evbuffer *out;
    uint8_t *in;
    size_t in_cap, in_len;
    int broken; /* errno of a failed send, told at the next turn; -1 when closed() has been called */
    unsigned corked;
    bool held;
    bool *gone;
};

static void link_closed(struct link *l, int err) {
    if (l->broken == -1)
        return;
    l->broken = -1;
    event_del(l->readable);
    event_del(l->writable);
    l->ev.closed(l->arg, err);
}

/* Writes what waits. After it, the write event is armed exactly when something still waits. */
static void link_flush(struct link *l) {
    while (!l->broken && evbuffer_get_length(l->out)) {
        struct evbuffer_iovec parts[16];
        int n = evbuffer_peek(l->out, -1, NULL, parts, 16);
        if (n > 16)
            n = 16;
        struct msghdr msg = {.msg_iov = (struct iovec *)parts, .msg_iovlen = (size_t)n};
        ssize_t sent = sendmsg(l->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent >= 0) {
            evbuffer_drain(l->out, (size_t)sent);
        } else if (errno == EAGAIN) {
            event_add(l->writable, NULL);
            return;
        } else if (errno != EINTR) {
            l->broken = errno;
            event_active(l->readable, EV_READ, 0);
        }
    }
    event_del(l->writable);
}

static void on_writable(evutil_socket_t fd, short what, void *arg) {
    (void)fd;
    (void)what;
    link_flush(arg);
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

/* Room for what the frame at the head of the buffer still lacks, or for READ_MIN bytes of something new. */
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

/* Reads up to limit bytes. The link may be gone afterwards. */
static void link_read(struct link *l, size_t limit) {
    bool gone = false;

    assert(!l->gone); /* a callback of this link may not read this link */
    l->gone = &gone; /* cppcheck-suppress autoVariables ; taken back at the end */
    for (size_t total = 0; total < limit && l->broken != -1;) {
        if (l->broken > 0) {
            link_closed(l, l->broken);
            break;
        }
        if (link_room(l)) {
            link_closed(l, ENOMEM);
            break;
        }
        size_t room = l->in_cap - l->in_len;
        ssize_t n = recv(l->fd, l->in + l->in_len, room, MSG_DONTWAIT);
        if (n < 0) {
            if (errno == EINTR)
                continue;
            if (errno != EAGAIN)
                link_closed(l, errno);
            break;
        }
        if (n == 0) {
            link_closed(l, l->in_len ? EPROTO : 0);
            break;
        }
        l->in_len += (size_t)n;
        total += (size_t)n;
        if (!link_deliver(l, &gone) || (size_t)n < room)
            break; /* a short read means empty: no further read just to be told so */
    }
    if (!gone)
        l->gone = NULL;
}

static void on_readable(evutil_socket_t fd, short what, void *arg) {
    (void)fd;
    (void)what;
    link_read(arg, READ_TURN);
}

int link_create(struct link **out, struct event_base *base, int fd, const struct link_events *ev, void *arg) {
    struct link *l = calloc(1, sizeof(*l));
    int err = -ENOMEM;

    if (!l) {
        close(fd);
        return err;
    }
    *l = (struct link){.fd = fd, .ev = *ev, .arg = arg};
    if (evutil_make_socket_nonblocking(fd)) {
        err = -errno;
        goto out;
    }
    l->out = evbuffer_new();
    l->readable = event_new(base, fd, EV_READ | EV_PERSIST, on_readable, l);
    l->writable = event_new(base, fd, EV_WRITE | EV_PERSIST, on_writable, l);
    if (!l->out || !l->readable || !l->writable || event_add(l->readable, NULL))
        goto out;
    *out = l;
    return 0;
out:
    link_destroy(l);
    return err;
}

void link_destroy(struct link *l) {
    int saved = errno;

    if (!l)
        return;
    if (l->gone)
        *l->gone = true;
    if (l->readable)
        event_free(l->readable);
    if (l->writable)
        event_free(l->writable);
    if (l->out)
        evbuffer_free(l->out);
    free(l->in);
    close(l->fd);
    free(l);
    errno = saved;
}

int link_send(struct link *l, uint8_t kind, uint64_t id, const void *body, uint32_t size) {
    uint8_t header[FRAME_HEADER];
    struct iovec parts[2] = {{header, FRAME_HEADER}, {(void *)body, size}};
    struct msghdr msg = {.msg_iov = parts, .msg_iovlen = size ? 2 : 1};
    size_t done = 0;

    if (l->broken)
        return -EPIPE;
    frame_encode(header, kind, id, size);
    if (!l->corked && !evbuffer_get_length(l->out)) {
        ssize_t sent = sendmsg(l->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno != EAGAIN && errno != EINTR) {
            l->broken = errno;
            event_active(l->readable, EV_READ, 0);
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
        l->broken = ENOMEM; /* half a frame is out: the stream cannot be saved */
        event_active(l->readable, EV_READ, 0);
        return 0;
    }
    evbuffer_add(l->out, header + head, FRAME_HEADER - head);
    if (size > tail)
        evbuffer_add(l->out, (const uint8_t *)body + tail, size - tail);
    if (!l->corked)
        event_add(l->writable, NULL);
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
    return evbuffer_get_length(l->out);
}

void link_hold(struct link *l, bool hold) {
    if (l->held == hold || l->broken == -1)
        return;
    l->held = hold;
    if (hold)
        event_del(l->readable);
    else
        event_add(l->readable, NULL);
}

void link_drain(struct link *l) {
    link_read(l, SIZE_MAX);
}
