/* A worker: one process, forked from the fork server, that does one piece of work after the other.
 *
 * Fork server, guard and worker are subreapers: what a job detaches becomes a child of one of them, and a child nobody
 * knows is killed, with its process group. Those that each make a session of their own and others faster than they are
 * listed outlive that: so a worker has a cgroup (0.2 ms, once), and after 50 ms of killing one after the other all in
 * there are killed at once. Where no cgroup can be made there is only the killing one after the other, for 10 s.
 *
 * One exception saves a script the time that the kernel takes to take an interpreter down: when its process has come to
 * its end, has no child and no second thread, and is its worker's only child, DONE is said at once. */
#ifndef PPFS_WORKER_H
#define PPFS_WORKER_H
#include <sys/uio.h>

#include "worker/runner/control.h"
#include "worker/forkserver/job_environment.h"
#include "worker/forkserver/python.h"

/* Runs until its link ends. serial names it; uid: whose work it does, and nobody else's; fds: its descriptors as in
 * SPAWN, CLOEXEC. guard: its parent; it dies with it. */
_Noreturn void worker_main(uint64_t serial, uid_t uid, const int fds[SPAWN_FDS], pid_t guard);

/* Takes note of what this process is, before its first call: worker_restore compares with that. link: its end of it. */
void worker_note(int link);
void worker_part(void); /* in a child that runs a job: closes the link, and the file of the page */
/* Puts this process in order after calls in it, their directory being cwd; kills what they left. Where something cannot
 * be put back worker_spoiled is true from then on: no call may run here any more. */
void worker_restore(const char *cwd);
bool worker_spoiled(void);
/* recv() of the link, which maps the files that come along. */
ssize_t worker_receive(int link, void *to, size_t room, int flags);
struct worker_map { /* of a whole file: ours alone, for writing, too; bytes NULL: none */
    void *bytes;
    size_t size;
};
struct worker_map worker_take_map(void);             /* the next of those, in their order; munmap it */
void worker_send(struct iovec *parts, size_t count); /* over the link, all of it; uses parts up */

/* A job with a process of its own, other than a program. data: what a call of an isolated job has left for the link,
 * see job_process_run. */
struct job_process {
    struct work_outcome outcome;
    pid_t left; /* it has told its end and is being taken down by the kernel; 0 = it is gone */
    int data;   /* memfd: the result, then the trace; -1 when there is neither */
    uint64_t result_size, trace_size;
};

/* After a script, when idle: makes the process of the next one ahead, so that it starts at once. */
void job_process_spare(int link);
void job_process_drop_spare(void); /* before anything but a script: what is below a worker then belongs to its job */
/* Forks this interpreter and runs w in the child: WORK_PYTHON as __main__, a call as a call. Returns when that process
 * has ended, or (left) has told so. The caller closes iso->data. */
void job_process_run(const struct work *w, const struct job_environment *p, struct job_process *iso);
/* job_files.c: before it begins, takes the files out of the pack in fd into its directory. False: o says why not. */
bool job_files_in(const struct work *w, const struct job_environment *p, int fd, struct work_outcome *o);
/* When it is done, packs those of w->files. A file without a name, the caller's, that has *size bytes; -1: o says why
 * not. */
int job_files_out(const struct work *w, const struct job_environment *p, uint64_t *size, struct work_outcome *o);
_Noreturn void job_process_fresh(int argc, char **argv); /* main, where fresh_run executes this program */
/* Once the end is told: kills what is left of it, max_ms at most. False: something is. */
bool job_process_bury(struct job_process *iso, unsigned max_ms);

/* --- leases --- */
struct lease_line { /* how calls come and answers go */
    int link;
    int page_file; /* of page */
    struct lease_page *page;
    const void *rest; /* bytes of the link that came with the START */
    size_t rest_size;
};
/* Runs the calls of a lease in this process, after python_begin_lease in cwd, until there are no more or the process is
 * spoiled. False when the link has ended. */
bool lease_run(const struct lease_line *line, const char *cwd);
/* The same in a child that has taken on the place of w. Returns when that process has ended; the worker is to leave
 * then, for calls may be left in the link. */
void job_process_lease(const struct work *w, const struct job_environment *p, const struct lease_line *line,
                       struct work_outcome *o);
#endif
