/* How long functions run, on each host: what host_choose and the leases go by. A function is what can be told apart for
 * nothing: the SHA-256 that a stream sends it by, the name in a JSON call; calls that say neither are one function for
 * each stream, and the jobs of one directory that are of one kind are one, too. Numbers stand for functions: 1 to
 * ESTIMATE_MAX, 0 for none. The table is bounded: a number that was not used for long goes to another function, and then
 * what is known of it is forgotten. Only sched/ includes this. */
#ifndef PPFS_SPEED_H
#define PPFS_SPEED_H
#include <stdbool.h>
#include <stdint.h>

#include "sched/job/job.h"

#define ESTIMATE_MAX 256u /* functions that are known at once */

struct host;
struct sched;

struct took {     /* microseconds of one function on one host, newer runs count more */
    float us;     /* 0: not measured */
    float spread; /* how far runs are from that; as large as itself after the first one */
    uint32_t of;  /* speeds.given of its number then: another, and this is of a function that had the number before */
    uint16_t failed; /* runs in a row that have failed there */
    uint8_t tries;   /* pieces that it was given since it is doubted */
    bool worked;     /* one has succeeded there */
    int64_t until;   /* clock_us: while it is doubted it gets the next piece then */
};

uint64_t estimate_key(uint64_t a, uint64_t b); /* never 0 */
uint64_t estimate_key_text(const char *text, size_t size);
unsigned estimate_function(struct sched *s, uint64_t key);                       /* its number; a new one perhaps */
void estimate_note(struct host *h, unsigned function, double us, unsigned runs); /* so many took us each */
/* What it takes there: as measured; else by other hosts, and how this one compares with them; 0: nobody knows. */
double estimate_us(const struct host *h, unsigned function);
/* By how much it takes longer there than on the fastest host; 0 also where that is not sure, or less than a quarter. */
double estimate_excess(const struct host *h, unsigned function);
bool estimate_sure(const struct host *h, unsigned function); /* runs there are alike, and there were some */
/* Runs there take so long, but for a few; false: they are not alike, or one that is under way there takes longer. */
bool estimate_span(const struct host *h, unsigned function, double *least, double *most);
/* for sure, by a quarter and more */
bool estimate_faster(const struct host *h, const struct host *than, unsigned function);
/* A run has ended there by itself: returned, raised or with any exit status; not lost, not timed out. */
void estimate_ended(struct host *h, unsigned function, bool failed);
/* Runs of that function fail there and, as far as is known, nowhere else: something may be missing. It gets one of them
 * at a time, after 1, 2, 4 ... 16 s, until one succeeds. */
bool estimate_doubts(const struct host *h, unsigned function);
bool estimate_shuns(const struct host *h, unsigned function); /* and it is not yet time for the next */
void estimate_tries(struct host *h, unsigned function);       /* it is given one */
unsigned estimate_doubted(const struct host *h);              /* functions that are doubted there; walks over all */
void estimate_weigh(struct sched *s);                         /* compares the hosts, at most once a second */

/* its function; stream: that it is a call of, 0 = none */
unsigned estimate_of_job(struct sched *s, const struct job *j, uint64_t stream);
/* for who only looks: 0 when the table does not have it */
unsigned estimate_known(const struct sched *s, const struct job *j);
/* All that is queued will have ended on faster hosts, by what they run now, before one job of that function could end
 * on h: then h is not for it, though it is free. */
bool estimate_waits(struct sched *s, const struct host *h, unsigned function);
/* the same, and sees to it that that is asked again */
bool estimate_holds(struct sched *s, const struct host *h, unsigned function);
#endif
