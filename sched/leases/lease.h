/* Leases: a slot that a stream has for a while. See lease.c. */
#ifndef PPFS_LEASE_H
#define PPFS_LEASE_H
#include <sys/queue.h>

#include "net/states.h"
#include "sched/calls/call.h"
#include "sched/runs/run.h"

struct call;
struct stream;

/* The lines of a stream's leases: OPEN may take a call now; TIGHT takes one more if many wait; SLOW leaves pending
 * calls to faster leases; FULL has enough, or takes none now. A change, or the timer, brings them back. In none: it
 * ends. */
enum lease_line { LEASE_NOWHERE, LEASE_OPEN, LEASE_TIGHT, LEASE_SLOW, LEASE_FULL, LEASE_LINES };
/* lease.c has the table of transitions. */
enum lease_state {
    LEASE_LIVE,
    LEASE_FINISHING, /* it gets no more calls, and ends when its calls are answered */
    LEASE_AWAY,      /* likewise, while its stream is read anew after a failed commit */
    LEASE_KILLED,    /* it ends, and its answers no longer count */
    LEASE_ENDED,
    LEASE_STATES
};

#define LEASE_AHEAD 128u      /* calls that a worker here is sent ahead, at most ... */
#define LEASE_AHEAD_FAR 4096u /* ... and one on a node */
#define LEASE_GOT 4           /* functions told apart among the answers of a turn */

struct lease {
    LIST_ENTRY(lease) all, busy, heard_of; /* of all leases; with calls; with answers of this turn */
    TAILQ_ENTRY(lease) mates;              /* of its stream */
    TAILQ_ENTRY(lease) place;
    enum lease_state state;
    enum lease_line line;
    bool idle; /* counted in lease_set.idle */
    uint64_t id;
    struct host *host;          /* stays as long as the lease */
    struct user *user;          /* whose slot it is */
    struct limit *limit;        /* that of its stream's group; NULL: none */
    struct stream *stream;      /* NULL: dropped, and only its slot is to come back; or ... */
    uint64_t away;              /* ... this stream left memory after a failed commit, and its calls go on; 0: no */
    const struct codec *codec;  /* while away: its stream's ... */
    struct pieces pieces;       /* ... and the pieces that its running call has answered since */
    unsigned first, count, cap; /* of the ring */
    uint32_t next_number;
    uint32_t asked; /* the number that the last recall began with */
    unsigned got;   /* answers of this turn; by function in got_of */
    bool raised;    /* an error was among them */
    struct got {
        unsigned function, n;
    } got_of[LEASE_GOT];
    double ahead_us;            /* estimated run time of the calls in the ring */
    int64_t last, heard, began; /* last answer; the same, as measured; start of the lease */
    bool lent, recalling;       /* recalling: the node is still to say which calls it has begun */
    unsigned waits;             /* requests of it for which its slot is lent */
    bool held;                  /* it is not read: in user.waiting */
    int64_t told;               /* clock_us: its last sign, as user.favourite */
    TAILQ_ENTRY(lease) unread;
    bool unwanted; /* a call of the ring is: its worker is killed once that call runs */
    struct sent {
        uint64_t call;
        uint32_t number;
        uint16_t function;
        bool unwanted; /* it was cancelled */
        double us;     /* its part of ahead_us */
    } * ring;          /* sent and unanswered calls, oldest first; cap is a power of two */
};

void answers_turn(struct sched *s); /* answers.c: held leases are read again, as far as there is room */
int leases_make(struct sched *s);   /* 0 or -ENOMEM */
void leases_free(struct sched *s);
struct lease_offer {
    struct stream *stream;
    struct host *host;
    int priority;
};
bool lease_wanted(struct sched *s);                      /* a stream could use a slot; this marks its user as hungry */
bool lease_ready(struct user *u, struct lease_offer *o); /* a stream of that user, and a host for it: lease_grant */
int lease_grant(struct sched *s, const struct lease_offer *offer);
void lease_reclaim(struct sched *s);                      /* idle leases end, as others wait for a slot */
bool lease_lend(struct sched *s, uint64_t id, bool lend); /* false: there is no such lease */
void lease_send(struct sched *s);                         /* after a commit */
void lease_drop(struct stream *st);                       /* its workers are killed */
void lease_away(struct stream *st);  /* it leaves memory after a failed commit: running calls go on */
void lease_claim(struct stream *st); /* it was read anew: calls that still run are not sent again */
void lease_drop_away(struct sched *s, uint64_t stream); /* kills its calls that still run */
void lease_end(struct stream *st);                      /* it has nothing more to send: its leases end */
/* work_ops of leases */
void lease_done(struct host *h, uint64_t id, const struct work_outcome *o);
void lease_output(struct host *h, uint64_t id, enum output_kind which, const void *bytes, size_t size);
void lease_answer(void *arg, uint64_t id, uint32_t number, enum answer_kind kind, const void *bytes, size_t size);
void lease_recalled(void *arg, uint64_t id, uint32_t number);
void lease_cancel(struct stream *st, struct call *c);
void lease_timer(evutil_socket_t fd, short what, void *arg);
#endif
