/* What agent.c (guests and what they say), agent_task.c (works), agent_calls.c (calls and functions) and agent_out.c
 * (what is sent back) share. Nobody else includes it.
 *
 * A task is one work of one guest:
 *   RECEIVING -> WAITING -> RUNNING -> ENDED      RECEIVING only with a payload file
 * RUNNING: the runner has it. ENDED: its DONE waits to be sent; then it is freed. */
#ifndef PPFS_AGENT_INTERNAL_H
#define PPFS_AGENT_INTERNAL_H
#include "net/session/loan.h"
#include "worker/runner/messages.h"
#include "worker/runner/disk.h"
#include "worker/node/agent.h"
#include "worker/runner/file_writer.h"

enum task_state { TASK_RECEIVING, TASK_WAITING, TASK_RUNNING, TASK_ENDED };

struct out { /* a frame that waits to be sent */
    struct out *next;
    uint8_t kind;
    uint32_t low, size;
    uint8_t bytes[];
};

struct held { /* a call, or a FINISH (number 0), that the runner does not take yet */
    struct held *next;
    uint32_t number;
    enum call_format format;
    size_t size;
    const uint8_t *bytes;
    struct loan *loan; /* has them, NULL: they are behind this */
};

struct task {
    uint64_t id;         /* what the runner knows it by: serial << 32 | index in serve.tasks */
    struct guest *guest; /* NULL: it has gone, and the task is being killed */
    uint32_t ref, attempt;
    enum task_state state;
    struct task *next_waiting;

    void *start; /* bytes of work_encode, until the runner has it */
    uint32_t start_size;
    struct file_writer *payload; /* the file of its payload, NULL: none */
    uint32_t came;               /* pieces of it */
    bool whole;                  /* all of it has */

    uid_t user; /* of that ppfs: what it names is that user's */
    bool lease;
    uint32_t sent, answered; /* the highest numbers of its calls */
    uint8_t *pieces;         /* of the CALL or FUNCTION that is coming */
    size_t piece_size, piece_room;
    struct held *held, **held_end;
    bool wants, asked; /* its worker waits for a function; it is the one that has asked for it */
    uint32_t want_number;
    uint8_t want[32];

    struct out *out, **out_end;
    size_t out_bytes;
    struct task *next_ring; /* where in_ring */
    bool in_ring, pausing /* by us */, held_there /* by ppfs */;
};

struct function {
    struct function *next; /* used less recently */
    uid_t user;            /* nobody else is given it */
    uint8_t hash[32];
    size_t size;
    uint8_t bytes[];
};

struct guest {
    struct guest *next;
    struct agent *agent;
    struct session *session;
    uint64_t number;
    bool corked, leaving, ending;
    bool taken, refused; /* it has said that it takes us in, or not */
    struct guest *next_corked;
    struct task **tasks; /* by ref */
    uint32_t task_room;
    struct task *ring, **ring_end; /* tasks with frames that wait; the first one is next */
    struct function *functions;    /* the most recently used first */
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
    struct node_uids uids;
    bool bound; /* not root: uids is the user whose work came first */
    bool draining, told_busy;
    struct guest *guests, *corked;
    struct task **tasks; /* by index */
    uint32_t task_count, serial;
    struct task *waiting, **waiting_end;
    struct event *later; /* what must not be told from inside a call: left() and busy() */
    struct event *flush, *retry;
    bool hasty; /* what was posted in this turn is not to wait for more */
    uint64_t last_guest;
    int64_t began_us;
    uint64_t started, done, failed, calls; /* of all guests, those that have left too */
};

/* --- agent.c --- */
void agent_log(struct agent *s, const char *format, ...) __attribute__((format(printf, 2, 3)));
void agent_soon(struct agent *s);                   /* `later`, in the next turn of the loop */
void agent_tell_all(struct agent *s);               /* ABOUT */
void agent_retry(struct agent *s);                  /* held calls are tried again in a moment */
void guest_break(struct guest *g, const char *why); /* ends it: it makes no sense, or there is no memory for it */
/* Sends one frame with this turn's others, and those of the next few hundred microseconds if each of them may wait (see
 * agent_patient). Without memory the guest ends. */
void guest_post(struct guest *g, enum message_kind kind, uint64_t id, const void *body, uint32_t size);

/* What is posted for this task now may wait for a moment: its worker has enough calls ahead not to miss the answer, and
 * a few more answers will go with it. */
bool agent_patient(const struct task *t);

/* --- agent_hear.c --- */
void guest_hear(void *arg, const struct frame *m); /* of its session; arg is the guest */

/* --- agent_task.c --- */
struct task *task_of_ref(const struct guest *g, uint32_t ref); /* NULL: unknown */
struct task *task_of_id(const struct agent *s, uint64_t id);
bool task_begin(struct guest *g, const struct frame *m);  /* START; false: it makes no sense */
bool task_payload(struct task *t, const struct frame *m); /* PAYLOAD, PAYLOAD_END */
void task_kill(struct task *t);
void task_hold(struct task *t, bool hold);
void task_end(struct task *t, const struct work_outcome *o); /* it has ended; DONE is sent in its turn */
void task_give_up(struct task *t, enum work_end end, const char *format, ...) __attribute__((format(printf, 3, 4)));
void task_free(struct task *t);
void task_orphan(struct task *t); /* its guest has gone: killed, or freed at once */
void orphan_free(struct agent *s, struct task *t);
void task_run_waiting(struct agent *s); /* starts what waits, as far as there are slots */

/* --- agent_calls.c --- */
bool calls_piece(struct task *t, const struct frame *m);
bool calls_hear(struct task *t, const struct frame *m); /* CALL_*; false: it makes no sense */
bool calls_function(struct task *t, const struct frame *m);
bool calls_finish(struct task *t);
bool calls_recall(struct task *t, uint32_t number);
void calls_send_held(struct task *t); /* to the runner, as far as it takes them */
void calls_need(struct task *t, uint32_t number, const uint8_t hash[32]);
void calls_end(struct task *t); /* the task ends: others must ask for the function that it asked for */
void functions_free(struct guest *g);

/* --- agent_out.c --- */
/* A frame of this task, after those that wait. Larger than MESSAGE_CHUNK: in pieces of the kind first, the last of the
 * kind. */
void out_send(struct task *t, enum message_kind first, enum message_kind kind, uint32_t low, const void *bytes,
              size_t size);
void out_pump(struct guest *g); /* sends what waits, a frame of each task in turn, as far as the session takes it */
void out_drop(struct task *t);
#endif
