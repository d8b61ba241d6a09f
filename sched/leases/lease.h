/* Leases: a slot that a stream has for a while. See lease.c. */
#ifndef PPFS_LEASE_H
#define PPFS_LEASE_H
#include <sys/queue.h>

#include "net/states.h"
#include "sched/calls/call.h"
#include "sched/runs/run.h"

struct call;
struct stream;

/* The lines of a stream's leases: those that may take a call now; that took one more if there were many; that leave
 * what is pending to faster ones; that have enough, or take nothing now: they come back when that changes, at the
 * latest with the timer. Who stands in none is to end. */
enum lease_line { LEASE_NOWHERE, LEASE_OPEN, LEASE_TIGHT, LEASE_SLOW, LEASE_FULL, LEASE_LINES };
/* lease.c says what may follow what. */
enum lease_state {
    LEASE_LIVE,
    LEASE_FINISHING, /* it gets no more calls, and ends when those that it has are answered */
    LEASE_AWAY,      /* so does this one, while its stream is read anew after a commit that failed */
    LEASE_KILLED,    /* whatever it still answers, it ends */
    LEASE_ENDED,
    LEASE_STATES
};

#define LEASE_AHEAD 128u      /* calls that a worker here is sent ahead, at most ... */
#define LEASE_AHEAD_FAR 4096u /* ... and one on a node */
#define LEASE_GOT 4           /* functions whose answers of one turn are told apart */

struct lease {
    LIST_ENTRY(lease) all, busy, heard_of; /* of sched; while count; while got */
    TAILQ_ENTRY(lease) mates;              /* of its stream */
    TAILQ_ENTRY(lease) place;
    enum lease_state state;
    enum lease_line line;
    bool idle; /* counted in lease_set.idle */
    uint64_t id;
    struct host *host;          /* stays as long as the lease */
    struct user *user;          /* whose slot it is */
    struct limit *limit;        /* that of its stream's group; NULL: none */
    struct stream *stream;      /* NULL: it was dropped, and only its slot is still to come back; or ... */
    uint64_t away;              /* ... that stream left memory as a commit failed, and its calls go on; 0: not so */
    const struct codec *codec;  /* while away: its stream's ... */
    struct pieces pieces;       /* ... and what the one that runs has answered, while that was not met again */
    unsigned first, count, cap; /* of the ring */
    uint32_t next_number;
    uint32_t asked; /* the last recall was from that number on */
    unsigned got;   /* answers of this turn; by function in got_of */
    bool raised;    /* an error was among them */
    struct got {
        unsigned function, n;
    } got_of[LEASE_GOT];
    double ahead_us;            /* what the calls in the ring take together, as far as can be told */
    int64_t last, heard, began; /* when something came back last, and as measured so far; when it got its slot */
    bool lent, recalling;       /* recalling: the node is still to say what it has begun */
    unsigned waits;             /* requests of it for which its slot is lent */
    bool held;                  /* nothing of it is read: in user.waiting */
    int64_t told;               /* clock_us: it, being user.favourite, has told something */
    TAILQ_ENTRY(lease) unread;
    bool unwanted; /* one of the ring is: it is to be killed if, or when, it is the one that runs */
    struct sent {
        uint64_t call;
        uint32_t number;
        uint16_t function;
        bool unwanted; /* it was cancelled */
        double us;     /* its part of ahead_us */
    } * ring;          /* sent and not answered, oldest first; cap is a power of two */
};

void answers_turn(struct sched *s); /* answers.c: who is not read goes on, as far as there is room */
int leases_make(struct sched *s);   /* 0 or -ENOMEM */
void leases_free(struct sched *s);
struct lease_offer {
    struct stream *stream;
    struct host *host;
    int priority;
};
bool lease_wanted(struct sched *s); /* a stream could use a slot; its user is hungry then */
bool lease_ready(struct user *u,
                 struct lease_offer *o); /* one of that user, and there is one that it may have: lease_grant */
int lease_grant(struct sched *s, const struct lease_offer *offer);
void lease_reclaim(struct sched *s);                      /* somebody else waits for a slot: idle leases end */
bool lease_lend(struct sched *s, uint64_t id, bool lend); /* false: there is no such lease */
void lease_send(struct sched *s);                         /* after a commit */
void lease_drop(struct stream *st);                       /* its workers are killed */
void lease_away(struct stream *st);  /* it leaves memory as a commit has failed: what runs goes on, where it can */
void lease_claim(struct stream *st); /* it was read anew: calls that it has met and that go on are not sent again */
void lease_drop_away(struct sched *s, uint64_t stream); /* calls of it that go on are killed */
void lease_end(struct stream *st);                      /* nothing more to send: they may go */
/* work_ops of leases */
void lease_done(struct host *h, uint64_t id, const struct work_outcome *o);
void lease_output(struct host *h, uint64_t id, enum output_kind which, const void *bytes, size_t size);
void lease_answer(void *arg, uint64_t id, uint32_t number, enum answer_kind kind, const void *bytes, size_t size);
void lease_recalled(void *arg, uint64_t id, uint32_t number);
void lease_cancel(struct stream *st, struct call *c);
void lease_timer(evutil_socket_t fd, short what, void *arg);
#endif
