/* Leases: a slot that a stream has for a while. See lease.c. */
#ifndef PPFS_LEASE_H
#define PPFS_LEASE_H
#include "sched/sched_int.h"

struct call;
struct stream;

#define LEASE_BIT (1ull << 63) /* ids that the pool is told and that are no jobs */
#define LEASE_AHEAD 128u       /* calls that a worker here is sent ahead, at most ... */
#define LEASE_AHEAD_FAR 4096u  /* ... and one on a node */
#define LEASE_GOT 4            /* functions whose answers of one turn are told apart */

struct lease {
    struct lease *next;
    uint64_t id;
    struct host *host;          /* stays as long as the lease */
    struct stream *stream;      /* NULL: it was dropped, and only its slot is still to come back */
    unsigned first, count, cap; /* of the ring */
    uint32_t next_number;
    uint32_t asked;             /* the last recall was from that number on */
    unsigned got;               /* answers of this turn; by function in got_of */
    struct got {
        unsigned function, n;
    } got_of[LEASE_GOT];
    double ahead_us;            /* what the calls in the ring take together, as far as can be told */
    int64_t last, heard, began; /* when something came back last, and as measured so far; when it got its slot */
    bool finishing, lent, recalling; /* recalling: the node is still to say what it has begun */
    bool unwanted;              /* one of the ring is: it is to be killed if, or when, it is the one that runs */
    struct sent {
        uint64_t call;
        uint32_t number;
        uint16_t function;
        bool unwanted;          /* it was cancelled */
        double us;              /* its part of ahead_us */
    } *ring;                    /* sent and not answered, oldest first; cap is a power of two */
};

bool lease_wanted(struct sched *s, int *priority); /* a stream could use a slot */
bool lease_ready(struct sched *s, int *priority);  /* and there is one that it may have: lease_grant */
int lease_grant(struct sched *s);
void lease_reclaim(struct sched *s);               /* somebody else waits for a slot: idle leases end */
bool lease_lend(struct sched *s, uint64_t id, bool lend); /* false: there is no such lease */
void lease_send(struct sched *s);                  /* after a commit */
void lease_drop(struct stream *st);                /* its workers are killed */
void lease_end(struct stream *st);                 /* nothing more to send: they may go */
bool lease_done(struct sched *s, uint64_t id, const struct work_outcome *o); /* false: not a lease */
void lease_output(struct sched *s, uint64_t id, enum pool_stream which, const void *bytes, size_t size);
void lease_answer(void *arg, uint64_t id, uint32_t number, enum pool_answer kind, const void *bytes, size_t size);
void lease_recalled(void *arg, uint64_t id, uint32_t number);
void lease_cancel(struct stream *st, struct call *c);
void lease_timer(evutil_socket_t fd, short what, void *arg);
void lease_free_all(struct sched *s);
unsigned lease_count(const struct sched *s, const struct stream *st);
#endif
