/* A file without a name that is written by the disk thread while its bytes come to the loop. What waits for the disk is
 * in memory: who adds looks at sink_kept. */
#ifndef PPFS_SINK_H
#define PPFS_SINK_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "worker/runner/disk.h"

struct sink;

/* The file is made in dir. progress comes from the loop when something was kept, or nothing more can be. 0 or -ENOMEM.
 * */
int sink_open(struct sink **out, struct disk *disk, const char *dir, void (*progress)(void *arg), void *arg);
int sink_add(struct sink *s, const void *bytes, size_t size); /* copied. 0 or -ENOMEM */
uint32_t sink_kept(const struct sink *s);                     /* how many of the sink_add are in the file */
bool sink_idle(const struct sink *s);                         /* all of them are, or there was an error */
int sink_error(const struct sink *s);                         /* 0, or -errno: it cannot be made or written */
int sink_fd(const struct sink *s); /* the sink's own, for when it is idle without an error; it stands at the end */
void sink_close(struct sink *s); /* progress comes no more; the file is closed when the thread is done. Accepts NULL */
#endif
