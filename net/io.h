/* Bytes of a descriptor that blocks, however often the kernel has to be asked; and messages with descriptors. */
#ifndef PPFS_IO_H
#define PPFS_IO_H
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define IO_NEXT (-1) /* in the place of an offset: where the descriptor stands */

/* All of them. 0 or -errno, which errno has, too. */
int io_write(int fd, const void *bytes, size_t size, int64_t offset);
/* Bytes, fewer at the end, or -errno. */
int64_t io_read(int fd, void *buf, size_t size, int64_t offset);
/* The beginning of a file, as of /proc, as text with a final zero; "" where there is none. Its bytes or -errno. */
int64_t io_read_text(const char *path, char *buf, size_t size);

#define IO_FDS 4 /* descriptors in a message, at most */
/* One message of a SOCK_SEQPACKET socket, now or not at all; the descriptors stay the caller's. 0 or -errno. */
int io_send(int fd, const void *bytes, size_t size, const int *fds, unsigned count);
/* The size of the next message (0: the end), or -errno; -EMSGSIZE: it was longer. fds: the descriptors that came with
 * it and for which this process had room, then -1. */
ssize_t io_receive(int fd, void *buf, size_t size, int fds[IO_FDS]);
#endif
