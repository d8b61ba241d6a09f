/* What the tests of the pool share: one with real workers ($PPFS_WORKER, else ./ppfs-worker), in one loop, and what its
 * jobs gave. Header only: each test is one file. */
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

static struct fixture {
    struct event_base *base;
    struct pool *pool;
    struct runner runner; /* it */
    struct job jobs[JOBS];
    uint64_t last; /* job id given last */
    unsigned troubles;
    char trouble[1024];
    bool gave_up;
} fix;

static void on_output(void *arg, uint64_t job, enum output_kind stream, const void *bytes, size_t size) {
    struct job *j = &fix.jobs[job % JOBS];
    size_t have = j->size[stream] < KEEP - 1 ? (size_t)j->size[stream] : KEEP - 1;
    size_t take = size < KEEP - 1 - have ? size : KEEP - 1 - have;

    assert_false(j->done);
    memcpy(j->bytes[stream] + have, bytes, take);
    j->size[stream] += size;
}

static void on_done(void *arg, uint64_t job, const struct work_outcome *o) {
    assert_false(fix.jobs[job % JOBS].done);
    fix.jobs[job % JOBS].done = true;
    fix.jobs[job % JOBS].outcome = *o;
}

static void on_trouble(void *arg, const char *sentence) {
    fix.troubles++;
    snprintf(fix.trouble, sizeof(fix.trouble), "%s", sentence);
}

static void on_patience(evutil_socket_t fd, short what, void *arg) {
    fix.gave_up = true;
}

/* Runs the loop until *flag, or fails the test after PATIENCE_S. */
static void loop_until(const bool *flag) {
    struct event *timer = evtimer_new(fix.base, on_patience, NULL);
    struct timeval patience = {.tv_sec = PATIENCE_S};

    fix.gave_up = false;
    event_add(timer, &patience);
    while (!*flag && !fix.gave_up)
        event_base_loop(fix.base, EVLOOP_ONCE);
    event_free(timer);
    assert_true(*flag);
}

static void loop_for_ms(int ms) {
    struct event *timer = evtimer_new(fix.base, on_patience, NULL);
    struct timeval pause = {.tv_usec = ms * 1000};

    fix.gave_up = false;
    event_add(timer, &pause);
    while (!fix.gave_up)
        event_base_loop(fix.base, EVLOOP_ONCE);
    event_free(timer);
}

static const char *worker_path(void) {
    const char *path = getenv("PPFS_WORKER");
    return path ? path : "./ppfs-worker";
}

static void pool_with(const struct pool_config *config) {
    struct runner_events events = {.output = on_output, .done = on_done, .trouble = on_trouble};

    unsetenv("VIRTUAL_ENV");
    memset(&fix, 0, sizeof(fix));
    fix.base = event_base_new();
    assert_int_equal(pool_create(&fix.pool, fix.base, config, &events, NULL), 0);
    pool_runner(fix.pool, &fix.runner);
}

static void pool_up(unsigned workers) {
    pool_with(&(struct pool_config){.worker_path = worker_path(), .workers = workers});
}

static int setup(void **state) {
    pool_up(2);
    return 0;
}

static int teardown(void **state) {
    pool_destroy(fix.pool);
    event_base_free(fix.base);
    assert_nothing_left();
    return 0;
}

static struct work base_work(enum work_kind kind, const void *payload, size_t size) {
    return (struct work){.kind = kind,
                         .attempt = 1,
                         .name = "t",
                         .node = "local",
                         .cwd = "/",
                         .uid = geteuid(),
                         .gid = getegid(),
                         .payload = payload,
                         .payload_size = (uint32_t)size};
}

static struct job *begin(struct work w) {
    w.job = ++fix.last;
    struct job *j = &fix.jobs[w.job % JOBS];
    memset(j, 0, sizeof(*j));
    assert_int_equal(runner_start(fix.runner, &w), 0);
    assert_false(j->done);
    return j;
}

static struct job *run(struct work w) {
    struct job *j = begin(w);
    loop_until(&j->done);
    return j;
}

static struct work text(enum work_kind kind, const char *s) {
    return base_work(kind, s, strlen(s));
}

#define OUT(j) ((j)->bytes[OUTPUT_STDOUT])
#define ERR(j) ((j)->bytes[OUTPUT_STDERR])
#define RESULT(j) ((j)->bytes[OUTPUT_RESULT])
#define TRACE(j) ((j)->bytes[OUTPUT_TRACE])

static void assert_end(const struct job *j, enum work_end end, int status, const char *why) {
    if (j->outcome.end != end || (why && !strstr(j->outcome.why, why)))
        print_message("end %d status %d why '%s'\nstderr: %s\ntrace: %s\n", j->outcome.end, j->outcome.status,
                      j->outcome.why, ERR(j), TRACE(j));
    assert_int_equal(j->outcome.end, end);
    assert_int_equal(j->outcome.status, status);
    if (why)
        assert_non_null(strstr(j->outcome.why, why));
}

static void assert_text(const char *whole, const char *part) {
    if (!strstr(whole, part))
        print_message("'%s' is not in '%s'\n", part, whole);
    assert_non_null(strstr(whole, part));
}
#endif
