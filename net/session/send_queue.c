/* A send queue: frames as bytes in a chain of blocks. A frame lies in one block whole. A mark that stands at the end of
 * a block with another behind it means the beginning of that one; only the last block may have both its marks at its
 * end, and then it is used again from the beginning.
 *
 * A block is counted: it is held by the chain and by each run of it that somebody keeps. Its bytes are not written over
 * as long as somebody else has it. */
#include "net/session/send_queue.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 64 * 1024 - 64 }; /* bytes of frames in a block, more when one frame needs it */

struct send_queue_block {
    struct send_queue_block *next; /* no list of sys/queue.h: who has a mark goes on from there without the queue */
    size_t used, size;
    unsigned held;
    uint8_t bytes[];
};

void send_queue_release(struct send_queue_block *block) {
    if (--block->held == 0)
        free(block);
}

void send_queue_keep(const struct send_queue_run *run) {
    run->block->held++;
}

void send_queue_clear(struct send_queue *o) {
    for (struct send_queue_block *b = o->acked.block, *next; b; b = next) {
        next = b->next;
        send_queue_release(b);
    }
    *o = (struct send_queue){0};
}

/* Nothing is kept any more: one block of the usual size stays for what comes. */
static void send_queue_reuse(struct send_queue *o) {
    struct send_queue_block *b = o->last;

    if (b && (b->size > BLOCK || b->held > 1)) {
        send_queue_release(b);
        b = NULL;
    }
    if (b)
        b->used = 0;
    o->last = o->acked.block = o->sent.block = b;
    o->acked.at = o->sent.at = 0;
}

int send_queue_add(struct send_queue *o, uint8_t kind, uint64_t id, const void *body, uint32_t size) {
    size_t whole = FRAME_HEADER + (size_t)size;
    struct send_queue_block *b = o->last;

    if (!b || b->size - b->used < whole) {
        size_t room = whole > BLOCK ? whole : BLOCK;
        b = malloc(sizeof(*b) + room);
        if (!b)
            return -ENOMEM;
        *b = (struct send_queue_block){.size = room, .held = 1};
        if (o->last)
            o->last->next = b;
        else
            o->acked.block = o->sent.block = b;
        o->last = b;
    }
    frame_encode(b->bytes + b->used, kind, id, size);
    if (size)
        memcpy(b->bytes + b->used + FRAME_HEADER, body, size);
    b->used += whole;
    o->bytes += whole;
    o->added++;
    return 0;
}

/* The frame at a mark, which is not behind the last one. Its size with the header. */
static size_t mark_frame(struct send_queue_mark *m, struct frame *out) {
    if (m->at == m->block->used) {
        m->block = m->block->next;
        m->at = 0;
    }
    int64_t size = frame_decode(m->block->bytes + m->at, m->block->used - m->at, out);
    assert(size > 0); /* we wrote it */
    return (size_t)size;
}

bool send_queue_next(struct send_queue *o, size_t most, struct send_queue_run *out) {
    struct send_queue_mark m = o->sent;
    struct frame f;

    if (m.number == o->added)
        return false;
    size_t size = mark_frame(&m, &f);
    *out = (struct send_queue_run){m.block, m.block->bytes + m.at, size, 1};
    while (m.at + out->size < m.block->used) {
        struct send_queue_mark next = {m.block, m.at + out->size, m.number + out->frames};
        size = mark_frame(&next, &f);
        if (out->size + size > most)
            break;
        out->size += size;
        out->frames++;
    }
    return true;
}

void send_queue_advance(struct send_queue *o, const struct send_queue_run *run) {
    o->sent = (struct send_queue_mark){run->block, (size_t)(run->bytes - run->block->bytes) + run->size,
                                       o->sent.number + run->frames};
}

void send_queue_rewind(struct send_queue *o) {
    o->sent = o->acked;
}

int send_queue_ack(struct send_queue *o, uint64_t number) {
    if (number < o->acked.number || number > o->sent.number)
        return -EPROTO;
    while (o->acked.number < number) {
        struct send_queue_block *before = o->acked.block;
        struct frame f;
        size_t size = mark_frame(&o->acked, &f);
        if (o->acked.block != before) {
            if (o->sent.block == before) /* it stood at the end of it */
                o->sent = (struct send_queue_mark){o->acked.block, 0, o->sent.number};
            send_queue_release(before);
        }
        o->acked.at += size;
        o->acked.number++;
        o->bytes -= size;
    }
    if (o->acked.number == o->added)
        send_queue_reuse(o);
    return 0;
}
