/* A file reader: the disk thread opens and reads a file that the loop sends, because both may block. At most
 * FILE_READER_AHEAD bytes are in memory. */
#ifndef PPFS_FILE_READER_H
#define PPFS_FILE_READER_H
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "worker/runner/disk.h"

enum { FILE_READER_AHEAD = 256 * 1024 };

struct file_reader;

/* Begins to read. ready comes from the loop whenever the result of file_reader_peek has changed. 0 or -ENOMEM. */
int file_reader_open(struct file_reader **out, struct disk *disk, const char *path, void (*ready)(void *arg),
                     void *arg);
/* The bytes in memory, valid until file_reader_took or file_reader_close; 0: end of file; -EAGAIN: ready follows;
 * -errno: opening or reading failed. */
ssize_t file_reader_peek(const struct file_reader *s, const uint8_t **bytes);
/* removes so many of the bytes in memory; after the last one it reads on */
void file_reader_took(struct file_reader *s, size_t size);
/* no more ready; the file is closed when the thread is done. Accepts NULL */
void file_reader_close(struct file_reader *s);
#endif
