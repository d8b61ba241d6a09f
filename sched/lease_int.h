/* What lease.c and lease_calls.c share. Only they include this. */
#ifndef PPFS_LEASE_INT_H
#define PPFS_LEASE_INT_H
#include "sched/stream_int.h"

struct lease *lease_find(struct sched *s, uint64_t id); /* NULL: it has ended */
void lease_finish(struct lease *l);                     /* no more calls: it ends when those that it has are answered */
bool lease_at(const struct lease *l, uint32_t number);  /* the call of that number is the one that runs, for a stream that is there */

/* lease_calls.c */
struct call *lease_next(struct stream *st, uint64_t *number); /* the call to be sent next, NULL: none now */
/* All that the stream has pending will have been ended by leases that it has on faster hosts before a call of that function,
 * behind what takes ahead_us, could end on h. */
bool lease_waits(const struct stream *st, const struct host *h, double ahead_us, unsigned function);
void lease_take_back(struct lease *l, unsigned i); /* the calls from the i-th that it was sent on, as far as they have not begun */
/* Its worker has gone: what it ran fails or is charged a death, the rest goes to others. Its stream is there. */
void lease_calls_lost(struct lease *l, const struct work_outcome *o);
#endif
