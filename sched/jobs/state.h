/* What the room of jobs has in memory. */
#ifndef PPFS_JOBS_STATE_H
#define PPFS_JOBS_STATE_H
#include "sched/jobs/job_files.h"

struct jobs {
    struct ids submitting, converting;             /* drafts that are read; that go to the spool */
    struct ids released, again;                    /* of this turn; of turns that were not committed, for the retry */
    struct successors *successors, own_successors; /* the own ones where sched_config has none */
    bool arrays, arrays_kept_back;                 /* there may be some; that a quota keeps back */
    bool drafts_said;                              /* a .options file may say drafts= */
    struct waiting_place *waiting_places;          /* backlog.c, of this lease_reclaim */
    unsigned waiting_count;
};
#endif
