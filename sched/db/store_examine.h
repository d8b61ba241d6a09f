/* The examination of a state directory, for people. */
#ifndef PPFS_STORE_EXAMINE_H
#define PPFS_STORE_EXAMINE_H

typedef void examine_told(void *arg, const char *line); /* one thing that is wrong; valid during the call */

/* Tells each fault, and changes nothing. The number of lines, or -errno: -EBUSY a ppfs uses it, -ENOENT it has no
 * database. */
int store_examine(const char *dir, examine_told *told, void *arg);
#endif
