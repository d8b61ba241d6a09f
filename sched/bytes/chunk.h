/* Large answers: frames as they will stand in a log, each in memory of its own, so that they are put together, handed
 * on and written without being copied; several lists may have the same memory. A zeroed struct is an empty list,
 * as none of sys/queue.h with an end is.
 * (evbuffers take a third longer: 1 MiB in frames 130 us, not 95.)
 * account: counts the memory, once and as long as a list has it; NULL: nothing does. */
#ifndef PPFS_CHUNK_H
#define PPFS_CHUNK_H
#include <stdint.h>

#include "sched/bytes/buffer.h"

struct chunk;

struct chunks {
    struct chunk *first, *last;
    size_t size;    /* bytes */
    unsigned count; /* chunks */
};

/* Goes on with a body that stands in frames of FRAME_BODY_MAX bytes, the last one of what is left. The list has nothing
 * else. 0 or -ENOMEM: then a part of bytes may have been added. */
int chunks_add(struct chunks *c, const void *bytes, size_t size, size_t *account);
size_t chunks_body(const struct chunks *c); /* bytes added so far */
/* that was all: a frame of this kind, PART before it; no other list has it */
void chunks_finish(struct chunks *c, uint8_t kind, uint64_t id);

/* what b has comes behind, b is empty then; 0 or -ENOMEM */
int chunks_take(struct chunks *c, struct buffer *b, size_t *account);
void chunks_join(struct chunks *c, struct chunks *more);       /* likewise */
int chunks_share(const struct chunks *c, struct chunks *also); /* also is empty, and has the same then; 0 or -ENOMEM */
/* b has what c had behind its own, copied where another list has it too; c is empty then. 0 or -ENOMEM */
int chunks_give(struct chunks *c, struct buffer *b);
void chunks_free(struct chunks *c);

struct iovec;
struct iovec *chunks_parts(const struct chunks *c); /* count of them, malloc'd; NULL without memory */
#endif
