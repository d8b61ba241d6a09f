/* The state directory and its lock. */
#ifndef PPFS_STATE_H
#define PPFS_STATE_H
#include <stddef.h>

/* Makes (0700) and resolves the directory: *path is malloc'd and absolute. given: --state or NULL. */
int state_open(const char *given, char **path, char *why, size_t why_size);
/* Takes DIR/lock: its descriptor, which forked children share (and keep the lock by) and exec'd ones do not. Refused
 * while another ppfs has it. */
int state_lock(const char *dir, char *why, size_t why_size);
void state_lock_sign(int lock); /* writes our pid into it, for the message above */
#endif
