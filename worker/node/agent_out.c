/* What is sent back. A task's frames go in its order; where some wait, each task of the guest sends one in turn, so
 * that a large result holds up no small one. The session is given no more than UNSENT_MAX bytes that the network does
 * not take, and as much unacknowledged as session_full allows; the rest waits here, and a task of which much waits is
 * not read any more until that has gone. */
#include <stdlib.h>
#include <string.h>

#include "worker/node/agent_parts.h"

enum { WAITS_HIGH = 1024 * 1024, WAITS_LOW = 256 * 1024, UNSENT_MAX = 256 * 1024 };

static bool full(const struct guest *g) {
    return g->session && (session_full(g->session) || session_unsent(g->session) >= UNSENT_MAX);
}

/* Reading stops while ppfs or we want it to. */
static void set_pausing(struct task *t, bool pausing) {
    struct agent *s = t->guest->agent;

    if (t->pausing == pausing)
        return;
    t->pausing = pausing;
    if (t->state == TASK_RUNNING && !t->held_there)
        runner_hold(s->runner, t->id, pausing);
}

static void enqueue(struct task *t, enum message_kind kind, uint32_t low, const void *bytes, size_t size) {
    struct guest *g = t->guest;
    struct out *o = malloc(sizeof(*o) + size);

    if (!o) {
        guest_break(g, "there is no memory for what is to be sent to it");
        return;
    }
    *o = (struct out){.kind = (uint8_t)kind, .low = low, .size = (uint32_t)size};
    if (size)
        memcpy(o->bytes, bytes, size);
    *t->out_end = o;
    t->out_end = &o->next;
    t->out_bytes += sizeof(*o) + size;
    if (!t->in_ring) {
        t->in_ring = true;
        t->next_ring = NULL;
        *g->ring_end = t;
        g->ring_end = &t->next_ring;
    }
    if (t->out_bytes > WAITS_HIGH)
        set_pausing(t, true);
}

static void send_piece(struct task *t, enum message_kind kind, uint32_t low, const void *bytes, size_t size) {
    struct guest *g = t->guest;

    if (g->ring || full(g))
        enqueue(t, kind, low, bytes, size);
    else
        guest_post(g, kind, message_id(t->ref, low), bytes, (uint32_t)size);
}

void out_send(struct task *t, enum message_kind first, enum message_kind kind, uint32_t low, const void *bytes,
              size_t size) {
    const uint8_t *at = bytes;

    if (!t->guest->session)
        return;
    for (; size > MESSAGE_CHUNK; at += MESSAGE_CHUNK, size -= MESSAGE_CHUNK)
        send_piece(t, first, low, at, MESSAGE_CHUNK);
    send_piece(t, kind, low, at, size);
}

/* Takes the first task out of the ring. */
static struct task *turn(struct guest *g) {
    struct task *t = g->ring;

    g->ring = t->next_ring;
    if (!g->ring)
        g->ring_end = &g->ring;
    t->in_ring = false;
    return t;
}

void out_pump(struct guest *g) {
    while (g->ring && g->session && !full(g)) {
        struct task *t = turn(g);
        struct out *o = t->out;
        bool last = o->kind == MESSAGE_DONE;
        t->out = o->next;
        t->out_bytes -= sizeof(*o) + o->size;
        if (!t->out) {
            t->out_end = &t->out;
        } else {
            t->in_ring = true;
            t->next_ring = NULL;
            *g->ring_end = t;
            g->ring_end = &t->next_ring;
        }
        guest_post(g, (enum message_kind)o->kind, message_id(t->ref, o->low), o->bytes, o->size);
        free(o);
        if (last)
            task_free(t);
        else if (t->out_bytes < WAITS_LOW)
            set_pausing(t, false);
    }
}

void out_drop(struct task *t) {
    struct guest *g = t->guest;

    if (t->in_ring)
        for (struct task **at = &g->ring; *at; at = &(*at)->next_ring)
            if (*at == t) {
                *at = t->next_ring;
                if (!*at)
                    g->ring_end = at;
                break;
            }
    t->in_ring = false;
    while (t->out) {
        struct out *o = t->out;
        t->out = o->next;
        free(o);
    }
    t->out_end = &t->out;
    t->out_bytes = 0;
}
