/* The turn: gather what is ready, commit, answer (fs/README.md). */
#ifndef PPFS_LOOP_H
#define PPFS_LOOP_H
#include "fs/fs.h"

/* Watches the FUSE descriptor and signals. Takes over from an earlier daemon (saved INIT, unanswered requests,
 * pollers). on_ready is called when INIT has been answered. 0 or -errno. */
int loop_create(struct fs *fs, struct shared *shared, void (*on_ready)(void *arg), void *arg);
void loop_destroy(struct loop *l); /* accepts NULL */

/* Until SIGTERM, SIGINT, SIGHUP or the unmount: 0. -errno: the FUSE descriptor failed. */
int loop_run(struct fs *fs);

/* Handles the bytes of a request once more. */
void loop_again(struct fs *fs, const void *bytes, size_t size);
/* Gives the caller the buffer of the current request, to be freed by the caller. NULL: given before. */
void *loop_keep(struct fs *fs);
#endif
