/* CPython inside the fork server and its workers. Every function needs the one thread that called python_start (it
 * keeps the GIL for good). Texts called why are one sentence, empty when there is nothing to say. */
#ifndef PPFS_PYTHON_H
#define PPFS_PYTHON_H
#include <signal.h>

#include "worker/runner/work.h"

/* Initialises the interpreter, loads bootstrap.py and warms its imports. program: what pyenv_resolve gave. 0 or -1 with
 * why. */
int python_start(const char *program, char *why, size_t why_size);
/* The same for one job, with the locale of the environment, or UTF-8 as in all others. */
int python_start_fresh(const char *program, bool locale, char *why, size_t why_size);
const char *python_program(void);
const char *python_version(void); /* "3.11.2" */

/* Around every fork of a process that has called python_start. The child of a guard calls python_forked only. */
void python_before_fork(void);
void python_after_fork(void); /* in the parent */
void python_forked(void);     /* in the child */

void python_begin_worker(void); /* once in a worker, after python_forked */

struct python_reply {
    enum work_end end;
    char why[512];
    const void *result, *trace; /* NULL when there is none; valid until python_reply_clear */
    size_t result_size, trace_size;
    void *owner;
};

/* Runs a call (WORK_PICKLE, WORK_JSON_CALL) in this process. cwd: where the process now is. env: pairs for a process
 * that is the job's own, NULL in a worker that goes on. Never fails: what goes wrong is in the reply. */
void python_call(const struct work *w, const char *cwd, const char *const *env, struct python_reply *reply);
void python_reply_clear(struct python_reply *reply);

/* Puts the Python of a worker in order after python_call. False when the worker cannot go on: threads still run, output
 * could not be written, or order.py cannot put something back. */
bool python_restore(const char *cwd);
bool python_threads(void);                       /* whether there are threads besides this one */
void python_restore_signals(const int *changed); /* sets python3's handlers for these signals, zero-terminated */

/* --- leases: calls one after another, with little around them --- */
/* cwd, env as for python_call */
void python_begin_lease(const struct work *w, const char *cwd, const char *const *env);

struct python_answer {
    enum answer_kind kind; /* VALUE, ERROR, or NEED without bytes: not for a lease */
    const void *bytes;     /* valid until python_answer_clear */
    size_t size;
    void *owner;
};
/* Whether the function of a hash is in this process; it is then the one that the next CALL_HASH calls. */
bool python_find_function(const uint8_t hash[32]);
/* Takes a pickled function in and makes it the next one. False: it could not be, and *a says why. */
bool python_add_function(const uint8_t hash[32], const void *bytes, size_t size, struct python_answer *a);
/* The same for a value: it is then one of those that the next call may refer to, and stays until python_drop_values. */
bool python_find_value(const uint8_t hash[32]);
bool python_add_value(const uint8_t hash[32], const void *bytes, size_t size, struct python_answer *a);
void python_drop_values(void);
/* format: JSON, PICKLE or HASH; bytes: behind the hash. values: the pickle may refer to values. map: that they lie in
 * and that this takes over, of map_size bytes; NULL: they are the caller's. */
void python_lease_call(enum call_format format, bool values, const void *bytes, size_t size, void *map, size_t map_size,
                       struct python_answer *a);
/* the answer to a pickled call that cannot be one */
void python_lease_refuse(const char *sentence, struct python_answer *a);
void python_answer_clear(struct python_answer *a);
/* Flushes what was printed. True when the calls since python_lease_mark changed something that python_restore puts
 * back, as far as that can be seen without a system call. */
bool python_lease_smells(void);
void python_lease_mark(void);
void python_lease_rest(const char *cwd); /* after a pause between calls, in which the user may have edited modules */

/* Runs the payload as __main__ in this process, which is the job's own, and does all that python3 does at its end
 * except leaving. file: a copy of the payload, for processes that look for one; NULL: there is none. Returns the exit
 * status. */
int python_script(const struct work *w, const char *file, const char *cwd, const char *const *env, char *why,
                  size_t why_size);

/* In a process that is a job's own, and does nothing else: packs the files (out) of these names, with commas between,
 * into fd, or takes those of a pack in fd out of it; NULL: all. why: "" where that is done. */
void python_travel(bool out, int fd, const char *names, char *why, size_t why_size);

/* Reads a WORK_JSON_RUN payload. *argv: malloc'd, one block, free(*argv). *input: malloc'd bytes. 0 or -1 with why. */
int python_read_run(const struct work *w, char ***argv, void **input, size_t *input_size, char *why, size_t why_size);

void python_rehearse(void); /* in a process that waits for its script: touches what every script touches */
void python_flush(void);    /* sys.stdout, sys.stderr, and stdio */
/* A call begins, before anything of it is unpickled: what is set on modules of others from here on is its doing. */
void python_patch_begin(void);
#endif
