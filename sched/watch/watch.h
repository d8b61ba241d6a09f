/* What is counted of transitions. Only sched/ includes this. */
#ifndef PPFS_WATCH_H
#define PPFS_WATCH_H
#include "sched/job/job.h"
#include "sched/watch/counts.h"

struct second {
    int64_t at; /* clock_us / 1000000; another, and the rest is of a second long ago */
    uint32_t ended, turn_us;
};

struct watch {
    struct counts all, fresh; /* fresh: of this turn, until its commit */
    struct second seconds[PACE_SECONDS];
    int64_t woke;    /* clock_us; 0: no event has come in this turn */
    int64_t slowest; /* microseconds */
    uint32_t ended;  /* as struct pace has it, of this turn */
    bool is_fresh;
};

/* A job goes from that state to the one that it has now. part: it is a call job. */
void watch_transition(struct sched *s, const struct job *j, enum job_state from, bool part);
void watch_call(struct sched *s); /* one was answered; at once, as nodes/ counts it */
void watch_committed(struct sched *s, bool committed);
#endif
