/* Where and as whom a job runs: its directory, its user, its environment, its limits. A directory, program or
 * interpreter that a job names is looked up as its user, in the process that becomes the job. */
#ifndef PPFS_JOB_ENVIRONMENT_H
#define PPFS_JOB_ENVIRONMENT_H
#include <limits.h>

#include "worker/forkserver/login.h"
#include "worker/runner/work.h"

struct job_environment {
    char cwd[PATH_MAX];  /* the directory it runs in */
    bool cwd_is_ours;    /* made for this job, removed with it */
    char *script;        /* what environment_script wrote */
    char tool[PATH_MAX]; /* the directory made for it, "" where it lies in the worker's own */
    bool other;          /* runs as another user than this process, who is: */
    struct login user;
    uint64_t memory;
    unsigned sandbox; /* enum of sandbox.h */
    int sandbox_abi;  /* the Landlock version of this kernel */
    char **env;       /* "K=V" pairs to add: of another user's login, PPFS_*, then the job's own; NULL-terminated */
};

/* Directories are made in one root, whose name the pool chose, and begin with the worker's serial number, so that
 * what a killed worker leaves there is found and removed by the fork server. */
void environment_root(const char *root);   /* in the fork server */
void environment_clear_root(bool itself);  /* removes all that is in it, or it too */
bool environment_left_by(uint64_t serial); /* whether that worker, now dead, left something */
void environment_clear(uint64_t serial);   /* removes it */
/* Removes the roots that killed pools of our user have left: nobody has them locked. */
void environment_sweep(void);
void environment_begin_worker(uint64_t serial);
/* In the fork server, before Python starts: numeric libraries use as many threads as a call has processors, one, unless
 * the environment says otherwise. */
void environment_threads(void);

/* Fills in *p for w; light when the job is our own user's. 0, or -1 with a sentence in why (and nothing to close). */
int environment_open(struct job_environment *p, const struct work *w, char *why, size_t why_size);
/* Removes the directories that were made for the job. Its processes must be dead. Keeps errno. */
void environment_close(struct job_environment *p);

/* Writes a program into a private directory of the job's user, as base name of name, executable: p->script. fd: its
 * source, or -1 for bytes. 0, or -1 with why. */
int environment_script(struct job_environment *p, const char *name, int fd, const void *bytes, size_t size, char *why,
                       size_t why_size);

int environment_file(void); /* a file without a name where job directories are, or in memory. -1 with errno */

/* removes it; also what an environment_script that failed has left */
void environment_drop_script(struct job_environment *p);

/* In the job's own process: signals and limits as a fresh process has them, own process group (another user's: own
 * session), dies with its parent, user, directory. Makes system calls only, so it is safe after vfork. 0 or the name of
 * the step that failed, errno set. */
const char *environment_enter(const struct job_environment *p);

/* The environment of a program: ours with p->env over it, of another user p->env alone. malloc'd array of borrowed
 * strings, NULL without memory. */
char **environment_environ(const struct job_environment *p);
#endif
