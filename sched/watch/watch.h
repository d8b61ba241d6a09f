/* What is counted of transitions. Only sched/ includes this. */
#ifndef PPFS_WATCH_H
#define PPFS_WATCH_H
#include "sched/job/job.h"
#include "sched/watch/counts.h"
#include "sched/watch/events.h"

#define HANDLERS 64u /* names of handlers, more than there are */

struct second {
    int64_t at; /* clock_us / 1000000; another, and the rest is of a second long ago */
    uint32_t ended, turn_us;
    int64_t grown;
};

struct ring { /* events.c */
    char *bytes;
    uint64_t begin, committed, end;
    uint64_t next; /* number of the next event */
};

struct watch {
    struct ring ring;
    bool news;                /* a job has gone without an event */
    struct counts all, fresh; /* fresh: of this turn, until its commit */
    struct second seconds[PACE_SECONDS];
    struct handler handlers[HANDLERS];
    size_t handler_count;
    int64_t marked;  /* by the coarse clock: what came before is some handler's */
    int64_t woke;    /* clock_us; 0: no event has come in this turn */
    int64_t slowest; /* microseconds */
    uint32_t ended;  /* as struct pace has it, of this turn */
    bool is_fresh;
    bool is_parted; /* some handler took part of this turn */
};

/* A job goes from that state to the one that it has now. part: it is a call job. */
void watch_transition(struct sched *s, const struct job *j, enum job_state from, bool part);
void watch_call(struct sched *s);                      /* one was answered; at once, as nodes/ counts it */
bool watch_committed(struct sched *s, bool committed); /* whether something has happened that events are read for */
void watch_node(struct sched *s, enum event_kind kind, const char *node, unsigned slots, const char *why);
void watch_gone(struct sched *s); /* a job was removed */

/* events.c */
int events_create(struct watch *w);
void events_destroy(struct watch *w);
void events_job(struct watch *w, const struct job *j, enum job_state from); /* as watch_transition */
bool events_committed(struct watch *w, bool committed);
#endif
