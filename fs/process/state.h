/* The state directory and its lock. */
#ifndef PPFS_STATE_H
#define PPFS_STATE_H
#include <stddef.h>

/* The path of the state directory, malloc'd. given: --state or NULL. */
int state_path(const char *given, char **path, char *why, size_t why_size);
/* Makes it (0700), resolves it (*path is malloc'd and absolute) and opens it: a descriptor for the calls below, or
 * -errno. Refused if another user can write in it or in a directory above it (net/trusted.h), or if a file in it is a
 * symbolic link. */
int state_open(const char *dir, char **path, char *why, size_t why_size);
/* Removes one in which no job was ever written: of a mount that was refused. */
void state_remove(int directory, const char *path);
/* Takes the file lock in the directory; path is for messages. Returns its descriptor, which forked children share, and
 * with it the lock, and exec'd ones do not. Refused while another ppfs has it, but waits for one that is ending. */
int state_lock(int directory, const char *path, char *why, size_t why_size);
/* Writes our pid into it and our mountpoint into the file mounted, for that message. */
void state_lock_sign(int lock, int directory, const char *mountpoint);
#endif
