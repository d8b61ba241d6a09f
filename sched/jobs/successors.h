/* Of names that were written again of late: the new jobs, for those who wait for the old ones, have just looked them
 * up, or opened them. A plain block of memory, zeros at first, that may outlive a daemon: the next one drops what a
 * kill -9 has kept from being committed, or told here. */
#ifndef PPFS_SUCCESSORS_H
#define PPFS_SUCCESSORS_H
#include <stdatomic.h>
#include <stdint.h>
#include <sys/types.h>

#define SUCCESSORS 1024u
struct successor {
    /* of those that ever were, from 1; another where one that was dropped has taken its place */
    _Atomic uint64_t number;
    uint64_t of, job;
    uid_t uid; /* of the old one, as its attributes that the kernel may still go by */
    gid_t gid;
    mode_t mode;
};
struct successors {
    /* that ever were, the newest stands at count - 1, modulo their number; and those of turns that are committed: the
     * ids of others may be given again */
    _Atomic uint64_t count, committed;
    struct successor of[SUCCESSORS];
};
#endif
