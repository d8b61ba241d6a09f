/* Who keeps a mount in use. */
#ifndef PPFS_HOLDERS_H
#define PPFS_HOLDERS_H

/* Logs the processes (those that we may look at) that have a file of the mount open or are in one of its directories, a
 * line each. Takes two seconds at most. */
void holders_log(const char *mountpoint);
#endif
