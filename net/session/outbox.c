/* An outbox: frames as bytes in a chain of blocks. A frame lies in one block whole. A mark that stands at the end of a
 * block with another behind it means the beginning of that one; only the last block may have both its marks at its end,
 * and then it is used again from the beginning.
 *
 * A block is counted: it is held by the chain and by each run of it that somebody keeps. Its bytes are not written over
 * as long as somebody else has it. */
#include "net/session/outbox.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 64 * 1024 - 64 }; /* bytes of frames in a block, more when one frame needs it */

struct outbox_block {
    struct outbox_block *next;
    size_t used, size;
    unsigned held;
    uint8_t bytes[];
};

void outbox_let_go(struct outbox_block *block) {
    if (--block->held == 0)
        free(block);
}

void outbox_keep(const struct outbox_run *run) {
    run->block->held++;
}

void outbox_clear(struct outbox *o) {
    for (struct outbox_block *b = o->acked.block, *next; b; b = next) {
        next = b->next;
        outbox_let_go(b);
    }
    *o = (struct outbox){0};
}

/* Nothing is kept any more: one block of the usual size stays for what comes. */
static void outbox_reuse(struct outbox *o) {
    struct outbox_block *b = o->last;

    if (b && (b->size > BLOCK || b->held > 1)) {
        outbox_let_go(b);
        b = NULL;
    }
    if (b)
        b->used = 0;
    o->last = o->acked.block = o->sent.block = b;
    o->acked.at = o->sent.at = 0;
}

int outbox_add(struct outbox *o, uint8_t kind, uint64_t id, const void *body, uint32_t size) {
    size_t whole = FRAME_HEADER + (size_t)size;
    struct outbox_block *b = o->last;

    if (!b || b->size - b->used < whole) {
        size_t room = whole > BLOCK ? whole : BLOCK;
        b = malloc(sizeof(*b) + room);
        if (!b)
            return -ENOMEM;
        *b = (struct outbox_block){.size = room, .held = 1};
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
static size_t mark_frame(struct outbox_mark *m, struct frame *out) {
    if (m->at == m->block->used) {
        m->block = m->block->next;
        m->at = 0;
    }
    int64_t size = frame_decode(m->block->bytes + m->at, m->block->used - m->at, out);
    assert(size > 0); /* we wrote it */
    return (size_t)size;
}

bool outbox_next(struct outbox *o, size_t most, struct outbox_run *out) {
    struct outbox_mark m = o->sent;
    struct frame f;

    if (m.number == o->added)
        return false;
    size_t size = mark_frame(&m, &f);
    *out = (struct outbox_run){m.block, m.block->bytes + m.at, size, 1};
    while (m.at + out->size < m.block->used) {
        struct outbox_mark next = {m.block, m.at + out->size, m.number + out->frames};
        size = mark_frame(&next, &f);
        if (out->size + size > most)
            break;
        out->size += size;
        out->frames++;
    }
    return true;
}

void outbox_advance(struct outbox *o, const struct outbox_run *run) {
    o->sent = (struct outbox_mark){run->block, (size_t)(run->bytes - run->block->bytes) + run->size,
                                   o->sent.number + run->frames};
}

void outbox_rewind(struct outbox *o) {
    o->sent = o->acked;
}

int outbox_ack(struct outbox *o, uint64_t number) {
    if (number < o->acked.number || number > o->sent.number)
        return -EPROTO;
    while (o->acked.number < number) {
        struct outbox_block *before = o->acked.block;
        struct frame f;
        size_t size = mark_frame(&o->acked, &f);
        if (o->acked.block != before) {
            if (o->sent.block == before) /* it stood at the end of it */
                o->sent = (struct outbox_mark){o->acked.block, 0, o->sent.number};
            outbox_let_go(before);
        }
        o->acked.at += size;
        o->acked.number++;
        o->bytes -= size;
    }
    if (o->acked.number == o->added)
        outbox_reuse(o);
    return 0;
}
