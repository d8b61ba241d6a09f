/* jobs/: the way in. Also what jobs/, results/, failures/ and info/ have in common as directories of groups. */
#ifndef PPFS_FS_JOBS_H
#define PPFS_FS_JOBS_H
#include "fs/fs.h"

/* See struct kind_ops. */
int jobs_dir_attr(struct fs *fs, fuse_ino_t ino, struct stat *st, double *timeout);
int jobs_lookup(struct fs *fs, fuse_ino_t dir, const char *name, fuse_ino_t *out); /* on any of the four sides */
int jobs_find(struct fs *fs, fuse_ino_t dir, const char *name, struct job *job);
int jobs_unlink(struct fs *fs, fuse_ino_t dir, const char *name);
int jobs_rmdir(struct fs *fs, fuse_ino_t dir, const char *name); /* of a group, likewise */
void jobs_open(struct fs *fs, fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void jobs_read(struct fs *fs, fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi);

/* Whether a group is listed on the side (KIND_JOBS ...): in results/ and failures/ if it has any there, in info/ also
 * after its removal from jobs/ while jobs of it are left. */
bool jobs_group_shows(struct fs *fs, enum kind side, const struct group *g);
/* The group of that name below dir, in jobs/ unless it was removed there. 0 or -ENOENT. */
int jobs_find_group(struct fs *fs, fuse_ino_t dir, const char *name, struct group *g);

/* FUSE operations on jobs/ alone; each answers the request. */
void jobs_create(struct fs *fs, fuse_req_t req, fuse_ino_t dir, const char *name, mode_t mode,
                 struct fuse_file_info *fi);
void jobs_mknod(struct fs *fs, fuse_req_t req, fuse_ino_t dir, const char *name, mode_t mode);
void jobs_mkdir(struct fs *fs, fuse_req_t req, fuse_ino_t dir, const char *name, mode_t mode);
void jobs_rename(struct fs *fs, fuse_req_t req, fuse_ino_t dir, const char *name, fuse_ino_t to_dir,
                 const char *to_name, unsigned flags);
#endif
