/* Counters and histograms since this daemon began, and the pace of the last quarter of an hour: a part of sched.h. They
 * are kept by transitions and count what is committed. */
#ifndef PPFS_COUNTS_H
#define PPFS_COUNTS_H
#include <stddef.h>
#include <stdint.h>

struct sched;

#define HISTOGRAM_BOUNDS 17u
extern const double histogram_bounds[HISTOGRAM_BOUNDS]; /* seconds; what took as long as a bound is below it */
struct histogram {
    uint64_t below[HISTOGRAM_BOUNDS + 1]; /* that bound, and above the one before; the last: above all */
    double sum;                           /* seconds */
};

struct counts { /* of jobs, streams among them; calls of streams by themselves */
    uint64_t submitted, started, done, failed, cancelled;
    uint64_t retried;  /* attempts that failed and are followed by another */
    uint64_t requeued; /* attempts that were lost with a node or with ppfs */
    uint64_t calls;    /* answered, whatever the answer */
    /* of attempts of jobs that are no streams: from the queue to the start, from there to the end */
    struct histogram wait, run;
};
const struct counts *sched_counts(const struct sched *s);

#define PACE_SECONDS 900u
struct pace {
    uint64_t ended; /* attempts of jobs and calls */
    double turn;    /* seconds of the slowest turn */
    int64_t grown;  /* by so many jobs that have not ended there are more */
};
/* Of the last so many seconds, at most PACE_SECONDS. */
struct pace sched_pace(const struct sched *s, unsigned seconds);
double sched_slowest_turn(const struct sched *s); /* seconds, since this daemon began */

/* Turns longer than TURN_LONG_US, by the handler that took the most of them, since this daemon began. */
#define TURN_LONG_US 10000
struct handler {
    const char *name;
    int64_t took; /* ns of this turn, as the coarse clock has it: exact enough to say who took most of 10 ms */
    uint64_t turns;
    int64_t slowest; /* microseconds */
};
const struct handler *sched_handlers(const struct sched *s, size_t *count);

void sched_woke(struct sched *s); /* an event has come: the turn begins, if it has not */
/* What has happened since it was last called was that handler's, a string constant. */
void sched_took(struct sched *s, const char *handler);
void sched_turned(struct sched *s); /* the turn is over */
#endif
