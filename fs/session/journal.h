/* The request journal: copies of unanswered requests in shared memory, for kernels that cannot send these again (before
 * Linux 6.9, FUSE 7.40). A request is added when it has been read and removed when its answer is written; the next
 * daemon handles the entries of a killed one. A request too large for an entry (usually a write) is answered EIO. A
 * request stays unanswered until it is interrupted if the daemon dies in the instant of reading or answering it. */
#ifndef PPFS_JOURNAL_H
#define PPFS_JOURNAL_H
#include "fs/fs.h"

/* Called by the INIT handler. minor: of the kernel's FUSE protocol. Adds requests from here on if the kernel needs
 * that, or if asked (the option no_resend). */
void journal_begin(struct fs *fs, unsigned minor, bool asked);
bool journal_kept(const struct fs *fs);
void journal_note(struct fs *fs, const void *bytes, size_t size); /* a request that was read */
/* Handles the entries of the last daemon, oldest first. */
void journal_replay(struct fs *fs, void (*handle)(struct fs *fs, const void *bytes, size_t size));
#endif
