/* What the tests of the pool share: one with real workers ($PPFS_WORKER, else ./ppfs-worker), in one loop, and what its
 * jobs gave. */
#ifndef PPFS_POOLRIG_H
#define PPFS_POOLRIG_H
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "net/descriptors.h"
#include "tests/unit/scratch.h"
#include "worker/pool/pool.h"
#include "worker/runner/pyenv.h"

enum { JOBS = 64, KEEP = 1 << 16, PATIENCE_S = 60 };
struct job {
    bool done;
    struct work_outcome outcome;
    char bytes[4][KEEP]; /* what output() gave, by stream, cut at KEEP */
    uint64_t size[4];
};

struct fixture {
    struct event_base *base;
    struct pool *pool;
    struct runner runner; /* it */
    struct job jobs[JOBS];
    uint64_t last; /* job id given last */
    unsigned troubles;
    char trouble[1024];
    bool gave_up;
};

#define OUT(j) ((j)->bytes[OUTPUT_STDOUT])
#define ERR(j) ((j)->bytes[OUTPUT_STDERR])
#define RESULT(j) ((j)->bytes[OUTPUT_RESULT])
#define TRACE(j) ((j)->bytes[OUTPUT_TRACE])

extern struct fixture fix;

void on_output(void *arg, uint64_t job, enum output_kind stream, const void *bytes, size_t size);
void on_done(void *arg, uint64_t job, const struct work_outcome *o);
void on_trouble(void *arg, const char *sentence);
/* Runs the loop until *flag, or fails the test after PATIENCE_S. */
void loop_until(const bool *flag);
void loop_for_ms(int ms);
const char *worker_path(void);
void pool_with(const struct pool_config *config);
void pool_up(unsigned workers);
int setup(void **state);
int teardown(void **state);
struct work base_work(enum work_kind kind, const void *payload, size_t size);
struct job *begin(struct work w);
struct job *run(struct work w);
struct work text(enum work_kind kind, const char *s);
void assert_end(const struct job *j, enum work_end end, int status, const char *why);
void assert_text(const char *whole, const char *part);
size_t pickle_exec(const char *source, uint8_t *to);
struct job *begin_exec(const char *source);
struct job *run_exec(const char *source);
#endif
