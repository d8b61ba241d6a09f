/* The frames that a session has not yet handed over for certain: added at one end, sent from the middle, and dropped
 * from the other end as they are acknowledged. After a new link begins the middle goes back to that other end. */
#ifndef PPFS_OUTBOX_H
#define PPFS_OUTBOX_H
#include <stdbool.h>

#include "net/session/frame.h"

struct outbox_block;

struct outbox_mark {
    struct outbox_block *block; /* NULL when nothing was ever added after it */
    size_t at;
    uint64_t number; /* frames before it, since the session began */
};

struct outbox_run {
    struct outbox_block *block; /* that they lie in */
    const uint8_t *bytes;
    size_t size;
    uint64_t frames;
};

struct outbox {
    struct outbox_block *last;
    struct outbox_mark acked, sent; /* acked <= sent <= added */
    uint64_t added;
    size_t bytes; /* with headers, of the frames that are not acknowledged */
};

void outbox_clear(struct outbox *o); /* all zero is an empty one */
int outbox_add(struct outbox *o, uint8_t kind, uint64_t id, const void *body, uint32_t size); /* 0 or -ENOMEM */
/* The next frames to send, as many as lie together and are no more than most bytes, but one at least. False: none. The
 * bytes stay where they are as long as the run is kept, also when they are acknowledged. */
bool outbox_next(struct outbox *o, size_t most, struct outbox_run *out);
void outbox_advance(struct outbox *o, const struct outbox_run *run); /* they were sent; run is what outbox_next said */
void outbox_keep(const struct outbox_run *run);
void outbox_let_go(struct outbox_block *block); /* ends an outbox_keep */
void outbox_rewind(struct outbox *o);           /* everything that is not acknowledged is to be sent */
/* The other side has the first number frames. 0, or -EPROTO when that was never sent or takes something back. */
int outbox_ack(struct outbox *o, uint64_t number);
#endif
