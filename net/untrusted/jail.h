/* The jail of the network process: no privileges, no files, no programs, and of the system calls those that carry
 * bytes. */
#ifndef PPFS_JAIL_H
#define PPFS_JAIL_H
#include <stdint.h>

/* Its group has the same number. Not 65534: others run untrusted programs as nobody, which could stop this process.
 * Neither distributions nor systemd use this number. */
#define JAIL_UID 65533u
/* The walls in place. FILES and SCOPE (Landlock) need Linux 5.13 and 6.12; without FILES no other wall lets it open a
 * file. */
enum {
    JAIL_USER = 1,  /* it is not root */
    JAIL_CALLS = 2, /* the filter of system calls */
    JAIL_FILES = 4,
    JAIL_SCOPE = 8, /* no signals to others, no abstract sockets of theirs */
    JAIL_ALL = JAIL_USER | JAIL_CALLS
};

/* Enters the jail for good; stderr becomes a copy of stdin. The process keeps its descriptors, gets others only over
 * its sockets, and dies with its parent. Returns the walls in place; *err: the first -errno of JAIL_ALL's. */
uint32_t jail_enter(int *err);
#endif
