/* Programs: a job's {"run": [...]}, a #! script of another interpreter, an ELF file. */
#ifndef PPFS_PROGRAM_H
#define PPFS_PROGRAM_H
#include <sys/resource.h>

#include "worker/forkserver/job_environment.h"
#include "worker/runner/work.h"

struct program {
    char **argv;      /* as the program sees it */
    const char *path; /* the file to execute; NULL: argv[0], looked for in PATH */
    int input;        /* becomes its stdin, -1: ours */
    const int *keep;  /* further descriptors that it inherits; -1: none */
    size_t keep_count;
};

/* Runs it in its job environment with our stdout and stderr, and waits for it (not for its orphans). Fills in end,
 * status, why and usage. Uses vfork: the cost does not depend on the size of this process. */
void program_run(const struct program *prog, const struct job_environment *p, struct work_outcome *o);

/* A descriptor from which size bytes can be read, or -1 with errno. */
int program_input(const void *bytes, size_t size);

/* A wait status and usage as an outcome, for every kind of job that has a process of its own. */
void program_outcome(int status, const struct rusage *usage, struct work_outcome *o);
#endif
