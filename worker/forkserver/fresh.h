/* A Python of its own for one job: the program is executed anew, so that what Python and libc read at their start is
 * what the job's env= says. Costs a start of the interpreter, so it is for those jobs alone. */
#ifndef PPFS_FRESH_H
#define PPFS_FRESH_H
#include "worker/forkserver/program.h"

#define FRESH_WORD "--fresh" /* the first argument of the program then */

/* Whether w is Python's and its env= names something that is read at a start: PYTHON*, LC_*, LD_* ... */
bool fresh_wanted(const struct work *w);

struct fresh_files {  /* what the new process is given besides; -1: nothing */
    int report, data; /* isolate.c's; data: of a call */
    int link, page;   /* of a lease */
};
/* Runs it in its place and waits, as program_run does. script: the file of a WORK_PYTHON, or NULL. rest: bytes that
 * came over a lease's link with its START. */
void fresh_run(const struct work *w, const struct place *p, const char *script, const struct fresh_files *files,
               const void *rest, size_t rest_size, struct work_outcome *o);

struct fresh { /* the other side of it */
    struct work work;
    struct place place; /* entered already; cwd and script */
    struct fresh_files files;
    const void *rest;
    size_t rest_size;
    const char *program; /* for python_start, as is: */
    bool locale;         /* env= said something of the locale or of UTF-8 */
};
/* In the new process, out of its arguments. Everything in *f lives as long as the process. False: they are not what
 * fresh_run gives. */
bool fresh_open(struct fresh *f, int argc, char **argv);
#endif
