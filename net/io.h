/* Bytes of a descriptor that blocks, however often the kernel has to be asked. */
#ifndef PPFS_IO_H
#define PPFS_IO_H
#include <stddef.h>
#include <stdint.h>

#define IO_NEXT (-1) /* in the place of an offset: where the descriptor stands */

int io_write(int fd, const void *bytes, size_t size,
             int64_t offset);                                    /* all of them. 0 or -errno, which errno has, too */
int64_t io_read(int fd, void *buf, size_t size, int64_t offset); /* bytes, fewer at the end, or -errno */
/* The beginning of a file, as of /proc, as text with a final zero; "" where there is none. Its bytes or -errno. */
int64_t io_read_text(const char *path, char *buf, size_t size);
#endif
