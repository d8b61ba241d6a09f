/* What the pool, its template and its workers say to each other. All of them are of one build and on one machine, so
 * the template's messages are plain structs; a worker's frames have the portable bodies of work.h.
 *
 * pool <-> template, one message a packet over a SOCK_SEQPACKET pair (the template's end is CONTROL_FD):
 *   SPAWN serial + 3 descriptors   fork a worker; the descriptors are its end of the link, its stdout, its stderr
 *   KILL serial                    kill that worker and everything below it
 *   HELLO text                     Python is up, this is its version (first message of a template that works)
 *   SPAWNED serial value           value: pid of the worker's guard, or -errno
 *   EXITED serial value + usage    the worker and all that it left behind are dead; value is its wait status
 *   FAILED text                    one sentence: why the template gives up
 * pool <-> worker, frames (net/frame.h) over a SOCK_STREAM pair; id is the job:
 *   START work                     do this (struct work)
 *   RESULT bytes, TRACE bytes      a piece of a call's value, of a traceback
 *   DONE outcome                   that was all of it, the job's process tree is dead
 *   LAST outcome                   the same, and the worker leaves: it may not be used again */
#ifndef PPFS_CONTROL_H
#define PPFS_CONTROL_H
#include <stdint.h>

enum { CONTROL_FD = 3, CONTROL_TEXT = 400 };

enum control_kind { CONTROL_SPAWN = 1, CONTROL_KILL, CONTROL_HELLO, CONTROL_SPAWNED, CONTROL_EXITED, CONTROL_FAILED };

struct control {
    uint32_t kind;
    int32_t value;
    uint64_t serial;                        /* names a worker, never used twice */
    int64_t user_us, system_us, maxrss_kib; /* EXITED: of the worker's whole life and of what it left behind */
    char text[CONTROL_TEXT];
};

enum worker_frame { WORKER_START = 1, WORKER_RESULT, WORKER_TRACE, WORKER_DONE, WORKER_LAST };

/* Exit statuses by which a worker says what it can no longer say over its link. */
enum { WORKER_EXIT_CUT = 250 /* the call closed the link */, WORKER_EXIT_NO_FORK = 251 /* the guard could not fork */ };
#endif
