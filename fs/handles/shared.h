/* Memory that outlives a daemon: the supervisor maps it before it forks, so that the next daemon knows which handles
 * the kernel has open. A kill -9 between any two instructions leaves it valid: a slot is in use by the single store of
 * its fh, which comes last when a handle is added and first when it is removed.
 *
 * A handle is unconfirmed until the reply that opens it goes to the kernel. The next daemon drops unconfirmed
 * handles: the kernel sends the request again, or has no such file open. Not for use by two processes at once. */
#ifndef PPFS_SHARED_H
#define PPFS_SHARED_H
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sched/jobs/successors.h"

#define SHARED_SLOTS 65536u
#define SHARED_INIT_MAX 1024u
#define JOURNAL_ENTRIES 16384u /* see journal.h; never touched if the kernel needs no journal */
#define JOURNAL_BYTES 568u     /* of a request: two names of 255 bytes (RENAME) and the bytes before them */

enum { HANDLE_WRITER = 1, HANDLE_NONBLOCK = 2, HANDLE_LIVE = 4, HANDLE_CONFIRMED = 8 };

struct handle {
    _Atomic uint64_t fh; /* 0 = free */
    uint64_t ino;        /* as the kernel opened it */
    uint64_t job;        /* that it reads or writes (the draft of a rewritten job has another id than ino) */
    uint64_t poll;       /* the kernel's poll handle that waits for a wake-up, 0 = none */
    uint64_t seen;       /* live files: where the last read ended */
    uint64_t failed_at;  /* writers: offset of a refused write that was not repeated since ... */
    _Atomic uint32_t flags;
    uint32_t error; /* ... with this errno; 0 = nowhere */
    uint32_t uid;   /* the user whose share it counts in: handles_own */
    uint32_t owned : 1;
    uint32_t opener : 31; /* writers: the process that opened it, 0 = not known */
};

struct journal_entry {
    _Atomic uint64_t unique; /* 0 = free; stored after the rest */
    uint32_t size;           /* of the request, which may be larger than bytes */
    _Alignas(uint64_t) char bytes[JOURNAL_BYTES];
};

struct shared;
struct handles; /* one daemon's index of the table */

struct shared *shared_create(void); /* NULL: no memory */
/* Number of turns of the daemon's loop, by which the supervisor tells a busy daemon from one that hangs. */
enum { TURNS_NONE = 0 /* it starts */ };
#define TURNS_OVER UINT64_MAX /* it ends */
_Atomic uint64_t *shared_turns(struct shared *m);
/* Whether transitions are written to the log (net/states.h): the supervisor turns it, each daemon reads it. */
atomic_bool *shared_trace(struct shared *m);
struct successors *shared_successors(struct shared *m); /* sched_config.successors */
void shared_destroy(struct shared *m);

/* The bytes of the first FUSE request. save: 0 or -E2BIG. init: NULL while none are saved. */
int shared_save_init(struct shared *m, const void *bytes, size_t size);
const void *shared_init(const struct shared *m, size_t *size);
struct journal_entry *shared_journal(struct shared *m); /* JOURNAL_ENTRIES of them */

/* Drops unconfirmed handles, indexes the others. 0 or -ENOMEM. */
int handles_attach(struct handles **out, struct shared *m);
void handles_destroy(struct handles *h); /* the index alone; accepts NULL */

/* Puts a handle in (or again: the one with this fh is replaced). NULL when all slots are taken. fh is not 0. */
struct handle *handles_put(struct handles *h, uint64_t fh, uint64_t ino, uint64_t job, unsigned flags);
/* Whether one more is in the share of that user: of the slots that others leave, all but a sixteenth, which is left for
 * the next user. */
bool handles_room(const struct handles *h, uint32_t uid);
void handles_own(struct handles *h, struct handle *x, uint32_t uid); /* x is that user's */
void handles_confirm(struct handles *h, uint64_t fh);
struct handle *handles_find(struct handles *h, uint64_t fh); /* NULL: none */
void handles_remove(struct handles *h, uint64_t fh);

/* The handles of a job, newest first: for (x = handles_first(h, job); x; x = handles_next(h, x)). Removing x ends
 * it. */
struct handle *handles_first(struct handles *h, uint64_t job);
struct handle *handles_next(struct handles *h, const struct handle *x);
unsigned handles_count(struct handles *h, uint64_t job, unsigned flags); /* handles with all of these flags */
/* Every handle, in any order. */
void handles_each(struct handles *h, void (*each)(void *arg, struct handle *), void *arg);
#endif
