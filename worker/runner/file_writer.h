/* A file without a name that is written by the disk thread while its bytes come to the loop. What waits for the disk is
 * in memory: who adds looks at file_writer_kept. */
#ifndef PPFS_FILE_WRITER_H
#define PPFS_FILE_WRITER_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "worker/runner/disk.h"

struct file_writer;

/* The file is made in dir. progress comes from the loop when something was kept, or nothing more can be. 0 or -ENOMEM.
 * */
int file_writer_open(struct file_writer **out, struct disk *disk, const char *dir, void (*progress)(void *arg),
                     void *arg);
int file_writer_add(struct file_writer *s, const void *bytes, size_t size); /* copied. 0 or -ENOMEM */
uint32_t file_writer_kept(const struct file_writer *s); /* how many of the file_writer_add are in the file */
bool file_writer_idle(const struct file_writer *s);     /* all of them are, or there was an error */
int file_writer_error(const struct file_writer *s);     /* 0, or -errno: it cannot be made or written */
int file_writer_fd(
    const struct file_writer *s); /* the writer's own, for when it is idle without an error; it stands at the end */
void file_writer_close(
    struct file_writer *s); /* progress comes no more; the file is closed when the thread is done. Accepts NULL */
#endif
