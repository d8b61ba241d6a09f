/* What the pool and its fork server say to each other, and the page that the pool shares with each worker; messages.h
 * has what it says to those. All are of one build and on one machine, so these messages are plain structs.
 *
 * pool <-> fork server, one message a packet over a SOCK_SEQPACKET pair (the fork server's end is CONTROL_FD):
 *   SPAWN serial + 4 descriptors   fork a worker; the descriptors are its end of the link, its stdout, its stderr and
 *                                  its page (struct lease_page)
 *   KILL serial                    kill that worker and everything below it
 *   HELLO text                     Python is up, this is its version (first message of a fork server that works)
 *   SPAWNED serial value           value: pid of the worker's guard, or -errno
 *   EXITED serial value + usage    the worker and all that it left behind are dead; value is its wait status
 *   FAILED text                    one sentence: why the fork server gives up */
#ifndef PPFS_CONTROL_H
#define PPFS_CONTROL_H
#include <stdatomic.h>
#include <stdint.h>

#include "net/io.h"

enum { CONTROL_FD = 3, CONTROL_TEXT = 400, SPAWN_FDS = IO_FDS };

#define FORKSERVER_SUID "--suid-jobs" /* last arguments of the fork server: see login.h */
#define FORKSERVER_GROUPS "--check-groups"

enum control_kind { CONTROL_SPAWN = 1, CONTROL_KILL, CONTROL_HELLO, CONTROL_SPAWNED, CONTROL_EXITED, CONTROL_FAILED };

struct control {
    uint32_t kind;
    int32_t value;
    uint64_t serial;                        /* names a worker, never used twice */
    int64_t user_us, system_us, maxrss_kib; /* EXITED: of the worker's whole life and of its orphans */
    char text[CONTROL_TEXT];
};

/* A page that a worker shares with the pool. What stands in it was perhaps written by a job: the pool believes it only
 * in what concerns the lease of that worker.
 *
 * calls: where the two agree, without a system call, whether a call that was sent is run or taken back. The pool makes
 * it SENT before it sends the call; then the worker, about to begin, changes SENT to BEGUN, or the pool changes SENT to
 * TAKEN, each with one compare and exchange, so exactly one of them succeeds. Since calls begin in the order in which
 * they were sent, the pool goes from the last one down and is through at the first that has begun. A place is used
 * again for the number LEASE_WINDOW higher once the worker has gone past it (seen).
 *
 * reads: the pool counts up before it reads output in the middle of a call. The worker looks at it after each call:
 * where it has changed, or something is still in the pipes, the call has printed, and the worker waits for the ACK. So
 * whatever the pool reads is of the first call that is not yet answered. */
enum { LEASE_WINDOW = 2048 };
enum lease_call { LEASE_CALL_NONE, LEASE_CALL_SENT, LEASE_CALL_BEGUN, LEASE_CALL_TAKEN };
struct lease_page {
    _Alignas(64) _Atomic uint32_t runs; /* the worker's: its guard could make it */
    _Atomic uint64_t took;              /* the worker's: the id of the last START that it has taken */
    _Atomic uint32_t seen;              /* the worker's: the number of the last call that it has begun or passed over */
    _Alignas(64) _Atomic uint32_t reads; /* the pool's */
    _Alignas(64) _Atomic uint8_t calls[LEASE_WINDOW];
};

/* Exit statuses by which a worker says what it can no longer say over its link. */
enum {
    WORKER_EXIT_CUT = 250 /* the call closed the link */,
    WORKER_EXIT_NO_FORK = 251 /* the guard could not fork, and `runs` says so too */
};
#endif
