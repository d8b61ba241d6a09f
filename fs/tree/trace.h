/* The file trace.json: what has run, as a timeline in the Trace Event Format. See struct kind_ops. */
#ifndef PPFS_FS_TRACE_H
#define PPFS_FS_TRACE_H
#include "fs/tree/feed.h"

enum feed_rc trace_feed(struct fs *fs, struct feed *f, FILE *out, size_t size);
#endif
