/* Inside the jobs: what their files and the rooms above them share. Only sched/ includes this. */
#ifndef PPFS_SCHED_JOBS_H
#define PPFS_SCHED_JOBS_H
#include "sched/hosts/hosts.h"
#include "sched/jobs/control.h"
#include "sched/jobs/successors.h"

/* successors.c */
int jobs_make(struct sched *s); /* 0 or -ENOMEM */
void jobs_free(struct sched *s);
void jobs_committed(struct sched *s, bool changed); /* what has left the room with this turn is done */
void jobs_rolled_back(struct sched *s);
struct ids jobs_again(struct sched *s); /* drafts to be released once more; the caller's */

/* transition.c: the one way to another state */
int sched_transition(struct sched *s, struct job_row *r, enum job_state to, unsigned also_save);
int sched_fail(struct sched *s, struct job_row *r, int error, const char *why, unsigned also_save);
/* By the kind of job, see ops.h. */
int job_start(struct sched *s, struct job_row *r, struct host *h, unsigned also_save);
void job_cancel(struct sched *s, const struct job_row *r);
int sched_remove(struct sched *s, struct job_row *r); /* the job, its run and its bodies go away */
int sched_drop_bodies(struct sched *s, uint64_t job, bool spec);
void sched_note_successor(struct sched *s, const struct job *old, uint64_t successor);
/* Who has its name by now, 0 = nobody that is known. *was: what the old one was, where there is somebody. */
uint64_t sched_successor(const struct sched *s, uint64_t job, struct successor *was);

/* submit.c */
int submit_job(struct sched *s, struct job_row *r);
/* a draft that is being read stays one; false: it is not being read */
bool reading_stop(struct sched *s, uint64_t job);
/* waits for others, for a node, or is queued */
int submit_ready(struct sched *s, struct job_row *r, unsigned also_save);
/* 0, -EINVAL: what the database has are no options, and the job fails (submit_unreadable says why), or -errno */
int submit_options(struct sched *s, const struct job_row *r, struct options **out);
extern const char submit_unreadable[];
bool submit_placeable(struct sched *s, const struct job_row *r, const struct options *o);
/* where its calls or it may run */
int submit_place(struct sched *s, const struct job_row *r, char place[CONSTRAINT_MAX]);
int submit_enqueue(struct sched *s, struct job_row *r, unsigned also_save);
/* a draft that is a stream, at its first write */
int submit_stream(struct sched *s, struct job_row *r, enum work_kind kind);
struct buffer;
struct call_text {
    uint64_t number;
    const char *line; /* JSON: has its options among others ... */
    size_t size;
    const char *options; /* ... frames: a JSON object; NULL where there is a line */
};
/* A call job. *out is that job; it may have failed already. body: what its file says; with out->job.id given, it is in
 * the spool file of that job already. */
int submit_call(struct sched *s, const struct job_row *owner, const struct call_text *c, const struct buffer *body,
                struct job_row *out);

/* arrays.c, array_begin.c, array_slice.c: jobs with array= */
void arrays_begin(struct sched *s); /* once, with the database */
/* A job that says array= would be queued: it becomes a group. 0 (also when it failed, or waits) or -errno */
int array_begin(struct sched *s, struct job_row *r, unsigned also_save);
/* %8 of an array is max=8 of its group: into options of that group that have no max=. 0 or -errno */
int array_add_limit(struct sched *s, uint64_t group, struct options *o);
int array_reset_options(struct sched *s, uint64_t group); /* the group has that only, or none. 0 or -errno */
void array_slice(struct sched *s);
/* An element's state has changed; left: it has ended, or goes, and so may any job have. */
int array_moved_on(struct sched *s, const struct job_row *r, bool left);
int array_element(struct sched *s, uint64_t id,
                  struct job *out);               /* one that is no job yet, as a job that waits; -ENOENT */
uint64_t job_spec(struct sched *s, uint64_t job); /* the job whose file it has: itself, or its array */

/* draft.c */
bool draft_converts(const struct sched *s, uint64_t job);        /* its bytes are going to the spool */
#define SPEC_FILE 1                                              /* number of a spec's spool file */
int draft_spec(struct sched *s, uint64_t job, struct body *out); /* where its bytes are (or are on the way to) */

#endif
