/* The processes that keep a mount in use. */
#ifndef PPFS_HOLDERS_H
#define PPFS_HOLDERS_H

/* Logs the processes that have a file of the mount open or are in one of its directories, one in each line, as far as
 * their /proc is readable. Takes two seconds at most. */
void holders_log(const char *mountpoint);
#endif
