#include "net/io.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int io_write(int fd, const void *bytes, size_t size, int64_t offset) {
    for (size_t done = 0; done < size;) {
        const char *at = (const char *)bytes + done;
        ssize_t n =
            offset < 0 ? write(fd, at, size - done) : pwrite(fd, at, size - done, (off_t)(offset + (int64_t)done));
        if (n < 0 && errno != EINTR)
            return -errno;
        done += n > 0 ? (size_t)n : 0;
    }
    return 0;
}

int64_t io_read(int fd, void *buf, size_t size, int64_t offset) {
    size_t have = 0;
    for (ssize_t n = 1; n && have < size;) {
        char *at = (char *)buf + have;
        n = offset < 0 ? read(fd, at, size - have) : pread(fd, at, size - have, (off_t)(offset + (int64_t)have));
        if (n < 0 && errno != EINTR)
            return -errno;
        have += n > 0 ? (size_t)n : 0;
    }
    return (int64_t)have;
}

int64_t io_read_text(const char *path, char *buf, size_t size) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, buf, size - 1);
    int64_t rc = n < 0 ? -errno : n;

    if (fd >= 0)
        close(fd);
    buf[n > 0 ? n : 0] = '\0';
    return rc;
}

int io_send(int fd, const void *bytes, size_t size, const int *fds, unsigned count) {
    char room[CMSG_SPACE(IO_FDS * sizeof(int))] __attribute__((aligned(8))) = {0};
    struct iovec part = {(void *)bytes, size};
    struct msghdr msg = {.msg_iov = &part, .msg_iovlen = 1};

    if (count) {
        msg.msg_control = room;
        msg.msg_controllen = CMSG_SPACE(count * sizeof(int));
        struct cmsghdr *head = CMSG_FIRSTHDR(&msg);
        *head = (struct cmsghdr){
            .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(count * sizeof(int))};
        memcpy(CMSG_DATA(head), fds, count * sizeof(int));
    }
    while (sendmsg(fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
        if (errno != EINTR)
            return -errno;
    return 0;
}

/* Those beyond IO_FDS are closed. */
static void take_fds(struct msghdr *msg, int fds[IO_FDS]) {
    unsigned have = 0;

    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
        size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS && i < count; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
            if (have < IO_FDS)
                fds[have++] = fd;
            else
                close(fd);
        }
    }
}

ssize_t io_receive(int fd, void *buf, size_t size, int fds[IO_FDS]) {
    char room[CMSG_SPACE(IO_FDS * sizeof(int))] __attribute__((aligned(8)));
    struct iovec part = {buf, size};
    struct msghdr msg = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof(room)};
    ssize_t n;

    for (unsigned i = 0; i < IO_FDS; i++)
        fds[i] = -1;
    do
        n = recvmsg(fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return -errno;
    take_fds(&msg, fds);
    return msg.msg_flags & MSG_TRUNC ? -EMSGSIZE : n;
}
