/* The file dashboard.html: a page of its own, with what it shows as JSON in it. See struct kind_ops. Its size is always
 * the same, with blanks at its end, for browsers believe the size of a file. */
#ifndef PPFS_FS_DASHBOARD_H
#define PPFS_FS_DASHBOARD_H
#include <stdio.h>

#include "fs/fs.h"

int dashboards_create(struct dashboards **out);
void dashboards_destroy(struct dashboards *x); /* accepts NULL */

#define DASHBOARD_SIZE (256u << 10)
int dashboard_text(struct fs *fs, fuse_ino_t ino, FILE *out);
#endif
