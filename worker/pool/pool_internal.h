/* The structs of the pool. What its files call of each other is in pool_parts.h, in their order from the top to the
 * bottom.
 *
 * A slot is one worker. Its life: EMPTY -> IDLE <-> BUSY -> EMPTY. A job's done() comes with the DONE or LAST frame of
 * its worker, or, where the worker died or was killed, with the fork server's EXITED: never before its process tree is
 * dead. Until then the slot stays BUSY. */
#ifndef PPFS_POOL_INTERNAL_H
#define PPFS_POOL_INTERNAL_H
#include <sys/queue.h>

#include "net/session/link.h"
#include "worker/runner/control.h"
#include "worker/runner/messages.h"
#include "worker/pool/pool.h"

enum slot_state { SLOT_EMPTY, SLOT_IDLE, SLOT_BUSY };
enum { JOB_PLACES = 1024 }; /* jobs are found by a table of lists: theirs is the number modulo that */

struct slot {
    struct pool *pool;
    size_t index; /* in pool.slots */
    enum slot_state state;
    struct forkserver *forkserver; /* whose worker it is; valid unless EMPTY, as all below */
    uint64_t serial;               /* its lowest SERIAL_BITS are the slot's index */
    pid_t guard;                   /* 0 until SPAWNED has come */
    struct link *link;
    uint64_t given; /* link_given at the end of the last FUNCTION or ACK */
    struct lease_page *page;
    LIST_ENTRY(slot) next_corked; /* where corked */
    bool corked;
    struct event *out[2]; /* OUTPUT_STDOUT, OUTPUT_STDERR */
    int out_fd[2];
    bool held, tainted;         /* tainted: it has run a call in process */
    int64_t user_us, system_us; /* of its ended jobs */
    int64_t idle_us;            /* the time when it became IDLE */
    uint64_t job;               /* valid while BUSY, as all below */
    LIST_ENTRY(slot) same_place;
    uint32_t attempt;
    bool in_process; /* the job runs in the worker itself */
    bool killed;     /* by runner_kill: its frames count no more */
    int64_t killed_us, started_us;
    bool lease, finished, asked;   /* a lease; FINISH was sent; it waits for a function. The next are of a lease */
    uint32_t sent, answered, half; /* the highest numbers of its calls; of a call sent in part, 0: none */
    enum output_kind fresh;        /* output that was read and is told after earlier answers */
    size_t fresh_size, lent;       /* in pool.buffer; 0: none. bytes in files of calls since it had reached the last */
};

struct order { /* encoded work, with fields for its slot */
    uint64_t job;
    uint32_t attempt, size;
    void *bytes; /* of work_encode */
    bool lease, isolated, program;
};

struct waiting { /* work that waits for a fork server or its workers */
    TAILQ_ENTRY(waiting) next;
    LIST_ENTRY(waiting) same_place;
    struct forkserver *forkserver;
    struct order order;
    bool hold; /* of its output, from its beginning on */
};
TAILQ_HEAD(waiting_list, waiting);

/* A fork server process, or a dead one that starts again. Its workers run work of one user; each user has at most one
 * that is not ending. */
struct forkserver {
    TAILQ_ENTRY(forkserver) next;
    struct pool *pool;
    uid_t uid;
    int64_t used_us;             /* the last start or end of its work */
    struct waiting_list waiting; /* the oldest first */
    pid_t pid, last;             /* the process, 0: none; the last one */
    char *root;                  /* temporary directory of jobs; the fork server empties and removes it */
    int root_fd;                 /* by which it is locked */
    int control;                 /* -1: none */
    struct event *control_event, *retry, *watch, *writable; /* watch: whether it carries out orders */
    uint64_t *kills;                                        /* serials of KILL orders that are not sent yet */
    size_t kill_count, kill_cap;
    unsigned asked;                  /* workers asked for and not yet SPAWNED */
    int64_t heard_us;                /* when it last carried out an order, or had none */
    char stuck[128];                 /* why it was killed: "it ..." */
    bool up;                         /* HELLO has come */
    unsigned failures;               /* starts in a row without HELLO, or of less than a second */
    int64_t started_us, ending_us;   /* ending: when it was told to end; 0: it was not */
    char trouble[CONTROL_TEXT + 64]; /* why the last one failed */
};

struct pool {
    struct event_base *base;
    struct runner_events ev;
    void *arg;
    char *worker_path, *program;
    unsigned size;       /* how many may work at once */
    int64_t short_us;    /* the last report of a shortage; 0: never */
    unsigned pipe_share; /* bytes that all pipes may hold, 0: any */
    bool give_back, suid_jobs, check_groups;
    struct slot **slots; /* slot_count of them; each one malloc'd, so that callbacks may point to it */
    size_t slot_count;
    unsigned live, busy; /* of them */
    LIST_HEAD(, slot) jobs[JOB_PLACES];
    LIST_HEAD(, waiting) waits[JOB_PLACES];
    uint64_t next_serial;
    unsigned waiting_count;                  /* of all fork servers */
    STAILQ_HEAD(refusals, refusal) refusals; /* ends to be told */
    struct event *soon;                      /* tells refusals, and gives out waiting work */
    bool wants_room;                         /* before that idle workers and fork servers are to end */
    LIST_HEAD(, slot) corked;                /* slots whose frames wait for pool_flush */
    struct event *flush;
    uint8_t *buffer; /* for reading pipes */
    TAILQ_HEAD(forkserver_list, forkserver) forkservers;
    struct forkserver *own;     /* of the user that we run as: always there, the first of them */
    int64_t keep_us;            /* an idle one of another user ends after so long */
    struct event *idle, *sweep; /* idle: ends those */
    char version[32];
    pid_t *others; /* children of this process that are not the pool's, at pool_create */
    size_t other_count;
    int64_t sweep_until_us;
    unsigned sweep_quiet;
};
#endif
