#include "net/io.h"

#include <errno.h>
#include <fcntl.h>
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
