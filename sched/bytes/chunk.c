/* The bytes of a chunk may be in several lists; the last one frees them. Some that held a whole frame are kept for the
 * next: the kernel would have to clear their pages anew each time. */
#include "sched/bytes/chunk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#include "net/session/frame.h"

#define WHOLE (FRAME_HEADER + FRAME_BODY_MAX)
#define SPARES 16u /* 4 MiB */

struct block {
    struct block *spare; /* the next one, while it is one */
    unsigned lists;      /* that have it */
    size_t *account;     /* counts b.cap */
    struct buffer b;
};

struct chunk {
    struct chunk *next;
    struct block *block;
};

static struct block *spares; /* of the loop, as all of this */
static unsigned spare_count;

static void append(struct chunks *c, struct chunk *new) {
    new->next = NULL;
    new->block->lists++;
    if (c->last)
        c->last->next = new;
    else
        c->first = new;
    c->last = new;
    c->size += new->block->b.size;
    c->count++;
}

static void block_count(struct block *new, size_t *account) {
    new->account = account;
    if (account)
        *account += new->b.cap;
}

static void block_uncount(struct block *old) {
    if (old->account)
        *old->account -= old->b.cap;
    old->account = NULL;
}

static void block_free(struct block *old) {
    block_uncount(old);
    if (old->b.cap == WHOLE && spare_count < SPARES) {
        old->spare = spares;
        spares = old;
        spare_count++;
        return;
    }
    buffer_free(&old->b);
    free(old);
}

/* With room for a frame, its header counted as written. */
static struct block *block_create(void) {
    struct block *new = spares;
    if (new) {
        spares = new->spare;
        spare_count--;
    } else {
        new = calloc(1, sizeof *new);
        if (!new || buffer_reserve(&new->b, WHOLE) < 0) {
            free(new);
            return NULL;
        }
    }
    new->lists = 0;
    new->b.size = FRAME_HEADER;
    return new;
}

static struct chunk *chunk_create(size_t *account) {
    struct chunk *new = malloc(sizeof *new);
    struct block *block = new ? block_create() : NULL;
    if (!block) {
        free(new);
        return NULL;
    }
    block_count(block, account);
    new->block = block;
    return new;
}

static void chunk_free(struct chunk *old) {
    if (--old->block->lists == 0)
        block_free(old->block);
    free(old);
}

int chunks_add(struct chunks *c, const void *bytes, size_t size, size_t *account) {
    const char *p = bytes;
    while (size) {
        if (!c->last || c->last->block->b.size == WHOLE) {
            struct chunk *new = chunk_create(account);
            if (!new)
                return -ENOMEM;
            append(c, new);
        }
        struct buffer *b = &c->last->block->b;
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
        frame_encode((uint8_t *)at->block->b.bytes, at->next ? FRAME_PART : kind, id,
                     (uint32_t)(at->block->b.size - FRAME_HEADER));
}

int chunks_take(struct chunks *c, struct buffer *b, size_t *account) {
    if (!b->size)
        return 0;
    struct chunk *new = malloc(sizeof *new);
    struct block *block = calloc(1, sizeof *block);
    if (!new || !block) {
        free(new);
        free(block);
        return -ENOMEM;
    }
    block->b = *b;
    block_count(block, account);
    *b = (struct buffer){0};
    new->block = block;
    append(c, new);
    return 0;
}

int chunks_share(const struct chunks *c, struct chunks *also) {
    for (const struct chunk *at = c->first; at; at = at->next) {
        struct chunk *new = malloc(sizeof *new);
        if (!new) {
            chunks_free(also);
            return -ENOMEM;
        }
        new->block = at->block;
        append(also, new);
    }
    return 0;
}

int chunks_give(struct chunks *c, struct buffer *b) {
    struct block *only = c->count == 1 && c->first->block->lists == 1 ? c->first->block : NULL;
    int rc = 0;
    if (only && !b->size) {
        block_uncount(only);
        buffer_free(b);
        *b = only->b;
        only->b = (struct buffer){0};
    } else {
        rc = buffer_reserve(b, c->size);
        for (const struct chunk *at = c->first; at && rc == 0; at = at->next)
            rc = buffer_add(b, at->block->b.bytes, at->block->b.size);
    }
    if (rc == 0)
        chunks_free(c);
    return rc;
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
        parts[i++] = (struct iovec){at->block->b.bytes, at->block->b.size};
    return parts;
}
