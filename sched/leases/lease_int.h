/* Shared by the files of leases/. Only they, lend.c and tests include it. */
#ifndef PPFS_LEASE_INT_H
#define PPFS_LEASE_INT_H
#include "sched/leases/lease.h"
#include "sched/calls/stream_int.h"

#define LONG_US 50000 /* a call that runs so long is reported as started, and nothing waits behind it */

TAILQ_HEAD(lease_queue, lease);
#define LEASE_FASTER 8u  /* sums that lease_waits keeps: for hosts of about one speed ... */
#define FASTER_TIMES 32u /* ... at so many times, each a quarter of an octave later */

struct lease_set {          /* of a stream */
    struct lease_queue all; /* those on hosts that were fast when granted come first */
    struct lease_queue lines[LEASE_LINES];
    unsigned count, idle; /* idle: in LEASE_OPEN without a call */
    uint64_t passed;      /* the last dispatch that had no slot for it */
    struct faster {       /* calls that leases on faster hosts will have ended by a time: lease_waits */
        unsigned epoch, function;
        uint32_t us;
        int64_t calls[FASTER_TIMES];
        uint64_t sent;
    } faster[LEASE_FASTER];
    struct lease *most; /* lease_timer.c: the lease whose last call waits longest */
    /* moves: calls and leases that came and went in this epoch; credit: leases that sums over all may meet */
    unsigned epoch, moves, credit;
    uint64_t sent; /* calls that went to leases on hosts that are not slow */
};

void lease_set_init(struct lease_set *set);

/* The i-th sent and unanswered call. */
static inline struct sent *sent_at(const struct lease *l, unsigned i) {
    return &l->ring[(l->first + i) & (l->cap - 1)];
}

/* lease.c */
struct lease *lease_find(struct sched *s, uint64_t id); /* NULL: it has ended */
struct stream *lease_stream(const struct lease *l); /* also of a lease that is away; NULL: not in memory, or dropped */
int lease_new(struct stream *st, struct host *h, struct lease **out); /* does not add it to the stream. 0 or -ENOMEM */
void lease_free(struct lease *l);
void lease_becomes(struct lease *l, enum lease_state to);
void lease_stand(struct lease *l, enum lease_line line); /* of its stream, which is there */
void lease_reopen(struct lease *l);                      /* it may be able to take a call again */
void lease_moved(struct stream *st);                     /* a lease or a call came or went: lease_wait.c counts them */
void lease_part(struct lease *l);                        /* from its stream, which is there */
void lease_finish(struct lease *l);                      /* no more calls: it ends when its calls are answered */
void lease_kill(struct lease *l);             /* kills its worker; calls that have not begun go elsewhere then */
void lease_hold(struct lease *l, bool first); /* stops reading it; first: it is the next to be read again */
void lease_read(struct lease *l);             /* it is read again, if it was not */
#define LEASE_WHY 600
void lease_died_why(const struct lease *l, const struct work_outcome *o, char why[LEASE_WHY]);
struct call *lease_next(struct stream *st);                       /* the next call to be sent; NULL: none now */
struct call *lease_sent_call(struct stream *st, uint64_t number); /* NULL: no worker has it any more */
/* whether the call of that number runs, for a stream in memory */
bool lease_at(const struct lease *l, uint32_t number);

/* lease_grant.c: more calls wait than there are leases of the stream that have nothing to do */
bool lease_wants(struct stream *st);

/* lease_sent.c */
struct call *lease_call_at(struct stream *st, uint64_t number); /* NULL also where st is */
bool lease_runs(const struct lease *l, const struct call *c);   /* c may be NULL */
bool lease_has_room(struct lease *l);                           /* for one more; false: there is no memory */
void lease_count_by(struct lease *l, int by);                   /* it has one call more, or fewer */
uint64_t lease_pop(struct lease *l); /* removes its oldest call, which is answered or lost; its number */
void lease_back(struct stream *st, uint64_t number); /* a call that was sent waits again */
void lease_lost(struct lease *l, uint64_t number);   /* it will not answer that call: another lease is to */
/* takes back its calls from the i-th on that have not begun */
void lease_take_back(struct lease *l, unsigned i);
void lease_stop_unwanted(struct lease *l); /* kills it if the call that it runs was cancelled */

/* lease_give.c: answers the ANSWER_NEED of a call, now or when the object has been read; with nothing if there is
 * none. */
void lease_give(struct lease *l, uint32_t number, const struct call *c, const uint8_t hash[32]);

/* lease_away.c */
/* its worker has ended; also for a lease that is not away */
void lease_away_ended(struct lease *l, const struct work_outcome *o);
void lease_not_away(struct lease *l); /* it answers nothing more; does nothing for one that is not away */
void lease_away_answer(struct lease *l, uint32_t number, enum answer_kind kind, const void *bytes, size_t size);
void lease_away_output(struct lease *l, enum output_kind which, const void *bytes, size_t size);

/* lease_calls.c */
/* Its worker has ended: the running call fails or is charged a death, the others go elsewhere. Its stream is in
 * memory. */
void lease_calls_lost(struct lease *l, const struct work_outcome *o);

int64_t lease_long_us(const struct lease *l);                    /* the run time from which on a call is long */
double lease_guess_us(const struct lease *l, unsigned function); /* estimated run time of a call there; never 0 */

/* answers.c */
void answers_heard(struct lease *l, bool ended); /* it has sent an answer or output; ended: the last of a call */

/* lease_wait.c */
bool lease_open(const struct lease *l); /* it may be sent calls */
/* Whether leases on faster hosts will have ended all pending calls of the stream before a call of that function, behind
 * ahead_us of others, could end on h. An estimate, made anew now and then. */
bool lease_waits(struct stream *st, const struct host *h, double ahead_us, unsigned function);
#endif
