/* What is sent back. A task's frames go in its order; where some wait, each task of the client sends one in turn, so
 * that a large result holds up no small one. The session is given no more than UNSENT_MAX bytes that the network does
 * not take, and as much unacknowledged as session_full allows; the rest waits here, and a task of which much waits is
 * not read any more until that has gone. */
#include <stdlib.h>
#include <string.h>

#include "worker/node/agent_parts.h"

enum { WAITS_HIGH = 1024 * 1024, WAITS_LOW = 256 * 1024, UNSENT_MAX = 256 * 1024 };

static bool full(const struct client *g) {
    return g->session && (session_full(g->session) || session_unsent(g->session) >= UNSENT_MAX);
}

/* Reading stops while ppfs or we want it to. */
static void set_pausing(struct task *t, bool pausing) {
    struct agent *s = t->client->agent;

    if (t->pausing == pausing)
        return;
    t->pausing = pausing;
    if (t->state == TASK_RUNNING && !t->held_there)
        runner_hold(s->runner, t->id, pausing);
}

static void enqueue(struct task *t, enum message_kind kind, uint32_t low, const void *bytes, size_t size) {
    struct client *g = t->client;
    struct out *o = malloc(sizeof(*o) + size);

    if (!o) {
        client_break(g, "there is no memory for what is to be sent to it");
        return;
    }
    *o = (struct out){.kind = (uint8_t)kind, .low = low, .size = (uint32_t)size};
    if (size)
        memcpy(o->bytes, bytes, size);
    if (STAILQ_EMPTY(&t->out))
        TAILQ_INSERT_TAIL(&g->ring, t, next_ring);
    STAILQ_INSERT_TAIL(&t->out, o, next);
    t->out_bytes += sizeof(*o) + size;
    if (t->out_bytes > WAITS_HIGH)
        set_pausing(t, true);
}

static void send_piece(struct task *t, enum message_kind kind, uint32_t low, const void *bytes, size_t size) {
    struct client *g = t->client;

    if (!TAILQ_EMPTY(&g->ring) || full(g))
        enqueue(t, kind, low, bytes, size);
    else
        client_post(g, kind, message_id(t->ref, low), bytes, (uint32_t)size);
}

void out_send(struct task *t, enum message_kind first, enum message_kind kind, uint32_t low, const void *bytes,
              size_t size) {
    const uint8_t *at = bytes;

    if (!t->client->session)
        return;
    for (; size > MESSAGE_CHUNK; at += MESSAGE_CHUNK, size -= MESSAGE_CHUNK)
        send_piece(t, first, low, at, MESSAGE_CHUNK);
    send_piece(t, kind, low, at, size);
}

void out_pump(struct client *g) {
    struct task *t;

    while ((t = TAILQ_FIRST(&g->ring)) && g->session && !full(g)) {
        struct out *o = STAILQ_FIRST(&t->out);
        bool last = o->kind == MESSAGE_DONE;
        TAILQ_REMOVE(&g->ring, t, next_ring);
        STAILQ_REMOVE_HEAD(&t->out, next);
        t->out_bytes -= sizeof(*o) + o->size;
        if (!STAILQ_EMPTY(&t->out))
            TAILQ_INSERT_TAIL(&g->ring, t, next_ring);
        client_post(g, (enum message_kind)o->kind, message_id(t->ref, o->low), o->bytes, o->size);
        free(o);
        if (last)
            task_free(t);
        else if (t->out_bytes < WAITS_LOW)
            set_pausing(t, false);
    }
}

void out_drop(struct task *t) {
    struct out *o;

    if (!STAILQ_EMPTY(&t->out))
        TAILQ_REMOVE(&t->client->ring, t, next_ring);
    while ((o = STAILQ_FIRST(&t->out))) {
        STAILQ_REMOVE_HEAD(&t->out, next);
        free(o);
    }
    t->out_bytes = 0;
}
