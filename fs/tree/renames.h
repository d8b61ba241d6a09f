/* A process finds the job that it has just renamed or made as a copy under its name in jobs/, even if the job has ended
 * since: mv, install and editors look the name up once more and take ENOENT for a loss. This holds for that process
 * (thread) alone, for its first look-up and one second after it, and not after it has asked for anything else, for then
 * it wants to know whether the job has ended. Lost with the daemon. */
#ifndef PPFS_FS_RENAMES_H
#define PPFS_FS_RENAMES_H
#include "fs/fs.h"

void renames_note(struct fs *fs, pid_t pid, uint64_t group, const char *name);
void renames_end(struct fs *fs, pid_t pid);
bool renames_has(struct fs *fs, pid_t pid, uint64_t group, const char *name);
void renames_found(struct fs *fs, pid_t pid);
#endif
