/* The state directory and its lock. */
#ifndef PPFS_STATE_H
#define PPFS_STATE_H
#include <stddef.h>

/* Which directory it is: *path is malloc'd. given: --state or NULL. */
int state_path(const char *given, char **path, char *why, size_t why_size);
/* Makes it (0700) and resolves it: *path is malloc'd and absolute. */
int state_open(const char *dir, char **path, char *why, size_t why_size);
/* Takes DIR/lock: its descriptor, which forked children share (and keep the lock by) and exec'd ones do not. Refused
 * while another ppfs has it; one that is on its way out is waited for. */
int state_lock(const char *dir, char *why, size_t why_size);
/* Writes our pid into it, and where we mount into DIR/mounted, for the message above. */
void state_lock_sign(int lock, const char *dir, const char *mountpoint);
#endif
