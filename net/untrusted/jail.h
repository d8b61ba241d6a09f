/* The jail of the network process: no privileges, no files, no programs, and of the system calls those that carry
 * bytes. */
#ifndef PPFS_JAIL_H
#define PPFS_JAIL_H
#include <stdint.h>

/* Its group has the same number. Not 65534, nobody, as whom others run what they do not trust: that could stop and
 * limit this process. Neither distributions nor systemd give this one to anybody. */
#define JAIL_UID 65533u
/* What of it is there. FILES and SCOPE (Landlock) need Linux 5.13 and 6.12; nothing else opens a file either. */
enum {
    JAIL_USER = 1,  /* not root any more; also where it was not root */
    JAIL_CALLS = 2, /* the filter of system calls */
    JAIL_FILES = 4,
    JAIL_SCOPE = 8, /* no signals to others, no abstract sockets of theirs */
    JAIL_ALL = JAIL_USER | JAIL_CALLS
};

/* For the rest of this process's life; stderr becomes what stdin is. Afterwards it has the descriptors that it has,
 * gets more only over its sockets, and dies with the process that started it. Returns what is there; *err: the first
 * -errno of what is not, of JAIL_ALL. */
uint32_t jail_enter(int *err);
#endif
