/* The structs of the node agent; what its files call of each other is in agent_parts.h. A task is one work of a client:
 *   RECEIVING -> WAITING -> RUNNING -> ENDED      RECEIVING only with a payload file
 * RUNNING: the runner has it. ENDED: its DONE waits to be sent; then it is freed. */
#ifndef PPFS_AGENT_INTERNAL_H
#define PPFS_AGENT_INTERNAL_H
#include <sys/queue.h>

#include "net/session/shared_buffer.h"
#include "worker/runner/messages.h"
#include "worker/runner/node_about.h"
#include "worker/runner/disk.h"
#include "worker/node/agent.h"
#include "worker/runner/file_writer.h"

enum task_state { TASK_RECEIVING, TASK_WAITING, TASK_RUNNING, TASK_ENDED };

struct out { /* a frame that waits to be sent */
    STAILQ_ENTRY(out) next;
    uint8_t kind;
    uint32_t low, size;
    uint8_t bytes[];
};

struct held { /* a CALL_*, PIECE, FUNCTION or FINISH that the runner does not take yet */
    TAILQ_ENTRY(held) next;
    enum message_kind kind;
    uint32_t number; /* of the call, 0: of a function, or a FINISH */
    size_t size;
    const uint8_t *bytes;
    struct shared_buffer *shared; /* has them, NULL: they are behind this */
};

struct half { /* a CALL_* or FUNCTION of which pieces have come, or were given to the runner, and not its end */
    bool any;
    uint32_t number; /* of the call, 0: of a function */
};

struct task {
    uint64_t id;           /* what the runner knows it by: index in agent.tasks << 32 | serial */
    struct client *client; /* NULL: it has gone, and the task is being killed */
    uint32_t ref;
    struct work work; /* of that ppfs: what it names is of its user there */
    enum task_state state;
    TAILQ_ENTRY(task) next_waiting; /* where WAITING */

    void *start, *start_env;     /* what its work points into, until the runner has it; NULL then */
    struct file_writer *payload; /* the file of its payload, NULL: none */
    uint32_t came;               /* pieces of it, or PIECEs of a lease */
    bool whole;                  /* all of it has */

    bool lease;
    uint32_t sent, answered;  /* the highest numbers of its calls */
    uint32_t kept, told;      /* PIECEs that were passed on; those that KEPT was sent for */
    struct half in, out_half; /* what comes; what is given to the runner */
    size_t in_size;           /* bytes of it that have come */
    uint8_t *function;        /* the FUNCTION that comes, as long as it may be one to keep */
    size_t function_size, function_room;
    bool passes;                      /* that was too large to keep: its pieces are passed on */
    TAILQ_HEAD(held_list, held) held; /* a FUNCTION, and the rest of a call, before other calls */
    bool wants, asked;                /* its worker waits for a function; it is the one that has asked for it */
    uint32_t want_number;
    uint8_t want[32];

    STAILQ_HEAD(, out) out;
    size_t out_bytes;
    TAILQ_ENTRY(task) next_ring; /* where something is in out */
    bool pausing /* by us */, held_there /* by ppfs */;
};

struct function {
    TAILQ_ENTRY(function) next; /* used less recently */
    uid_t user;                 /* nobody else is given it */
    uint8_t hash[32];
    size_t size;
    uint8_t bytes[];
};

struct client {
    LIST_ENTRY(client) next, next_corked;
    struct agent *agent;
    struct session *session;
    uint64_t number;
    bool corked, leaving, ending;
    bool taken, refused; /* it has said that it takes us in, or not */
    struct task **tasks; /* by ref */
    uint32_t task_room;
    TAILQ_HEAD(, task) ring;                       /* tasks with frames that wait; the first one is next */
    TAILQ_HEAD(function_list, function) functions; /* the most recently used first */
    size_t function_bytes;
    uint64_t started, done, failed, calls;
    uint8_t id[PPFS_ID_MAX]; /* which ppfs it is */
    size_t id_size;          /* 0: it has not said so */
};

struct agent {
    struct event_base *base;
    struct disk *disk;
    struct runner runner;
    struct agent_events ev;
    void *arg;
    char name[NODE_NAME], python[32], *dir;
    unsigned cpus, works;
    uint64_t memory;
    struct resources resources;
    struct node_uids uids;
    bool bound; /* not root: uids is the user whose work came first */
    bool draining, told_busy;
    LIST_HEAD(, client) clients, corked;
    struct task **tasks; /* by index */
    uint32_t task_count, serial;
    TAILQ_HEAD(, task) waiting;
    struct event *later; /* what must not be told from inside a call: left() and busy() */
    struct event *flush, *retry;
    bool hasty; /* what was posted in this turn is not to wait for more */
    uint64_t last_client;
    int64_t began_us;
    uint64_t started, done, failed, calls; /* of all clients, those that have left too */
};
#endif
