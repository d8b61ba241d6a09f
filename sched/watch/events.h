/* What has happened lately, in the order in which it was committed: a part of sched.h. The newest events are in a ring
 * of memory; older ones go, however far its readers are. */
#ifndef PPFS_EVENTS_H
#define PPFS_EVENTS_H
#include "sched/job/job.h"

struct sched;

enum event_kind {
    EVENT_LOST,  /* count of them went before their reader came to them */
    EVENT_BEGAN, /* this daemon has begun: of those before the ring has none */
    EVENT_SUBMITTED,
    EVENT_HELD,
    EVENT_WAITING,
    EVENT_QUEUED,
    EVENT_DRAFT, /* it was taken back */
    EVENT_STARTED,
    EVENT_RETRIED,  /* the attempt failed, and another follows */
    EVENT_REQUEUED, /* the attempt was lost */
    EVENT_ENDED,
    EVENT_CANCELLED,
    EVENT_NODE_UP,
    EVENT_NODE_DRAINS,
    EVENT_NODE_DOWN,
    EVENT_SLOTS,
    EVENT_KINDS
};
const char *event_name(enum event_kind k);

struct event {
    enum event_kind kind;
    int64_t time;   /* microseconds since the epoch */
    uint64_t count; /* of EVENT_LOST; 0: nobody knows */
    uint64_t job;   /* its id; 0: about a node */
    uint64_t group; /* whose job it is */
    uid_t uid;      /* the owner, gid and mode of the job when that happened */
    gid_t gid;
    mode_t mode;
    enum job_state state;
    uint32_t attempt;
    unsigned slots; /* of a node */
    /* in the ring, until the next call */
    const char *name; /* of the job */
    const char *node, *why;
};

struct event_place { /* of a reader */
    uint64_t at, number;
};
struct event_place sched_events_end(const struct sched *s);   /* behind the newest one */
struct event_place sched_events_begin(const struct sched *s); /* before the oldest one */
int64_t sched_events_since(const struct sched *s); /* time of the oldest one; of the present if there is none */
/* The next event, behind which the place is then. false: there is none yet. */
bool sched_event(const struct sched *s, struct event_place *p, struct event *out);
#endif
