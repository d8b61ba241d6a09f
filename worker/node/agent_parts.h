/* What the files of the node agent call of each other, agent.c apart, which is above them. Nobody else includes it. */
#ifndef PPFS_AGENT_PARTS_H
#define PPFS_AGENT_PARTS_H
#include "net/printable.h"
#include "worker/node/agent_internal.h"

/* --- agent_hear.c --- */
void client_hear(void *arg, const struct frame *m); /* of its session; arg is the client */

/* --- agent_task.c --- */
/* NULL: unknown */
static inline struct task *task_of_ref(const struct client *g, uint32_t ref) {
    return ref < g->task_room ? g->tasks[ref] : NULL;
}
struct task *task_of_id(const struct agent *s, uint64_t id);
bool task_begin(struct client *g, const struct frame *m); /* START; false: it makes no sense */
bool task_payload(struct task *t, const struct frame *m); /* PAYLOAD, PAYLOAD_END */
void task_kill(struct task *t);
void task_hold(struct task *t, bool hold);
void task_end(struct task *t, const struct work_outcome *o); /* it has ended; DONE is sent in its turn */
void task_free(struct task *t);
void task_orphan(struct task *t); /* its client has gone: killed, or freed at once */
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
void functions_free(struct client *g);

/* --- agent_out.c --- */
/* A frame of this task, after those that wait. Larger than MESSAGE_CHUNK: in pieces of the kind first, the last of the
 * kind. */
void out_send(struct task *t, enum message_kind first, enum message_kind kind, uint32_t low, const void *bytes,
              size_t size);
void out_pump(struct client *g); /* sends what waits, a frame of each task in turn, as far as the session takes it */
void out_drop(struct task *t);

/* --- agent_client.c --- */
#define agent_log(s, ...) sentence_tell((s)->ev.log, (s)->arg, __VA_ARGS__)
void agent_soon(struct agent *s);                     /* `later`, in the next turn of the loop */
void client_about(struct client *g);                  /* ABOUT is sent */
void agent_tell_all(struct agent *s);                 /* to all of them */
void agent_retry(struct agent *s);                    /* held calls are tried again in a moment */
void client_break(struct client *g, const char *why); /* ends it: it makes no sense, or there is no memory for it */
/* Sends one frame with this turn's others, and those of the next few hundred microseconds if each of them may wait (see
 * is_patient). Without memory the client ends. */
void client_post(struct client *g, enum message_kind kind, uint64_t id, const void *body, uint32_t size);
#endif
