/* Requests under way, kept where the next daemon finds them: for a kernel that cannot send unanswered requests again
 * (before Linux 6.9, FUSE 7.40). Each is noted when it has been read and taken out when its answer is written; what a
 * killed daemon leaves behind, the next one handles once more from the copy. A request too large for that (a write, as
 * a rule) is answered EIO. One that a daemon dies over in the instant of reading or answering it stays unanswered until
 * it is interrupted. */
#ifndef PPFS_JOURNAL_H
#define PPFS_JOURNAL_H
#include "fs/fs.h"

/* From the INIT handler. minor: of the kernel's FUSE protocol. Notes requests from here on where the kernel needs that,
 * or asked says so (the option no_resend). */
void journal_begin(struct fs *fs, unsigned minor, bool asked);
bool journal_kept(const struct fs *fs);
void journal_note(struct fs *fs, const void *bytes, size_t size); /* a request that was read */
/* Handles again what the daemon before us left, oldest first. */
void journal_replay(struct fs *fs, void (*handle)(struct fs *fs, const void *bytes, size_t size));
#endif
