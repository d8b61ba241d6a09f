/* Inside the attempts: what run.c and run_output.c share. */
#ifndef PPFS_RUN_INT_H
#define PPFS_RUN_INT_H
#include "sched/turn/sched_int.h"

#define WRITING_HIGH (4u << 20) /* bytes of output on the way to the disk at which the runner stops reading ... */
#define WRITING_LOW (1u << 20)  /* ... and goes on */

/* run.c */
struct run *run_of(struct host *h, uint64_t job); /* the run that a host speaks of, NULL: it is not its any more */
void run_finish(struct run *r); /* its end is written, unless disk tasks still point at it: they call again */

/* run_output.c */
unsigned run_output_live(const struct job_row *row); /* 1 << enum output_kind, of what goes to its stream at once */
bool run_output_sync(struct run *r); /* true: its large output is being synced, run_finish comes later */
int run_output_store(struct sched *s, struct run *r); /* writes down what it wrote. 0 or -errno */
void run_output_drop(struct run *r);
#endif
