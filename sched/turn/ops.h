/* What a room asks of those above it: tables of functions that sched.c fills in, so that no call goes up by name. */
#ifndef PPFS_OPS_H
#define PPFS_OPS_H
#include "sched/db/store.h"
#include "sched/turn/config.h"
#include "worker/runner/runner.h"

struct host;
struct run;
struct user;

/* As the state of a job changes. By kind; NULL: nothing is to be done. */
enum job_ops_kind { OPS_JOB, OPS_CALL /* a call job */, OPS_STREAM, OPS_KINDS };
struct job_ops {
    /* To running, on that host (NULL for a stream). 0, -EBUSY: its last attempt is still being written down, or
     * -errno. */
    int (*start)(struct sched *s, struct job_row *r, struct host *h, unsigned also_save);
    void (*drop)(struct sched *s, uint64_t job);   /* nobody wants its end */
    void (*cancel)(struct sched *s, uint64_t job); /* it is killed, and its end is kept */
    /* It has ended, or a stream goes. 0, -errno, or 1: who was told removes it, later. */
    int (*ended)(struct sched *s, const struct job_row *r);
};

/* Of a stream alone, which is written while it runs. */
struct stream_ops {
    bool (*has_room)(const struct sched *s, const struct user *u);         /* in memory, for one more of his */
    int (*begin)(struct sched *s, struct job_row *r, enum work_kind kind); /* at its first write */
    int (*opened)(struct sched *s, const struct job_row *r);               /* one more writer; -ETXTBSY: too late */
    int (*write)(struct sched *s, const struct job_row *r, const void *bytes, size_t size, uint64_t offset, bool again,
                 sched_done *done, void *arg);
    /* the process has closed it, or is killed */
    int (*flushed)(struct sched *s, struct job_row *r, pid_t pid, int64_t size);
    int (*closed)(struct sched *s, const struct job_row *r);
    void (*set_priority)(struct sched *s, uint64_t job, int priority);
};

/* What a runner tells of an id that it was given: a run's, or a lease's. It may be gone by now. */
enum work_ops_kind { OPS_RUN, OPS_LEASE, OPS_WORK_KINDS };
#define LEASE_BIT (1ull << 63) /* of the ids of leases, and of no job */
struct work_ops {
    void (*output)(struct host *h, uint64_t id, enum output_kind which, const void *bytes, size_t size);
    void (*done)(struct host *h, uint64_t id, const struct work_outcome *o);
};

struct sched_ops {
    struct job_ops job[OPS_KINDS];
    struct stream_ops stream;
    struct work_ops work[OPS_WORK_KINDS];
    /* of leases alone, as runner_events has them; arg: the host */
    void (*answer)(void *arg, uint64_t lease, uint32_t number, enum answer_kind kind, const void *bytes, size_t size);
    void (*recalled)(void *arg, uint64_t lease, uint32_t number);
    /* What a call job prints, for its stream. */
    void (*printed)(struct run *r, enum output_kind which, const void *bytes, size_t size);
};
#endif
