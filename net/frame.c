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

int64_t frame_decode(const uint8_t *bytes, size_t len, struct frame *out) {
    uint32_t size;
    uint64_t id;

    if (len < FRAME_HEADER)
        return 0;
    memcpy(&size, bytes, sizeof(size));
    memcpy(&id, bytes + 8, sizeof(id));
    size = le32toh(size);
    if (size > FRAME_BODY_MAX || bytes[5] || bytes[6] || bytes[7])
        return -EPROTO;
    if (len - FRAME_HEADER < size)
        return 0;
    *out = (struct frame){.kind = bytes[4], .id = le64toh(id), .body = bytes + FRAME_HEADER, .size = size};
    return (int64_t)FRAME_HEADER + size;
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
    uint32_t size;
    int err = read_exactly(fd, header, FRAME_HEADER);

    if (err)
        return err;
    memcpy(&size, header, sizeof(size));
    size = le32toh(size);
    if (size <= FRAME_BODY_MAX && size > cap)
        return -EMSGSIZE;
    /* Decoding the header alone checks it; 0 only says that the body is still to come. */
    if (frame_decode(header, FRAME_HEADER, out) < 0)
        return -EPROTO;
    *out = (struct frame){.kind = header[4], .body = buf, .size = size};
    memcpy(&out->id, header + 8, sizeof(out->id));
    out->id = le64toh(out->id);
    if (size) {
        err = read_exactly(fd, buf, size);
        if (err == -EPIPE)
            err = -EPROTO; /* a header without its body */
    }
    return err;
}
