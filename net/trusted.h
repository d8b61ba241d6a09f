/* Paths that no other user can change. Trusted are our effective user and root. Only they can change a directory that
 * only they may write to, so a path that was checked from / on stays as it was. */
#ifndef PPFS_TRUSTED_H
#define PPFS_TRUSTED_H
#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>

/* Opens the directory (O_RDONLY). It and each directory above it must belong to a trusted user and be writable by no
 * other, except sticky ones above it, such as /tmp; each symbolic link in the path must belong to a trusted user. make:
 * missing directories are made, mode 0700. A descriptor that the caller closes, or -errno and the obstacle in why,
 * without a full stop. */
int trusted_directory(const char *path, bool make, char *why, size_t why_size);
/* Opens the regular file (O_RDONLY), which must belong to a trusted user, and whose directories and links are as above,
 * the last directory sticky if need be; or a descriptor, /proc/self/fd/N or /dev/fd/N. st: what it is. Its mode is for
 * the caller to judge. A descriptor, or -errno and the obstacle in why. No FIFO is ever opened. */
int trusted_path_file(const char *path, struct stat *st, char *why, size_t why_size);
/* Whether all in that directory belongs to a trusted user and is a file or a directory, no link and no FIFO. 0, or
 * -errno and why. */
int trusted_contents(int directory, char *why, size_t why_size);
/* Opens a regular file in that directory, made with mode 0600 if flags have O_CREAT; O_TRUNC takes effect only after
 * the check that it is ours. A descriptor, or -errno: -ELOOP a symbolic link, -EPERM another user's or with a second
 * name, -EINVAL no regular file. */
int trusted_file(int directory, const char *name, int flags);
/* Whether each symbolic link in that path belongs to a trusted user. 0, or -ELOOP and why. Checks nothing else. */
int trusted_links(const char *path, char *why, size_t why_size);
bool trusted_user(uid_t uid);
bool trusted_others_write(const struct stat *st); /* by its mode */
/* The directory for temporary files: $TMPDIR if that is an absolute path, else /tmp. */
const char *trusted_temporary(void);
/* Whether no other user can replace root's files in it: each directory above it is root's, and it is root's or sticky.
 * Always 0 for an ordinary user. 0, or -errno and one sentence. */
int trusted_temporary_check(char *why, size_t why_size);
#endif
