/* Run times of functions on each host, for host_choose and the leases. A function is what can be told apart at no cost:
 * the SHA-256 in a stream, the name in a JSON call; other calls of one stream are one function, and so are the jobs of
 * one kind in one directory; what different users run is never one function. Functions have numbers from 1 to
 * ESTIMATE_MAX, 0 for none. A number that was not used for long goes to another function, and its run times are
 * forgotten. Only sched/ includes this. */
#ifndef PPFS_SPEED_H
#define PPFS_SPEED_H
#include <stdbool.h>
#include <stdint.h>

#include "sched/job/job.h"

#define ESTIMATE_MAX 256u /* functions known at once */

struct host;
struct sched;

struct took {                   /* run time of one function on one host; newer runs count more */
    float us;                   /* mean, microseconds; 0: not measured */
    float spread;               /* mean deviation; as large as the mean after the first run */
    uint32_t of;                /* estimates.given of its number; another: these are of an earlier function */
    uint16_t failed;            /* failed runs in a row */
    uint8_t tries : 6;          /* runs tried since it is doubted */
    bool worked : 1, lacks : 1; /* a run has succeeded; the last one that ended found a module missing */
    int64_t until;              /* clock_us: the next try, while it is doubted */
};

uint64_t estimate_key(uint64_t a, uint64_t b); /* never 0 */
uint64_t estimate_key_text(const char *text, size_t size);
uint64_t estimate_key_of(uid_t uid, uint64_t key);                               /* no other uid has it */
unsigned estimate_function(struct sched *s, uint64_t key);                       /* its number, perhaps a new one */
void estimate_note(struct host *h, unsigned function, double us, unsigned runs); /* records so many runs of us each */
/* Its run time there: measured, or by other hosts and the speed of this one; 0: unknown. */
double estimate_us(const struct host *h, unsigned function);
/* The excess over the fastest host; 0 also if that is unsure, or less than a quarter. */
double estimate_excess(const struct host *h, unsigned function);
bool estimate_sure(const struct host *h, unsigned function); /* there were runs, and they are alike */
/* The usual range of run times there; false: runs are not alike, or one under way takes longer. */
bool estimate_span(const struct host *h, unsigned function, double *least, double *most);
/* surely, by a quarter or more */
bool estimate_faster(const struct host *h, const struct host *than, unsigned function);
/* A run has ended there by itself: returned, raised or with any exit status; not lost, not timed out. */
void estimate_ended(struct host *h, unsigned function, bool failed);
/* A run could not begin there for a module that is missing: the function is doubted there until one succeeds. */
void estimate_lacks(struct host *h, unsigned function);
/* Whether another host may have it: one on which the function has worked, this machine, or one of the first few. */
bool estimate_elsewhere(const struct sched *s, unsigned function);
/* Runs of that function fail there and, as far as is known, nowhere else: something may be missing. The host gets one
 * run at a time, after 1, 2, 4 ... 16 s, until one succeeds. */
bool estimate_doubts(const struct host *h, unsigned function);
bool estimate_shuns(const struct host *h, unsigned function); /* doubted, and the next try is not due */
void estimate_tries(struct host *h, unsigned function);       /* a run is given to it */
unsigned estimate_doubted(const struct host *h); /* the number of functions doubted there; a walk over all */
void estimate_forget(const struct host *h);      /* it goes */
void estimate_weigh(struct sched *s);            /* compares the hosts, at most once a second */

/* the job's function; stream: whose call it runs, 0: none */
unsigned estimate_of_job(struct sched *s, const struct job *j, uint64_t stream);
/* as the above, for queries: 0 if the table does not have it */
unsigned estimate_known(const struct sched *s, const struct job *j);
/* Whether faster hosts will have ended all queued jobs before one of that function could end on h: h stays free
 * then. */
bool estimate_waits(struct sched *s, const struct host *h, unsigned function);
/* the same, and asks again in time */
bool estimate_holds(struct sched *s, const struct host *h, unsigned function);
#endif
