/* Paths that nobody else has a hand in. Trusted are our effective user and root. A directory that only these may write
 * to keeps what was found in it; so a way that was looked at from / on stays the way it was. */
#ifndef PPFS_TRUSTED_H
#define PPFS_TRUSTED_H
#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>

/* Opens the directory (O_RDONLY). Each one on the way, and itself, belongs to who is trusted and is written by nobody
 * else, but for those on the way that are sticky, as /tmp is; each symbolic link on the way was made by who is trusted.
 * make: what is missing is made, mode 0700. A descriptor that the caller closes, or -errno and why: what is in the way,
 * without a full stop. */
int trusted_directory(const char *path, bool make, char *why, size_t why_size);
/* Whether all that lies in that directory belongs to who is trusted and is no symbolic link. 0, or -errno and why. */
int trusted_contents(int directory, char *why, size_t why_size);
/* Opens a regular file in that directory, made with mode 0600 where flags have O_CREAT; O_TRUNC empties it only once it
 * is known to be ours. A descriptor, or -errno: -ELOOP a symbolic link, -EPERM it belongs to somebody else or has a
 * second name, -EINVAL it is no regular file. */
int trusted_file(int directory, const char *name, int flags);
/* Whether each symbolic link on that way was made by who is trusted. 0, or -ELOOP and why. Other faults of it are not
 * looked for. */
int trusted_links(const char *path, char *why, size_t why_size);
bool trusted_user(uid_t uid);
bool trusted_others_write(const struct stat *st); /* by its mode */
/* The directory for temporary files: $TMPDIR where that is an absolute path, else /tmp. */
const char *trusted_temporary(void);
/* Whether what root makes in it stays where it is: nobody else's directory leads to it, and it is sticky where others
 * write. Of an ordinary user all is well. 0, or -errno and one sentence. */
int trusted_temporary_check(char *why, size_t why_size);
#endif
