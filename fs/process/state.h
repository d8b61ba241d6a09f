/* The state directory and its lock. */
#ifndef PPFS_STATE_H
#define PPFS_STATE_H
#include <stddef.h>

/* Which directory it is: *path is malloc'd. given: --state or NULL. */
int state_path(const char *given, char **path, char *why, size_t why_size);
/* Makes it (0700), resolves it (*path is malloc'd and absolute) and opens it: a descriptor for the calls below, or
 * -errno. Refused where another user has a hand in it or in what leads to it (net/trusted.h), and where a file in it is
 * a symbolic link. */
int state_open(const char *dir, char **path, char *why, size_t why_size);
/* Takes the file lock in the directory, whose path is for sentences: its descriptor, which forked children share (and
 * keep the lock by) and exec'd ones do not. Refused while another ppfs has it; one that is on its way out is waited
 * for. */
int state_lock(int directory, const char *path, char *why, size_t why_size);
/* Writes our pid into it, and where we mount into the file mounted, for the message above. */
void state_lock_sign(int lock, int directory, const char *mountpoint);
#endif
