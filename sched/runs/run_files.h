/* Files that travel with a job (needs=, gives=): the legs of its run, see run_files.c. */
#ifndef PPFS_RUN_FILES_H
#define PPFS_RUN_FILES_H
#include "sched/runs/run.h"

#define RUN_PACK_PATH 64
/* Before the work is handed over, all else of it being set: where files travel with the job, sets what concerns these;
 * path: the name of their pack. 0: it can be handed over; 1: that they are packed has begun, and run_files_next tells;
 * or -errno: run_files_why. large: the job file does not fit beside a pack. */
int run_files_begin(struct run *r, struct job_work *all, bool large, char path[RUN_PACK_PATH]);
const char *run_files_why(int rc);                                 /* NULL: it is none of these files' errors */
void run_files_add(struct run *r, const void *bytes, size_t size); /* OUTPUT_FILES */
/* A leg has ended so. True: another one follows; else *o is how the attempt has ended. */
bool run_files_next(struct run *r, struct work_outcome *o);
void run_files_end(struct run *r);  /* it has no leg any more */
void run_files_free(struct run *r); /* its packs */
#endif
