/* A disk thread: what may wait for a disk (fsync, large files) happens there, in order, and comes back as an event.
 * It never touches what the loop has: a task carries what it needs. */
#ifndef PPFS_DISK_H
#define PPFS_DISK_H
#include <event2/event.h>

struct disk;

struct disk_task {
    void (*work)(struct disk_task *t); /* in the disk thread */
    void (*done)(struct disk_task *t); /* in the loop; frees the task */
    struct disk_task *next;
};

int disk_create(struct disk **out, struct event_base *base);
void disk_destroy(struct disk *d); /* works off everything first; accepts NULL */
void disk_submit(struct disk *d, struct disk_task *t);
#endif
