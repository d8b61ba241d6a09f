/* How things are at this moment: stats for people, stats.json for programs, metrics.prom for Prometheus. */
#ifndef PPFS_STATS_H
#define PPFS_STATS_H
#include <stdio.h>

#include "fs/fs.h"

int stats_text(struct fs *fs, fuse_ino_t ino, FILE *out);
int stats_json(struct fs *fs, fuse_ino_t ino, FILE *out);
int stats_json_up_to(struct fs *fs, FILE *out, size_t limit); /* no node is added beyond so many bytes; 0: all are */
int stats_metrics(struct fs *fs, fuse_ino_t ino, FILE *out);
#endif
