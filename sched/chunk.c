/* Some chunks that held a whole frame are kept for the next: the kernel would have to clear their pages anew each time.
 * */
#include "sched/chunk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#include "net/frame.h"

#define WHOLE (FRAME_HEADER + FRAME_BODY_MAX)
#define SPARES 16u /* 4 MiB */

struct chunk {
    struct chunk *next;
    struct buffer b;
};

static struct chunk *spares; /* of the loop, as all of this */
static unsigned spare_count;

static void append(struct chunks *c, struct chunk *new) {
    new->next = NULL;
    if (c->last)
        c->last->next = new;
    else
        c->first = new;
    c->last = new;
    c->size += new->b.size;
    c->count++;
}

/* A chunk with room for a frame, its header counted as written. */
static struct chunk *chunk_create(void) {
    struct chunk *new = spares;
    if (new) {
        spares = new->next;
        spare_count--;
    } else {
        new = calloc(1, sizeof *new);
        if (!new || buffer_reserve(&new->b, WHOLE) < 0) {
            free(new);
            return NULL;
        }
    }
    new->b.size = FRAME_HEADER;
    return new;
}

static void chunk_free(struct chunk *old) {
    if (old->b.cap == WHOLE && spare_count < SPARES) {
        old->next = spares;
        spares = old;
        spare_count++;
        return;
    }
    buffer_free(&old->b);
    free(old);
}

int chunks_add(struct chunks *c, const void *bytes, size_t size) {
    const char *p = bytes;
    while (size) {
        if (!c->last || c->last->b.size == WHOLE) {
            struct chunk *new = chunk_create();
            if (!new)
                return -ENOMEM;
            append(c, new);
        }
        struct buffer *b = &c->last->b;
        size_t n = size < WHOLE - b->size ? size : WHOLE - b->size;
        memcpy(b->bytes + b->size, p, n);
        b->size += n;
        c->size += n;
        p += n;
        size -= n;
    }
    return 0;
}

size_t chunks_body(const struct chunks *c) {
    return c->size - (size_t)c->count * FRAME_HEADER;
}

void chunks_finish(struct chunks *c, uint8_t kind, uint64_t id) {
    for (struct chunk *at = c->first; at; at = at->next)
        frame_encode((uint8_t *)at->b.bytes, at->next ? FRAME_PART : kind, id, (uint32_t)(at->b.size - FRAME_HEADER));
}

int chunks_take(struct chunks *c, struct buffer *b) {
    struct chunk *new = b->size ? calloc(1, sizeof *new) : NULL;
    if (!new)
        return b->size ? -ENOMEM : 0;
    new->b = *b;
    *b = (struct buffer){0};
    append(c, new);
    return 0;
}

void chunks_join(struct chunks *c, struct chunks *more) {
    if (!more->first)
        return;
    if (c->last)
        c->last->next = more->first;
    else
        c->first = more->first;
    c->last = more->last;
    c->size += more->size;
    c->count += more->count;
    *more = (struct chunks){0};
}

void chunks_free(struct chunks *c) {
    for (struct chunk *at = c->first, *next; at; at = next) {
        next = at->next;
        chunk_free(at);
    }
    *c = (struct chunks){0};
}

struct iovec *chunks_parts(const struct chunks *c) {
    struct iovec *parts = reallocarray(NULL, c->count, sizeof *parts);
    unsigned i = 0;
    for (struct chunk *at = c->first; at && parts; at = at->next)
        parts[i++] = (struct iovec){at->b.bytes, at->b.size};
    return parts;
}
