/* What outlives a daemon: memory that the supervisor maps before it forks, so that the next daemon knows what the
 * kernel believes is open. It can be cut off by kill -9 between any two instructions and is right all the same: a slot
 * counts from the single store that writes its fh, which comes last on the way in and first on the way out.
 *
 * A handle is unconfirmed until the kernel has taken the reply that opened it. The next daemon drops unconfirmed
 * ones: the kernel then sends the request again, or nobody has it open. Not for use by two processes at once. */
#ifndef PPFS_SHARED_H
#define PPFS_SHARED_H
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SHARED_SLOTS 65536u
#define SHARED_INIT_MAX 1024u
#define JOURNAL_ENTRIES 16384u /* requests under way, see journal.h; never touched where the kernel needs none of it */
#define JOURNAL_BYTES 568u     /* of a request: two names of 255 bytes (RENAME) and what stands before them */

enum { HANDLE_WRITER = 1, HANDLE_NONBLOCK = 2, HANDLE_LIVE = 4, HANDLE_CONFIRMED = 8 };

struct handle {
    _Atomic uint64_t fh; /* 0 = free */
    uint64_t ino;        /* as the kernel opened it */
    uint64_t job;        /* the one that it reads or writes (a rewritten job's draft has another id than ino) */
    uint64_t poll;       /* the kernel's poll handle that waits for a wake-up, 0 = none */
    uint64_t seen;       /* live files: where the last read ended */
    uint64_t failed_at;  /* writers: where a write was refused and not made good since ... */
    _Atomic uint32_t flags;
    uint32_t error; /* ... with this errno; 0 = nowhere */
    uint32_t uid;   /* whose share of the table it is of: handles_own */
    uint32_t owned : 1;
    uint32_t opener : 31; /* writers: the process that opened it, 0 = not known */
};

struct journal_entry {
    _Atomic uint64_t unique; /* 0 = free; stored after the rest */
    uint32_t size;           /* of the request, be it larger than bytes */
    _Alignas(uint64_t) char bytes[JOURNAL_BYTES];
};

struct shared;
struct handles; /* one daemon's index of the table */

struct shared *shared_create(void); /* NULL: no memory */
/* How often the daemon's loop has turned: by that the supervisor tells one that is busy from one that hangs. */
enum { TURNS_NONE = 0 /* it starts */ };
#define TURNS_OVER UINT64_MAX /* it ends */
_Atomic uint64_t *shared_turns(struct shared *m);
/* Whether transitions are written to the log (net/states.h): the supervisor turns it, each daemon reads it. */
atomic_bool *shared_trace(struct shared *m);
void shared_destroy(struct shared *m);

/* The bytes of the first FUSE request. save: 0 or -E2BIG. init: NULL while none are saved. */
int shared_save_init(struct shared *m, const void *bytes, size_t size);
const void *shared_init(const struct shared *m, size_t *size);
struct journal_entry *shared_journal(struct shared *m); /* JOURNAL_ENTRIES of them */

/* Drops what is unconfirmed, indexes the rest. 0 or -ENOMEM. */
int handles_attach(struct handles **out, struct shared *m);
void handles_destroy(struct handles *h); /* the index alone; accepts NULL */

/* Puts a handle in (or again: the one with this fh is replaced). NULL when all slots are taken. fh is not 0. */
struct handle *handles_put(struct handles *h, uint64_t fh, uint64_t ino, uint64_t job, unsigned flags);
/* Whether one more is in the share of that user: of the slots that others leave, all but a sixteenth, which is kept for
 * the next. */
bool handles_room(const struct handles *h, uint32_t uid);
void handles_own(struct handles *h, struct handle *x, uint32_t uid); /* x is that user's */
void handles_confirm(struct handles *h, uint64_t fh);
struct handle *handles_find(struct handles *h, uint64_t fh); /* NULL: none */
void handles_remove(struct handles *h, uint64_t fh);

/* The handles of a job, newest first: for (x = handles_first(h, job); x; x = handles_next(h, x)). Removing x ends that.
 * */
struct handle *handles_first(struct handles *h, uint64_t job);
struct handle *handles_next(struct handles *h, const struct handle *x);
unsigned handles_count(struct handles *h, uint64_t job, unsigned flags); /* those with all of these flags */
/* Every handle there is, in no order. */
void handles_each(struct handles *h, void (*each)(void *arg, struct handle *), void *arg);
#endif
