/* What surrounds a job's file: its writer, its name, its groups and their .options. Only sched/ includes this. */
#ifndef PPFS_SCHED_JOB_FILES_INT_H
#define PPFS_SCHED_JOB_FILES_INT_H
#include "sched/jobs/jobs.h"

/* writer.c */
/* The directory that the writer is in; "" when it cannot be told. */
void writer_directory(pid_t pid, char *buf, size_t size);
/* of our own mount: a job would keep that busy, and runs elsewhere */
bool writer_is_inside(const struct sched *s, const char *directory);
int writer_killed_by(pid_t pid); /* the signal that is killing the process right now, 0: none is */
const char *writer_signal_name(int signal);
bool writer_killed_open(const struct job *j, pid_t pid, bool opener); /* what was closed is open again: see there */

/* draft_name.c: whether a job stays a draft until it is renamed, for its name is one of what is not finished: .x, x~,
 * x.tmp, or what drafts= says; and a sentence that says so. */
void drafts_begin(struct sched *s); /* once, with the database: whether any .options has drafts= */
bool draft_stays(struct sched *s, const struct job *j);
bool draft_why(struct sched *s, const struct job *j, char *why, size_t size);

/* options_file.c */
/* it is to have that text: 0, -EINVAL, -EFBIG */
int options_file_write(struct sched *s, const struct job *j, const char *text, size_t size);
/* whether it may become that group's: 0 or what take says */
int options_file_check(struct sched *s, const struct job *j, uint64_t group);
/* it was closed: in force from here on. -EPERM, -EINVAL, -EFBIG */
int options_file_take(struct sched *s, const struct job *j);
/* Its last writer has gone. What was not taken goes: it has the words that are in force again, or is removed where none
 * are. */
int options_file_settle(struct sched *s, struct job_row *r);

/* group_options.c: adds what the groups above a job of that user say, the outermost first. -EPERM with why: they say
 * what only a job's own user, or root, may say of it; o then has some of it. */
int group_options(struct sched *s, uint64_t group, uid_t writer, struct options *o, char *why, size_t size);
/* whether they would: 0, -EPERM */
int group_options_check(struct sched *s, uint64_t group, uid_t writer, char *why, size_t size);
/* Of a draft that is closed. -EPERM: it will fail as it is queued, for its group would bind it; this way its writer
 * hears of it. */
int group_options_close(struct sched *s, const struct job *j);

/* give_up.c: that job has failed; whether that is one too many for its groups (max_fails=). 0 or -errno */
int give_up_failed(struct sched *s, const struct job *j);
int give_up_fewer(struct sched *s, const struct job *j); /* it leaves failures/, if it is there. 0 or -errno */
/* keep.c, forget.c */
void keep_begin(struct sched *s); /* by what is committed: once, and after each commit that failed */
int keep_ended(struct sched *s, const struct job_row *r); /* it has ended: 0 or -errno */
int keep_left(struct sched *s, const struct job_row *r);  /* what has ended is to be no such job any more */
void keep_slice(struct sched *s);
void keep_set_timer(struct sched *s, int64_t due);
void keep_timer(evutil_socket_t fd, short what, void *arg);

void control_slice(struct sched *s);                            /* group_control.c */
int cancel_job(struct sched *s, uint64_t job, const char *why); /* control.c: one that is not a draft. 0 or -errno */

/* groups.c: whether that user may look up names in a group, by the modes of its directories, as the kernel goes by them
 * where names are looked up in the mount. Only his main group is known here; access by another one counts as none. */
bool group_may_search(const struct group *g, uid_t uid, gid_t gid);
bool group_is_below(struct sched *s, uint64_t id, uint64_t top);             /* or the same */
bool group_may_reach(struct sched *s, uint64_t group, uid_t uid, gid_t gid); /* from jobs/ down to it */
uint64_t group_reached_by(struct sched *s, uint64_t group);                  /* a hash of what decides that */

int group_depth(struct sched *s, uint64_t id);

/* arrays.c */
/* Whether that failed job (NULL: any other file or directory) may get that name in a group: in that of an array, only
 * an element may, which comes back. */
bool array_may_take(const struct group *g, const struct job_row *r, const char *name);
/* What after= finds in a group. 0: an array, which has *succeeded or has not ended; -EINVAL with why, or -errno */
int array_of_group(struct sched *s, const struct group *g, const char *path, bool *succeeded, char *why, size_t size);
/* A job is forgotten: an array whose element it is has not succeeded where it has not. 0 or -errno */
int array_forgets(struct sched *s, const struct job_row *r);
/* They are held, or let go, or get that priority; of NULL: whoever's they are. */
int array_control(struct sched *s, uint64_t group, const uid_t *of, bool holds, int value);
/* Those that are no jobs yet are cancelled, where they are that user's. */
int array_drop_rest(struct sched *s, uint64_t group, uid_t uid);
/* All are, some in each turn; *t: the tally of the group before these turns. */
int array_cancel(struct sched *s, const struct group *g, struct tally *t);

/* backlog.c */
void backlog_mark(struct sched *s, const struct job_row *r); /* r is queued: the next dispatch looks for it */
/* Whether a job waits that the host could run; by what waited when backlog_look was called. */
void backlog_look(struct sched *s);
bool backlog_wants(const struct host *h);

#endif
