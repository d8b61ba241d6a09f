/* A file that is read by the disk thread for who sends it from the loop: opening and reading it may take their time. At
 * most FILE_READER_AHEAD bytes of it are in memory. */
#ifndef PPFS_FILE_READER_H
#define PPFS_FILE_READER_H
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "worker/runner/disk.h"

enum { FILE_READER_AHEAD = 256 * 1024 };

struct file_reader;

/* Begins to read. ready comes from the loop whenever file_reader_peek has something new to say. 0 or -ENOMEM. */
int file_reader_open(struct file_reader **out, struct disk *disk, const char *path, void (*ready)(void *arg),
                     void *arg);
/* The bytes that are there, valid until file_reader_took or file_reader_close; 0: its end; -EAGAIN: ready follows;
 * -errno: it cannot be opened or read (any further). */
ssize_t file_reader_peek(const struct file_reader *s, const uint8_t **bytes);
void file_reader_took(struct file_reader *s, size_t size); /* so many of them; after the last one it reads on */
void file_reader_close(
    struct file_reader *s); /* ready comes no more; the file is closed when the thread is done. Accepts NULL */
#endif
