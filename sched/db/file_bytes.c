/* Bytes of a file that is open, however often the kernel has to be asked. */
#include "sched/db/file_bytes.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "net/io.h"

#define COPY_MAX (1u << 30) /* bytes that are asked of the kernel at once */

int64_t file_write_summed(int fd, const void *bytes, size_t size, uint64_t offset, struct sums *sums) {
    int64_t rc = io_write(fd, bytes, size, (int64_t)offset);
    return rc == 0 && sums ? sums_add(sums, bytes, size, offset) : rc;
}

int64_t file_read_once(int fd, void *buf, size_t size, uint64_t offset, int flags) {
    struct iovec v = {buf, size};
    ssize_t n = flags ? preadv2(fd, &v, 1, (off_t)offset, flags) : io_read(fd, buf, size, (int64_t)offset);
    return n < 0 && flags ? -errno : n;
}

/* The blocks whole, for only they have sums. */
int64_t file_read_checked(int fd, const struct part *p, void *buf, size_t size, uint64_t offset, int flags) {
    uint64_t end = p->start + p->size, left = offset < end ? end - offset : 0;
    size_t n = left < size ? (size_t)left : size;
    char *bytes = p->start == offset && p->size <= size ? buf : malloc(p->size);
    int64_t rc = bytes ? file_read_once(fd, bytes, p->size, p->start, flags) : -ENOMEM;
    if (rc >= 0 && (uint64_t)rc < p->size)
        rc = flags ? -EAGAIN : -EIO;
    if (rc >= 0)
        rc = part_check(p, bytes);
    if (rc == 0 && bytes != buf)
        memcpy(buf, bytes + (offset - p->start), n);
    if (bytes != buf)
        free(bytes);
    return rc < 0 ? rc : (int64_t)n;
}

static bool cannot_copy(int err) {
    return err == EXDEV || err == ENOSYS || err == EINVAL || err == EOPNOTSUPP;
}

/* Where the kernel or the filesystem does not copy by itself. Returns the bytes, 0 at the end. */
static int64_t copy_piece(int from, int to, size_t size, uint64_t from_at, uint64_t to_at) {
    char bytes[16384];
    int64_t n = io_read(from, bytes, size < sizeof bytes ? size : sizeof bytes, (int64_t)from_at);
    int64_t rc = n > 0 ? io_write(to, bytes, (size_t)n, (int64_t)to_at) : n;
    return rc < 0 ? rc : n;
}

int64_t file_copy_range(int from, int to, uint64_t size, uint64_t from_at, uint64_t to_at) {
    bool by_hand = false;
    uint64_t have = 0;
    while (have < size) {
        off_t in = (off_t)(from_at + have), out = (off_t)(to_at + have);
        size_t piece = size - have < COPY_MAX ? (size_t)(size - have) : COPY_MAX;
        int64_t n = by_hand ? copy_piece(from, to, piece, (uint64_t)in, (uint64_t)out)
                            : copy_file_range(from, &in, to, &out, piece, 0);
        if (n == 0)
            break;
        if (n > 0)
            have += (uint64_t)n;
        else if (!by_hand && cannot_copy(errno))
            by_hand = true;
        else if (by_hand || errno != EINTR)
            return by_hand ? n : -errno;
    }
    return (int64_t)have;
}
