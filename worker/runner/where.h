/* Where the program ppfs-worker is: $PPFS_WORKER, else beside this program (as built), else where it is installed. */
#ifndef PPFS_WHERE_H
#define PPFS_WHERE_H
#include <limits.h>

void where_worker(char path[PATH_MAX]);
void where_net(char path[PATH_MAX]); /* ppfs-net in the same way, with $PPFS_NET */
#endif
