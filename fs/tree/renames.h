/* What a process has renamed, or made as a copy, it finds under that name though the job has ended meanwhile: mv,
 * install and editors look at the name that they have just given, and take ENOENT for a loss. Only that process
 * (thread), and for its first look, with what follows within a second; not when it has asked for anything else since:
 * then it wants to know what became of the job. Lost with the daemon. */
#ifndef PPFS_FS_RENAMES_H
#define PPFS_FS_RENAMES_H
#include "fs/fs.h"

void renames_note(struct fs *fs, pid_t pid, uint64_t group, const char *name);
void renames_end(struct fs *fs, pid_t pid);
bool renames_has(struct fs *fs, pid_t pid, uint64_t group, const char *name);
void renames_found(struct fs *fs, pid_t pid);
#endif
