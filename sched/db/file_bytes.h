/* Bytes of a file that is open. Only sched/db includes this. */
#ifndef PPFS_FILE_BYTES_H
#define PPFS_FILE_BYTES_H
#include "sched/db/sums.h"

/* io_write, and adds them to the sums, if not NULL. 0 or -errno */
int64_t file_write_summed(int fd, const void *bytes, size_t size, uint64_t offset, struct sums *sums);
/* flags: of preadv2, with which fewer may come; 0: io_read */
int64_t file_read_once(int fd, void *buf, size_t size, uint64_t offset, int flags);
/* Bytes that are in those blocks. With flags -EAGAIN: not all were there; -EIO: they are not those that were
 * written. */
int64_t file_read_checked(int fd, const struct part *p, void *buf, size_t size, uint64_t offset, int flags);
/* Up to size bytes. Returns how many there were, or -errno. */
int64_t file_copy_range(int from, int to, uint64_t size, uint64_t from_at, uint64_t to_at);
#endif
