/* A disk thread: what may wait for a disk (fsync, large files) happens there, in order, and comes back as an event.
 * It never touches what the loop has: a task carries what it needs. */
#ifndef PPFS_DISK_H
#define PPFS_DISK_H
#include <event2/event.h>
#include <stdint.h>
#include <sys/queue.h>

struct disk;

struct disk_task {
    void (*work)(struct disk_task *t); /* in the disk thread */
    void (*done)(struct disk_task *t); /* in the loop; frees the task */
    TAILQ_ENTRY(disk_task) next;
    uint32_t owner; /* of disk_submit_long */
};

int disk_create(struct disk **out, struct event_base *base);
void disk_destroy(struct disk *d); /* works off everything first; accepts NULL */
void disk_submit(struct disk *d, struct disk_task *t);
/* The same for a task that a user can make long, such as reading a text of many MiB: it is done when nothing else is
 * left to do, and owners take turns. A task that is submitted later may be done before it. */
void disk_submit_long(struct disk *d, struct disk_task *t, uint32_t owner);
#endif
