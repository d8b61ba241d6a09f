/* Messages of a client. */
#include <stdio.h>
#include <string.h>

#include "net/address.h"
#include "worker/node/agent_parts.h"

/* About a work that is there. False: it makes no sense. */
static bool hear_work(struct task *t, const struct frame *m) {
    uint32_t low = (uint32_t)m->id;

    switch (m->kind) {
    case MESSAGE_PAYLOAD:
    case MESSAGE_PAYLOAD_END: return task_payload(t, m);
    case MESSAGE_PIECE: return calls_piece(t, m);
    case MESSAGE_CALL_JSON:
    case MESSAGE_CALL_PICKLE:
    case MESSAGE_CALL_HASH:
    case MESSAGE_CALL_VALUES: return calls_hear(t, m);
    case MESSAGE_FUNCTION: return calls_function(t, m);
    case MESSAGE_FINISH: return calls_finish(t);
    case MESSAGE_RECALL: return calls_recall(t, low);
    case MESSAGE_KILL: task_kill(t); return true;
    case MESSAGE_HOLD: task_hold(t, low == 1); return low <= 1;
    }
    return false;
}

static void leave(struct client *g) {
    if (g->leaving)
        return;
    g->leaving = true;
    for (uint32_t i = 0; i < g->task_room; i++)
        if (g->tasks[i])
            task_kill(g->tasks[i]);
    client_post(g, MESSAGE_GOODBYE, 1, NULL, 0); /* at which it ends the session */
}

/* A ppfs that was started again has lost the session of its predecessor, of which nobody else would tell us for a
 * while. One that is still connected is not dead: that is a copy of its state directory, or a machine that was. */
static bool hear_hello(struct client *g, const struct frame *m) {
    struct client *other;

    if (g->id_size || m->size < PPFS_ID_MIN || m->size > PPFS_ID_MAX)
        return false;
    LIST_FOREACH(other, &g->agent->clients, next)
        if (other != g && !other->ending && !session_linked(other->session) && other->id_size == m->size &&
            memcmp(other->id, m->body, m->size) == 0)
            client_break(other, "it was started again");
    memcpy(g->id, m->body, m->size);
    g->id_size = m->size;
    return true;
}

static bool hear_welcome(struct client *g, const struct frame *m) {
    struct agent *s = g->agent;
    char name[NODE_NAME] = "";

    if (g->taken || !m->size || m->size >= NODE_NAME)
        return false;
    memcpy(name, m->body, m->size);
    if (!node_name_valid(name))
        return false;
    g->taken = true;
    agent_log(s, "ppfs at %s has come: there this node is called %s", session_address(g->session), name);
    if (s->ev.taken)
        s->ev.taken(s->arg, g->number);
    return true;
}

static bool hear_refused(struct client *g, const struct frame *m) {
    struct agent *s = g->agent;
    char why[MESSAGE_SENTENCE + ADDRESS_MAX];

    if (g->taken || m->size >= MESSAGE_SENTENCE)
        return false;
    g->refused = true;
    snprintf(why, sizeof(why), "%s does not take this node in: %.*s", session_address(g->session), (int)m->size,
             (const char *)m->body);
    if (s->ev.refused)
        s->ev.refused(s->arg, g->number, why);
    client_break(g, why);
    return true;
}

void client_hear(void *arg, const struct frame *m) {
    struct client *g = arg;
    struct task *t;

    if (g->ending)
        return;
    bool sane = true;
    if (m->kind == MESSAGE_START)
        sane = g->leaving || task_begin(g, m);
    else if (m->kind == MESSAGE_RESIZE && m->id <= NODE_CPUS_MAX)
        agent_resize(g->agent, (unsigned)m->id);
    else if (m->kind == MESSAGE_LEAVE)
        leave(g);
    else if (m->kind == MESSAGE_HELLO)
        sane = hear_hello(g, m);
    else if (m->kind == MESSAGE_REFUSED)
        sane = hear_refused(g, m);
    else if (m->kind == MESSAGE_WELCOME)
        sane = hear_welcome(g, m);
    else if (m->kind > MESSAGE_START && m->kind <= MESSAGE_HOLD && (t = task_of_ref(g, (uint32_t)(m->id >> 32))))
        sane = hear_work(t, m);
    else
        sane = m->kind > MESSAGE_START && m->kind <= MESSAGE_HOLD; /* of one that has just ended */
    if (!sane)
        client_break(g, "it said something that makes no sense; is it of another version of ppfs?");
}
