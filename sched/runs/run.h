/* Attempts under way, and what they write. Only sched/ includes this. */
#ifndef PPFS_RUN_H
#define PPFS_RUN_H
#include <search.h>

#include "sched/jobs/job_files.h"
#include "worker/runner/file_writer.h"

enum run_state {
    RUN_STARTING, /* written as running, not yet committed */
    RUN_RUNNING,  /* the pool has it */
    RUN_ENDING,   /* it has ended; its output may still be on the way to the disk */
    RUN_ENDED,    /* its end is written, not yet committed */
};
enum run_fate { FATE_NONE, FATE_TIMEOUT, FATE_DROPPED /* cancelled, replaced or forgotten: nobody wants its end */ };

/* What its runner has been given: the job itself, or on this machine, before it, that the files which it needs are
 * packed, and after it, that those which it gave are laid out. */
enum run_leg { LEG_WORK, LEG_NEEDS, LEG_GIVES };

struct output { /* what it wrote so far: in memory up to INLINE_MAX, then in a spool file */
    char *bytes;
    size_t cap;
    int64_t size;
    int64_t written; /* of a spooled one: how much of it the file has */
    bool spooled;
    struct sums sums; /* of what the file has; the disk thread's while it writes */
};

#define RUN_TAIL 160u

struct run { /* an attempt under way: the only thing in memory that grows with work, and it is bounded by the slots */
    uint64_t id; /* first: key of the tree */
    struct sched *s;
    struct host *host; /* where it is; it stays as long as the run */
    struct host *at;   /* whose runner has the leg that it is on: host's, or this machine's */
    struct user *user;
    struct limit *limit;   /* that of its group; NULL: none */
    uint64_t stream, call; /* whose call it runs, 0 = none's */
    unsigned live;         /* 1 << enum output_kind: what goes to that stream at once */
    uint32_t attempt;
    struct slot_use use;
    enum run_state state;
    enum run_fate fate;
    struct output out[4]; /* by enum output_kind */
    size_t writing;       /* bytes on the way to the disk */
    unsigned tasks;       /* disk tasks that point here */
    int error;            /* first errno of storing its output */
    int64_t live_bytes;   /* its part of user.live */
    size_t away;          /* bytes that it printed while its stream did not have its call */
    bool held, begun;     /* begun: the runner took it */
    bool refused;         /* it was to wait for a result, and may not: lend.c */
    unsigned waits;       /* requests of it for which its slot is lent */
    bool noted;           /* how long it ran */
    enum run_leg leg;
    struct file_writer *needs, *gives; /* packs of files, see run_files.c; NULL: none */
    char *names;                       /* of the files of that leg, with commas between */
    uint32_t pieces;                   /* given to the pack of that leg */
    bool unwritten;                    /* outcome is there, and its pack is not whole yet */
    struct event *timeout;
    struct work_outcome outcome;
    SLIST_ENTRY(run) next; /* in the list of this turn that it stands in */
    /* the last bytes that it wrote to stdout and stderr, as they came; cut: there were more before */
    char tail[RUN_TAIL];
    size_t tail_size;
    bool tail_cut;
};

/* run.c */
int runs_make(struct sched *s); /* 0 or -ENOMEM */
void runs_free(struct sched *s);
void run_each(struct sched *s, void (*visit)(const void *node, VISIT visit, void *arg), void *arg); /* as twalk_r */
struct run *run_find(struct sched *s, uint64_t job);
int run_start(struct sched *s, struct job_row *r, struct host *h, unsigned also_save);
void run_committed(struct sched *s);
void run_rolled_back(struct sched *s);
void run_retry_ends(struct sched *s); /* after a commit that failed: the ends that have to be written again */
void run_stop_all(struct sched *s, bool all);
void run_drop(struct sched *s, uint64_t job);
void run_cancel(struct sched *s, uint64_t job);
void run_output(struct host *h, uint64_t job, enum output_kind stream, const void *bytes, size_t size);
void run_done(struct host *h, uint64_t job, const struct work_outcome *o);
void run_lend(struct run *r, bool lend);
#define WRITING_HIGH (4u << 20) /* bytes of output on the way to the disk at which the runner stops reading ... */
#define WRITING_LOW (1u << 20)  /* ... and goes on */

/* What runners are told of a job, by its row and options: of a run, and of a lease for a stream. */
struct job_work {
    struct work work; /* points into the rest */
    struct job_row row;
    struct options *options;
    char name[4096], *cwd;
    const char **env;             /* run_add_environment: work.env and more; else NULL */
    size_t env_count, made_count; /* of it, and of what was made for it */
    char *made[RESOURCE_KINDS + 3];
};
/* run_work.c: adds to its environment how many processors it has, if more than one, and which resources of its host.
 * 0 or -ENOMEM */
int run_add_environment(struct job_work *w, const struct run *r);
int run_work(struct sched *s, uint64_t job, struct job_work *out); /* 0 or -errno; in any case: run_work_free */
void run_work_free(struct job_work *w);
struct run *run_of(struct host *h, uint64_t job); /* the run with that id on that host; NULL: not on it any more */
void run_finish(struct run *r); /* writes its end; if disk tasks still point at it, the last one calls again */

bool run_begin(struct run *r); /* hands it over; false: that failed, and outcome says why */

/* run_output.c */
unsigned run_output_live(const struct job_row *row); /* 1 << enum output_kind, of what goes to its stream at once */
bool run_output_sync(struct run *r); /* true: its large output is being synced, and run_finish follows */
int run_output_store(struct sched *s, struct run *r); /* stores its output. 0 or -errno */
void run_output_free(struct run *r);                  /* what is in memory of it */
void run_output_drop(struct run *r);
#endif
