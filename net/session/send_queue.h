/* The unacknowledged frames of a session: added at one end, sent from the middle, dropped at the other end. With a new
 * link sending begins anew at that other end. */
#ifndef PPFS_SEND_QUEUE_H
#define PPFS_SEND_QUEUE_H
#include <stdbool.h>

#include "net/session/frame.h"

struct send_queue_block;

struct send_queue_mark {
    struct send_queue_block *block; /* NULL: nothing was ever added */
    size_t at;
    uint64_t number; /* frames before it, since the session began */
};

struct send_queue_run {
    struct send_queue_block *block; /* that they lie in */
    const uint8_t *bytes;
    size_t size;
    uint64_t frames;
};

struct send_queue {
    struct send_queue_block *last;
    struct send_queue_mark acked, sent; /* acked <= sent <= added */
    uint64_t added;
    size_t bytes; /* of unacknowledged frames, with headers */
};

void send_queue_clear(struct send_queue *o); /* all zero is an empty one */
int send_queue_add(struct send_queue *o, uint8_t kind, uint64_t id, const void *body, uint32_t size); /* 0 or -ENOMEM */
/* The next frames to send, as many as lie together and are no more than most bytes, but one at least. False: none. The
 * bytes stay where they are as long as the run is kept, also when they are acknowledged. */
bool send_queue_next(struct send_queue *o, size_t most, struct send_queue_run *out);
/* the run of send_queue_next was sent */
void send_queue_advance(struct send_queue *o, const struct send_queue_run *run);
void send_queue_keep(const struct send_queue_run *run);
void send_queue_release(struct send_queue_block *block); /* ends an send_queue_keep */
void send_queue_rewind(struct send_queue *o);            /* all unacknowledged frames are to be sent */
/* The peer has the first number frames. 0, or -EPROTO: not sent yet, or fewer than before. */
int send_queue_ack(struct send_queue *o, uint64_t number);
#endif
