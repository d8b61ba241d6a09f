/* A file that is read by the disk thread for who sends it from the loop: opening and reading it may take their time. At
 * most SOURCE_AHEAD bytes of it are in memory. */
#ifndef PPFS_SOURCE_H
#define PPFS_SOURCE_H
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "worker/runner/disk.h"

enum { SOURCE_AHEAD = 256 * 1024 };

struct source;

/* Begins to read. ready comes from the loop whenever source_peek has something new to say. 0 or -ENOMEM. */
int source_open(struct source **out, struct disk *disk, const char *path, void (*ready)(void *arg), void *arg);
/* The bytes that are there, valid until source_took or source_close; 0: its end; -EAGAIN: ready follows; -errno: it
 * cannot be opened or read (any further). */
ssize_t source_peek(const struct source *s, const uint8_t **bytes);
void source_took(struct source *s, size_t size); /* so many of them; after the last one it reads on */
void source_close(struct source *s); /* ready comes no more; the file is closed when the thread is done. Accepts NULL */
#endif
