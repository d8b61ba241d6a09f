/* What the rooms of leases share. Only they, lend.c and tests include this. */
#ifndef PPFS_LEASE_INT_H
#define PPFS_LEASE_INT_H
#include "sched/leases/lease.h"
#include "sched/calls/stream_int.h"

#define LONG_US 50000 /* a call that runs so long is said to have started, and nothing waits behind it */

TAILQ_HEAD(lease_queue, lease);
#define LEASE_FASTER 8u  /* answers that lease_waits keeps: for hosts that are about as slow ... */
#define FASTER_TIMES 32u /* ... by so many times, each a quarter of an octave later */

struct lease_set {          /* of a stream */
    struct lease_queue all; /* those on hosts that were not slow when it got them first */
    struct lease_queue lines[LEASE_LINES];
    unsigned count, idle; /* idle: in LEASE_OPEN without a call */
    uint64_t passed;      /* the dispatch in which there was no slot for it */
    struct faster {       /* calls that those on faster hosts will have ended by a time: lease_waits */
        unsigned epoch, function;
        uint32_t us;
        int64_t calls[FASTER_TIMES];
        uint64_t sent;
    } faster[LEASE_FASTER];
    struct lease *most; /* lease_timer.c, while it looks: the one whose last call waits longest for the others */
    /* moves: calls and leases that came and went in this epoch; credit: leases that sums over all may meet */
    unsigned epoch, moves, credit;
    uint64_t sent; /* calls that went to leases on hosts that are not slow */
};

void lease_set_init(struct lease_set *set);

/* The i-th of those that were sent and are not answered. */
static inline struct sent *sent_at(const struct lease *l, unsigned i) {
    return &l->ring[(l->first + i) & (l->cap - 1)];
}

/* lease.c */
struct lease *lease_find(struct sched *s, uint64_t id); /* NULL: it has ended */
struct stream *lease_stream(const struct lease *l);     /* also while it is away; NULL: not in memory, or dropped */
int lease_new(struct stream *st, struct host *h, struct lease **out); /* not the stream's yet. 0 or -ENOMEM */
void lease_free(struct lease *l);
void lease_becomes(struct lease *l, enum lease_state to);
void lease_stand(struct lease *l, enum lease_line line); /* of its stream, which is there */
void lease_reopen(struct lease *l);                      /* it may take a call again, perhaps */
void lease_moved(struct stream *st);          /* a lease or one of its calls came or went: lease_wait.c counts on */
void lease_part(struct lease *l);             /* from its stream, which is there */
void lease_finish(struct lease *l);           /* no more calls: it ends when those that it has are answered */
void lease_kill(struct lease *l);             /* its worker; what had not begun goes to others when it has ended */
void lease_hold(struct lease *l, bool first); /* it is not read; it comes first of those that wait to be */
void lease_read(struct lease *l);             /* it is read again, if it was not */
#define LEASE_WHY 600
void lease_died_why(const struct lease *l, const struct work_outcome *o, char why[LEASE_WHY]);
struct call *lease_next(struct stream *st);                       /* the call to be sent next, NULL: none now */
struct call *lease_sent_call(struct stream *st, uint64_t number); /* NULL: it is under way no longer */
/* the call of that number is the one that runs, for a stream that is there */
bool lease_at(const struct lease *l, uint32_t number);

/* lease_grant.c: more calls wait than there are leases of the stream that have nothing to do */
bool lease_wants(struct stream *st);

/* lease_sent.c */
struct call *lease_call_at(struct stream *st, uint64_t number); /* NULL also where st is */
bool lease_runs(const struct lease *l, const struct call *c);   /* c may be NULL */
bool lease_has_room(struct lease *l);                           /* for one more; false: there is no memory */
void lease_count_by(struct lease *l, int by);                   /* it has one call more, or fewer */
uint64_t lease_pop(struct lease *l);                 /* its oldest call is answered, or lost: the number of that */
void lease_back(struct stream *st, uint64_t number); /* a call that was sent waits again */
void lease_lost(struct lease *l, uint64_t number);   /* it will not answer that call: another is to */
/* the calls from the i-th that it was sent on, as far as they have not begun */
void lease_take_back(struct lease *l, unsigned i);
void lease_stop_unwanted(struct lease *l); /* it is killed, where what it runs was cancelled */

/* lease_give.c: answers ANSWER_NEED of that call of the lease's stream, which is there, now or when it has been read;
 * with nothing where there is no such thing. */
void lease_give(struct lease *l, uint32_t number, const struct call *c, const uint8_t hash[32]);

/* lease_away.c */
void lease_away_ended(struct lease *l, const struct work_outcome *o); /* its worker has gone; also of one not away */
void lease_not_away(struct lease *l); /* it answers nothing more; of one that is not away: nothing */
void lease_away_answer(struct lease *l, uint32_t number, enum answer_kind kind, const void *bytes, size_t size);
void lease_away_output(struct lease *l, enum output_kind which, const void *bytes, size_t size);

/* lease_calls.c */
/* Its worker has gone: what it ran fails or is charged a death, the rest goes to others. Its stream is there. */
void lease_calls_lost(struct lease *l, const struct work_outcome *o);

int64_t lease_long_us(const struct lease *l);                    /* a call that takes so much is long */
double lease_guess_us(const struct lease *l, unsigned function); /* what a call takes there; never 0 */

/* answers.c */
void answers_heard(struct lease *l, bool ended); /* it has told something; ended: the last of a call */

/* lease_wait.c */
bool lease_open(const struct lease *l); /* it may be sent calls */
/* All that the stream has pending will have been ended by leases that it has on faster hosts before a call of that
 * function, behind what takes ahead_us, could end on h. An estimate, made anew now and then. */
bool lease_waits(struct stream *st, const struct host *h, double ahead_us, unsigned function);
#endif
