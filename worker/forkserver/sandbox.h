/* What a job keeps itself out of: the option sandbox=. */
#ifndef PPFS_SANDBOX_H
#define PPFS_SANDBOX_H
#include <stddef.h>

enum {
    /* files: writes only below its own directory, /tmp and /dev/shm, and a few devices that keep nothing */
    SANDBOX_RO = 1,
    SANDBOX_NET_OFF = 2, /* sockets: local ones only */
};

/* Which Landlock this kernel has, from 1; 0: none. */
int sandbox_abi(void);
/* Whether this kernel can keep a job in it. 0, or -1 with a sentence in why. */
int sandbox_check(unsigned what, char *why, size_t why_size);

/* Keeps this process and all that it starts in it, for good, with what Landlock has from version abi on. The current
 * directory is the job's own; one that is all there is cannot be: EISDIR. System calls only, so it is safe after vfork.
 * 0 or -1 with errno. */
int sandbox_enter(unsigned what, int abi);
#endif
