/* Attributes of a job file in jobs/: those that GETATTR tells, SETATTR, and who may do what by them. */
#ifndef PPFS_FS_ATTR_H
#define PPFS_FS_ATTR_H
#include "fs/fs.h"

int attr_job(struct fs *fs, fuse_ino_t ino, struct stat *st, double *timeout); /* see struct kind_ops */
void attr_stat(struct fs *fs, const struct job *j, fuse_ino_t ino, struct stat *st);
/* For who has just given it that name, a job that ended since is there as if it had not (renames.h). */
bool attr_is_there_for(struct fs *fs, fuse_req_t req, const struct job *j);

/* Whether the caller may remove or rename the job: 0 or -EPERM. The kernel has checked the directory's mode, but the
 * sticky bit only against its cached owner, who may be that of an earlier job; and .options files have rules of their
 * own. */
int attr_may_remove(struct fs *fs, const struct job *j);

/* The entry of an ended job for the process that has renamed it so (renames.h): 0 or -ENOENT. */
int attr_lookup_renamed(struct fs *fs, fuse_req_t req, fuse_ino_t dir, const char *name, struct fuse_entry_param *e);
/* Of a job file or a group, which answer the request. fi may be NULL. */
void attr_get(struct fs *fs, fuse_req_t req, fuse_ino_t ino, const struct fuse_file_info *fi);
void attr_set(struct fs *fs, fuse_req_t req, fuse_ino_t ino, const struct stat *attr, int to_set,
              const struct fuse_file_info *fi);
#endif
