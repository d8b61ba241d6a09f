/* The events: of all jobs and nodes (events, events?since=TIME), of a job (info/NAME/events), of a group
 * (info/G/.events). See struct kind_ops. */
#ifndef PPFS_FS_EVENTS_H
#define PPFS_FS_EVENTS_H
#include "fs/tree/feed.h"

/* Look-up in the top directory: events?since=TIME, whose inode has that time for its id. */
int events_lookup(struct fs *fs, fuse_ino_t dir, const char *name, fuse_ino_t *out);
void events_begin(struct fs *fs, struct feed *f);
enum feed_rc events_feed(struct fs *fs, struct feed *f, FILE *out, size_t size);
#endif
