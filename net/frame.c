/* The frame format of frame.h: the only place that knows the header's layout. Nothing here allocates. */
#include "net/frame.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

void frame_encode(uint8_t header[FRAME_HEADER], uint8_t kind, uint64_t id, uint32_t size) {
    assert(size <= FRAME_BODY_MAX);
    uint32_t size_le = htole32(size);
    uint64_t id_le = htole64(id);

    memcpy(header, &size_le, sizeof(size_le));
    header[4] = kind;
    memset(header + 5, 0, 3);
    memcpy(header + 8, &id_le, sizeof(id_le));
}

int frame_header(const uint8_t header[FRAME_HEADER], struct frame *out) {
    uint32_t size;
    uint64_t id;

    memcpy(&size, header, sizeof(size));
    memcpy(&id, header + 8, sizeof(id));
    *out = (struct frame){.kind = header[4], .id = le64toh(id), .size = le32toh(size)};
    return out->size > FRAME_BODY_MAX || header[5] || header[6] || header[7] ? -EPROTO : 0;
}

int64_t frame_decode(const uint8_t *bytes, size_t len, struct frame *out) {
    struct frame f;

    if (len < FRAME_HEADER)
        return 0;
    if (frame_header(bytes, &f))
        return -EPROTO;
    if (len - FRAME_HEADER < f.size)
        return 0;
    f.body = bytes + FRAME_HEADER;
    *out = f;
    return (int64_t)FRAME_HEADER + f.size;
}

int frame_send(int fd, uint8_t kind, uint64_t id, const void *body, uint32_t size) {
    uint8_t header[FRAME_HEADER];
    struct iovec parts[2] = {{header, FRAME_HEADER}, {(void *)body, size}};
    struct msghdr msg = {.msg_iov = parts, .msg_iovlen = size ? 2 : 1};

    frame_encode(header, kind, id, size);
    while (msg.msg_iovlen) {
        ssize_t sent = sendmsg(fd, &msg, MSG_NOSIGNAL);
        if (sent < 0) {
            if (errno == EINTR)
                continue;
            return -errno;
        }
        while (msg.msg_iovlen && (size_t)sent >= msg.msg_iov->iov_len) {
            sent -= (ssize_t)msg.msg_iov->iov_len;
            msg.msg_iov++;
            msg.msg_iovlen--;
        }
        if (msg.msg_iovlen) {
            msg.msg_iov->iov_base = (uint8_t *)msg.msg_iov->iov_base + sent;
            msg.msg_iov->iov_len -= (size_t)sent;
        }
    }
    return 0;
}

/* Reads exactly len bytes. 0, -EPIPE when the peer has ended before the first, -EPROTO when it ended after it. */
static int read_exactly(int fd, uint8_t *to, size_t len) {
    size_t have = 0;

    while (have < len) {
        ssize_t n = read(fd, to + have, len - have);
        if (n > 0)
            have += (size_t)n;
        else if (n == 0)
            return have ? -EPROTO : -EPIPE;
        else if (errno != EINTR)
            return -errno;
    }
    return 0;
}

int frame_read(int fd, void *buf, size_t cap, struct frame *out) {
    uint8_t header[FRAME_HEADER];
    struct frame f;
    int err = read_exactly(fd, header, FRAME_HEADER);

    if (!err && frame_header(header, &f))
        err = -EPROTO;
    if (!err && f.size > cap)
        err = -EMSGSIZE;
    if (!err && f.size) {
        err = read_exactly(fd, buf, f.size);
        if (err == -EPIPE)
            err = -EPROTO; /* a header without its body */
    }
    if (err)
        return err;
    f.body = buf;
    *out = f;
    return 0;
}
