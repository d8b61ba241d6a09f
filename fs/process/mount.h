/* The mount: a FUSE session, which the supervisor makes and mounts and its children serve. */
#ifndef PPFS_MOUNT_H
#define PPFS_MOUNT_H
#include "fs/fs.h"

/* Makes a session with options ("a,b=c" or NULL) for *fs. -EINVAL: FUSE does not know an option. */
int mount_session(struct fuse_session **out, const char *options, struct fs *fs, char *why, size_t why_size);
/* The mountpoint as absolute path, malloc'd. Unmounts a stale mount that a crash has left there. */
int mount_point(const char *given, char **path, char *why, size_t why_size);
/* Whether a FUSE filesystem is mounted there according to the mount table; sends no request to it. */
bool mount_is_there(const char *path);
int mount_start(struct fuse_session *session, const char *path, char *why, size_t why_size);
#endif
