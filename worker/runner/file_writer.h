/* A file writer: the disk thread writes an unnamed file while its bytes come to the loop. Bytes that wait for the disk
 * are in memory, so the caller checks file_writer_kept before it adds more. */
#ifndef PPFS_FILE_WRITER_H
#define PPFS_FILE_WRITER_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "worker/runner/disk.h"

struct file_writer;

/* Makes the file in dir. progress comes from the loop after each write, and after an error. 0 or -ENOMEM. */
int file_writer_open(struct file_writer **out, struct disk *disk, const char *dir, void (*progress)(void *arg),
                     void *arg);
int file_writer_add(struct file_writer *s, const void *bytes, size_t size); /* copied. 0 or -ENOMEM */
uint32_t
file_writer_kept(const struct file_writer *s);      /* number of file_writer_add calls whose bytes are in the file */
bool file_writer_idle(const struct file_writer *s); /* all bytes are in the file, or there was an error */
int file_writer_error(const struct file_writer *s); /* 0, or -errno: it could not be made or written */
/* owned by the writer, for use when it is idle without an error; its offset is the end */
int file_writer_fd(const struct file_writer *s);
/* no more progress; the file is closed when the thread is done. Accepts NULL */
void file_writer_close(struct file_writer *s);
#endif
