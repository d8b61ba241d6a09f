/* The mount: a FUSE session that is made and mounted by the supervisor and served by its children. */
#ifndef PPFS_MOUNT_H
#define PPFS_MOUNT_H
#include "fs/fs.h"

/* Makes a session for options ("a,b=c" or NULL); what it serves is *fs. -EINVAL: an option that FUSE does not know. */
int mount_session(struct fuse_session **out, const char *options, struct fs *fs, char *why, size_t why_size);
/* The mountpoint as absolute path, malloc'd; cleans up what a crash left mounted there. */
int mount_point(const char *given, char **path, char *why, size_t why_size);
/* Whether a FUSE filesystem is mounted there, as the mount table says: nobody is asked. */
bool mount_is_there(const char *path);
int mount_start(struct fuse_session *session, const char *path, char *why, size_t why_size);
#endif
