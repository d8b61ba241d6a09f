/* What a job keeps itself out of: the option sandbox=. It is the last step of environment_enter, so whatever has a
 * process of its own can be put into one, and a call or a lease gets such a process. Each machine refuses what its
 * kernel cannot do.
 *
 *   ro       Landlock from version 3 (O_RDONLY | O_TRUNC and truncate get past 1 and 2). It does not see chmod, chown,
 *            utimes and setxattr, and a filter could not tell whose file it is.
 *   net-off  a filter: sockets of AF_UNIX alone, no io_uring, no foreign system call table; and Landlock: no tracing of
 *            processes outside, TCP from 4, abstract names from 6. Pathname sockets of other programs stay reachable.
 *            A network namespace would need privilege, or a user namespace, which many systems forbid. */
#ifndef PPFS_SANDBOX_H
#define PPFS_SANDBOX_H
#include <stddef.h>

enum {
    /* files: writes only below its own directory, /tmp and /dev/shm, and to a few devices without content */
    SANDBOX_RO = 1,
    SANDBOX_NET_OFF = 2, /* sockets: local ones only */
};

/* The Landlock version of this kernel, from 1; 0: none. */
int sandbox_abi(void);
/* Whether this kernel can make that sandbox. 0, or -1 with a sentence in why. */
int sandbox_check(unsigned what, char *why, size_t why_size);

/* Puts this process and its later children into the sandbox for good, with Landlock version abi. The current directory
 * is the job's own; the root directory cannot be (EISDIR). System calls only, so it is safe after vfork. 0 or -1 with
 * errno. */
int sandbox_enter(unsigned what, int abi);
#endif
