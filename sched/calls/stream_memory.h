/* What the streams of one user may hold in memory together, see stream_memory.c. */
#ifndef PPFS_STREAM_MEMORY_H
#define PPFS_STREAM_MEMORY_H
#include "sched/users/user.h"

struct stream;
struct call;

#define USER_HELD                                                                                                      \
    ((size_t)128 << 20)             /* bytes of calls that no worker has: then each of his streams may have only ... */
#define STREAM_FLOOR (256u * 1024u) /* ... so many, and one call at a time is put together beyond that */

#define USER_BEHIND ((size_t)64 << 20) /* bytes of answers on the way to the disk at which none of his calls is sent */

static inline bool user_holds_much(const struct user *u) {
    return u->held - u->sent + u->gathered >= USER_HELD;
}

static inline bool user_is_behind(const struct user *u) {
    return u->unwritten + u->flying >= USER_BEHIND;
}

bool stream_has_large(const struct stream *st); /* what it gathers now may go beyond that */
/* Asked between two pieces of a call, of which so many bytes are in memory. False: the parser waits. */
bool stream_may_gather(struct stream *st, size_t have);
void stream_gathered(struct stream *st);   /* after the parser: counts what it has of a call that is not whole */
void stream_left(struct stream *st);       /* it leaves memory */
void stream_gives_back(struct stream *st); /* in each turn, the parser's read being over: what the others wait for */
void stream_answers(struct stream *st);    /* counts its answers that no write to the disk has yet */
#define USER_ANSWERS ((size_t)128 << 20)   /* bytes of answers from which on his leases are read one at a time */

static inline bool answers_much(const struct user *u) {
    return u->answers >= USER_ANSWERS;
}

void answers_count(struct stream *st); /* what its small answers, and what it printed, take by now */
void answers_wait(struct user *u);     /* something of his waits: answers_turn looks after him */
void stream_sent(struct stream *st, struct call *c, bool sent); /* a worker has it, or has it no more: sets its state */
#endif
