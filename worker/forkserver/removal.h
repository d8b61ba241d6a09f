/* Removal of the directories of jobs, whatever was made in them: any depth, closed directories. */
#ifndef PPFS_REMOVAL_H
#define PPFS_REMOVAL_H

/* Removes a file or tree. spare: the beginning of a path in the same file system and without collisions, under which
 * deep parts are put meanwhile. What cannot be removed stays. */
void removal_tree(int parent, const char *name, const char *spare);
void removal_inside(const char *path, const char *spare); /* the same for all that is in that directory */

#endif
