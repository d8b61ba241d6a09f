/* Which job a process copies. A process that has info/NAME/spec open while it makes a job file submits the job NAME
 * again, and the copy runs in the directory of NAME, not in that of the process. The table is lost with the daemon;
 * later copies run in the directory of the process. */
#ifndef PPFS_FS_COPIES_H
#define PPFS_FS_COPIES_H
#include "fs/fs.h"

void copies_opened(struct fs *fs, pid_t pid, uint64_t fh, uint64_t job);
void copies_closed(struct fs *fs, uint64_t fh); /* of any handle */
/* the job of the spec that it opened last and still has open; 0: none */
uint64_t copies_of(const struct fs *fs, pid_t pid);
#endif
