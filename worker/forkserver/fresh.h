/* An interpreter of its own for one job: the program is executed anew, so that Python and libc read the job's env= at
 * their start. Used only for jobs that need it, because it costs a start of the interpreter. */
#ifndef PPFS_FRESH_H
#define PPFS_FRESH_H
#include "worker/forkserver/program.h"

#define FRESH_WORD "--fresh" /* the first argument of the program then */

/* Whether w is a Python job whose env= sets a variable that is read at the start: PYTHON*, LC_*, LD_* ... */
bool fresh_wanted(const struct work *w);

struct fresh_files {  /* further descriptors for the new process; -1: none */
    int report, data; /* job_process.c's; data: of a call */
    int link, page;   /* of a lease */
};
/* Runs it in its job environment and waits, as program_run does. script: the file of a WORK_PYTHON, or NULL. rest:
 * bytes that came over a lease's link after its START. */
void fresh_run(const struct work *w, const struct job_environment *p, const char *script,
               const struct fresh_files *files, const void *rest, size_t rest_size, struct work_outcome *o);

struct fresh { /* the request in the new process */
    struct work work;
    struct job_environment environment; /* entered already; cwd and script */
    struct fresh_files files;
    const void *rest;
    size_t rest_size;
    const char *program; /* for python_start, as is: */
    bool locale;         /* env= sets the locale or UTF-8 mode */
};
/* In the new process: reads the request from its arguments. Everything in *f lives as long as the process. False: no
 * request of fresh_run. */
bool fresh_open(struct fresh *f, int argc, char **argv);
#endif
