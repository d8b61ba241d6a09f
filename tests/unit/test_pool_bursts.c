/* The pool itself: its fork server, its limits, and many works at once. */
#include "tests/unit/poolrig.h"

/* --- the pool itself ---------------------------------------------------------------------------------------------- */
static void jobs_run_side_by_side(void **state) {
    struct job *a = begin(text(WORK_PYTHON, "import time; time.sleep(30)")), *b;
    uint64_t first = fix.last;
    b = begin(text(WORK_JSON_RUN, "{\"run\": [\"sleep\", \"30\"]}"));
    struct work w = text(WORK_JSON_CALL, "{\"call\": \"abs\", \"args\": [1]}");
    w.job = 99;
    assert_int_equal(runner_start(fix.runner, &w), -EAGAIN);
    runner_kill(fix.runner, 12345);
    runner_kill(fix.runner, first);
    loop_until(&a->done);
    assert_end(a, WORK_SIGNALED, SIGKILL, "killed");
    assert_false(b->done);
    runner_resize(fix.runner, 1);
    assert_int_equal(runner_start(fix.runner, &w), -EAGAIN);
    runner_kill(fix.runner, first + 1);
    loop_until(&b->done);
    assert_end(run(w), WORK_DONE, 0, "");
    w.payload_size = WORK_INLINE_MAX + 1;
    assert_int_equal(runner_start(fix.runner, &w), -EMSGSIZE);
}

static void whole_trees_are_killed(void **state) {
    struct job *j = begin(
        text(WORK_PROGRAM, "#!/bin/sh\n(setsid sh -c 'sleep 96 & sleep 96' &)\nsleep 96 & echo $$; kill -STOP $$\n"));
    while (!strchr(OUT(j), '\n'))
        loop_for_ms(5);
    assert_int_equal(pool_job_of(fix.pool, atoi(OUT(j))), fix.last);
    assert_int_equal(pool_job_of(fix.pool, getpid()), 0);
    assert_int_equal(pool_job_of(fix.pool, pool_forkserver(fix.pool)), 0);
    loop_for_ms(50);
    runner_kill(fix.runner, fix.last);
    loop_until(&j->done);
    assert_end(j, WORK_SIGNALED, SIGKILL, "killed");
    assert_int_equal(system("pgrep -x -f 'sleep 96' >/dev/null"), 256);
}

static void forkserver_death_loses_work_and_is_mended(void **state) {
    struct job *j = begin(text(WORK_PROGRAM, "#!/bin/sh\nsetsid sleep 95 &\necho; sleep 95"));
    while (!j->size[OUTPUT_STDOUT])
        loop_for_ms(5);
    kill(pool_forkserver(fix.pool), SIGKILL);
    loop_until(&j->done);
    assert_end(j, WORK_LOST, 0, "the fork server of the workers");
    assert_false(j->outcome.unbegun);
    assert_int_equal(fix.troubles, 1);
    assert_end(run(text(WORK_JSON_CALL, "{\"call\": \"abs\", \"args\": [1]}")), WORK_DONE, 0, "");
    loop_for_ms(100);
    assert_int_equal(system("pgrep -x -f 'sleep 95' >/dev/null"), 256);
}

/* Nobody can have died of work that no worker has taken: neither of one that is still to be made, nor of one that was
 * stopped before. */
static void what_dies_unbegun_says_so(void **state) {
    struct work w = text(WORK_JSON_CALL, "{\"call\": \"os.getpid\"}");
    int worker;
    struct job *j = run(w);
    assert_int_equal(sscanf(RESULT(j), "%d", &worker), 1);
    assert_int_equal(kill(worker, SIGSTOP), 0);
    j = begin(w);
    kill(pool_forkserver(fix.pool), SIGKILL);
    loop_until(&j->done);
    assert_end(j, WORK_LOST, 0, "the fork server of the workers");
    assert_true(j->outcome.unbegun && !j->outcome.no_room);
    assert_end(run(w), WORK_DONE, 0, "");
    kill(pool_forkserver(fix.pool), SIGSTOP);
    struct job *both[2] = {begin(w), begin(w)}; /* one of them has the idle worker */
    loop_until(&both[0]->done);
    kill(pool_forkserver(fix.pool), SIGKILL);
    loop_until(&both[1]->done);
    assert_end(both[0], WORK_DONE, 0, "");
    assert_end(both[1], WORK_LOST, 0, "the fork server of the workers");
    assert_true(both[1]->outcome.unbegun && !both[1]->outcome.no_room);
}

static void forkserver_that_cannot_start_refuses_work(void **state) {
    char path[] = "/tmp/ppfs-file-XXXXXX";
    int fd = mkstemp(path);
    dprintf(fd, "#!/bin/sh\nexit 3\n");
    fchmod(fd, 0755);
    close(fd);
    struct pool_config config = {.worker_path = path, .workers = 1};
    struct runner_events events = {.output = on_output, .done = on_done, .trouble = on_trouble};
    memset(&fix, 0, sizeof(fix));
    fix.base = event_base_new();
    assert_int_equal(pool_create(&fix.pool, fix.base, &config, &events, NULL), 0);
    pool_runner(fix.pool, &fix.runner);
    assert_end(run(text(WORK_JSON_CALL, "{}")), WORK_REFUSED, 0, "does not start (exit status 3)");
    assert_end(run(text(WORK_JSON_CALL, "{}")), WORK_REFUSED, 0, "does not start (exit status 3)");
    assert_int_equal(fix.troubles, 2); /* the second one waited for the second start */
    struct job *j = begin(text(WORK_JSON_CALL, "{}"));
    runner_kill(fix.runner, fix.last);
    assert_false(j->done);
    loop_until(&j->done);
    assert_end(j, WORK_SIGNALED, SIGKILL, "killed");
    /* one that comes up in the end finds the work that waits */
    assert_int_equal(unlink(path), 0);
    char *real = realpath(worker_path(), NULL);
    assert_int_equal(symlink(real, path), 0);
    free(real);
    assert_end(run(text(WORK_JSON_CALL, "{\"call\": \"abs\", \"args\": [1]}")), WORK_DONE, 0, "");
    unlink(path);
    config.worker_path = "/no/such/worker";
    struct pool *none;
    assert_int_equal(pool_create(&none, fix.base, &config, &events, NULL), -ENOENT);
    config.worker_path = worker_path();
    config.python = "/no/such/python";
    assert_int_equal(pool_create(&none, fix.base, &config, &events, NULL), -ENOENT);
}

static void no_descriptor_is_left(void **state) {
    run(text(WORK_JSON_CALL, "{\"call\": \"os.getpid\"}"));
    struct job *j = run(text(WORK_PROGRAM, "#!/bin/sh\nls /proc/self/fd | tr '\\n' ' '"));
    assert_string_equal(OUT(j), "0 1 2 3 "); /* 3 is what ls itself reads */
    j = run(text(WORK_JSON_CALL, "{\"call\": \"os.listdir\", \"args\": [\"/proc/self/fd\"]}"));
    assert_text(RESULT(j), "[\"0\", \"1\", \"2\", ");
    for (int i = 0; i < 20; i++)
        run_exec("import os; os._exit(1)");
    assert_true(entries("/proc/self/fd") < 40);
}

/* --- bursts ------------------------------------------------------------------------------------------------------- */
enum { BURST = 300 };

static struct burst {
    unsigned ends[WORK_LOST + 1];
    unsigned done, unbegun;
    bool all;
    unsigned expected;
    char why[512];
} burst;

static void on_burst_output(void *arg, uint64_t job, enum output_kind stream, const void *bytes, size_t size) {
}

static void on_burst_done(void *arg, uint64_t job, const struct work_outcome *o) {
    burst.ends[o->end]++;
    burst.unbegun += o->unbegun;
    if (o->end != WORK_DONE)
        snprintf(burst.why, sizeof(burst.why), "%s", o->why);
    burst.all = ++burst.done == burst.expected;
}

static void burst_up(unsigned workers) {
    struct pool_config config = {.worker_path = worker_path(), .workers = workers};
    struct runner_events events = {.output = on_burst_output, .done = on_burst_done, .trouble = on_trouble};

    memset(&fix, 0, sizeof(fix));
    memset(&burst, 0, sizeof(burst));
    fix.base = event_base_new();
    assert_int_equal(pool_create(&fix.pool, fix.base, &config, &events, NULL), 0);
    pool_runner(fix.pool, &fix.runner);
    while (!pool_python(fix.pool)[0])
        event_base_loop(fix.base, EVLOOP_ONCE);
}

static int start_numbered(uint64_t job, const char *call) {
    struct work w = text(WORK_JSON_CALL, call);
    w.job = job;
    return runner_start(fix.runner, &w);
}

/* What all pipes that we have open may hold. */
static unsigned long pipe_bytes(void) {
    unsigned long sum = 0;
    for (int fd = 0; fd < 4096; fd++) {
        int size = fcntl(fd, F_GETPIPE_SZ);
        sum += size > 0 ? (unsigned long)size : 0;
    }
    return sum;
}

/* A quarter of what the user may have. */
static unsigned long share_of_pipes(void) {
    unsigned long pages = 0;
    FILE *f = fopen("/proc/sys/fs/pipe-user-pages-soft", "r");
    assert_int_equal(fscanf(f, "%lu", &pages), 1);
    fclose(f);
    return pages ? pages * (unsigned long)sysconf(_SC_PAGESIZE) / 4 : ULONG_MAX;
}

/* More orders than the socket of the fork server holds, while it takes none. */
static void any_number_of_starts_and_kills_at_once(void **state) {
    burst_up(BURST);
    kill(pool_forkserver(fix.pool), SIGSTOP);
    for (uint64_t job = 1; job <= BURST; job++)
        assert_int_equal(start_numbered(job, "{\"call\": \"abs\", \"args\": [1]}"), 0);
    assert_int_equal(start_numbered(BURST + 1, "{}"), -EAGAIN);
    loop_for_ms(20);
    kill(pool_forkserver(fix.pool), SIGCONT);
    burst.expected = BURST;
    loop_until(&burst.all);
    assert_true(pipe_bytes() <= share_of_pipes());
    if (burst.ends[WORK_DONE] != BURST)
        print_message("%s; the log: %s\n", burst.why, fix.trouble);
    assert_int_equal(burst.ends[WORK_DONE], BURST);

    burst = (struct burst){.expected = BURST};
    for (uint64_t job = 1; job <= BURST; job++)
        assert_int_equal(start_numbered(job, "{\"call\": \"time.sleep\", \"args\": [1000]}"), 0);
    loop_for_ms(300);
    kill(pool_forkserver(fix.pool), SIGSTOP);
    for (uint64_t job = 1; job <= BURST; job++)
        runner_kill(fix.runner, job);
    loop_for_ms(20);
    kill(pool_forkserver(fix.pool), SIGCONT);
    loop_until(&burst.all);
    assert_int_equal(burst.ends[WORK_SIGNALED], BURST);
    assert_string_equal(burst.why, "killed");
    assert_int_equal(fix.troubles, 0);
}

static void without_descriptors_work_waits(void **state) {
    struct rlimit before, few;
    unsigned started = 0;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    burst_up(BURST);
    few = (struct rlimit){.rlim_cur = (rlim_t)entries("/proc/self/fd") + 80, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    for (int err = 0; !err && started < BURST; started += !err) {
        err = start_numbered(started + 1, "{\"call\": \"time.sleep\", \"args\": [0.2]}");
        assert_true(err == 0 || err == -EAGAIN);
    }
    assert_true(started >= 5 && started < 80);
    int file = open("/dev/null", O_RDONLY); /* some are kept for other things */
    assert_true(file >= 0);
    close(file);
    assert_int_equal(fix.troubles, 1);
    assert_text(fix.trouble, "no more descriptors");
    burst.expected = started;
    loop_until(&burst.all);
    assert_int_equal(burst.ends[WORK_DONE], started);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    burst = (struct burst){.expected = 1};
    assert_int_equal(start_numbered(BURST, "{\"call\": \"abs\", \"args\": [1]}"), 0);
    loop_until(&burst.all);
    assert_int_equal(burst.ends[WORK_DONE], 1);
}

/* The same for work that waits in the pool: it is given back, as nobody's fault. */
static void what_waits_is_given_back_without_descriptors(void **state) {
    struct rlimit before, few;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    burst_up(BURST);
    kill(pool_forkserver(fix.pool), SIGSTOP);
    for (uint64_t job = 1; job <= BURST; job++)
        assert_int_equal(start_numbered(job, "{\"call\": \"time.sleep\", \"args\": [0.2]}"), 0);
    few = (struct rlimit){.rlim_cur = (rlim_t)entries("/proc/self/fd") + 40, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    kill(pool_forkserver(fix.pool), SIGCONT);
    burst.expected = BURST;
    loop_until(&burst.all);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_true(burst.ends[WORK_DONE] >= 64);
    assert_true(burst.unbegun > 0);
    assert_int_equal(burst.unbegun, burst.ends[WORK_LOST]);
    assert_int_equal(burst.ends[WORK_DONE] + burst.unbegun, BURST);
}

/* As a user who may have eight processes, not one that another run of this test counts its own for. The exit status
 * says what went wrong. A false assertion ends this process, which would go on with the next tests otherwise. */
static int with_few_processes(void) {
    struct rlimit few = {.rlim_cur = 8, .rlim_max = 8};
    uid_t user = 61000 + (uid_t)getppid() % 4000;
    setenv("CMOCKA_TEST_ABORT", "1", 1);
    if (setgid(user) || setuid(user) || setrlimit(RLIMIT_NPROC, &few))
        return 1;
    burst_up(20);
    unsigned started = 0;
    while (started < 20 && start_numbered(started + 1, "{\"call\": \"time.sleep\", \"args\": [0.2]}") == 0)
        started++;
    burst.expected = started;
    loop_until(&burst.all);
    pool_destroy(fix.pool);
    event_base_free(fix.base);
    if (started != 20 || burst.ends[WORK_REFUSED] || burst.ends[WORK_DONE] + burst.unbegun != started)
        return 2;
    if (burst.ends[WORK_DONE] == 0 || burst.unbegun < 10)
        return burst.ends[WORK_DONE] == 0 ? 3 : 4;
    return strstr(fix.trouble, "no more processes") ? 0 : 5;
}

static void without_processes_work_is_given_back(void **state) {
    int status = -1;
    if (geteuid() != 0)
        skip();
    assert_int_equal(chmod(scratch, 01777), 0);
    pid_t pid = fork();
    if (pid == 0)
        _exit(with_few_processes());
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(chmod(scratch, 0711), 0);
    assert_int_equal(status, 0);
}

static void jobs_have_the_limit_that_we_were_given(void **state) {
    struct rlimit before, half;
    char want[64];
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    half = (struct rlimit){.rlim_cur = 512, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &half), 0);
    descriptors_raise();
    struct rlimit raised;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &raised), 0);
    assert_int_equal(raised.rlim_cur, before.rlim_max);
    pool_up(1);
    struct job *j = run(text(WORK_PROGRAM, "#!/bin/sh\nulimit -Sn; ulimit -Hn\n"));
    if (before.rlim_max == RLIM_INFINITY)
        snprintf(want, sizeof(want), "512\nunlimited\n");
    else
        snprintf(want, sizeof(want), "512\n%llu\n", (unsigned long long)before.rlim_max);
    assert_string_equal(OUT(j), want);
}

static void shebangs_of_our_python(void **state) {
    char *program, why[512];
    assert_int_equal(pyenv_resolve(NULL, &program, why, sizeof(why)), 0);
    assert_true(pyenv_is_own("#!/usr/bin/env python3"));
    assert_true(pyenv_is_own("#! /usr/bin/env python3 -u"));
    assert_false(pyenv_is_own("#!/usr/bin/env python3 -O"));
    assert_false(pyenv_is_own("#!/usr/bin/env python2"));
    assert_false(pyenv_is_own("#!/bin/sh"));
    assert_false(pyenv_is_own("#!"));
    char line[4096];
    snprintf(line, sizeof(line), "#!%s", program);
    assert_true(pyenv_is_own(line));
    free(program);
    assert_int_equal(pyenv_resolve("/bin/true", &program, why, sizeof(why)), -ENOEXEC);
    assert_text(why, "does not answer like a Python");
    assert_int_equal(pyenv_resolve("/tmp", &program, why, sizeof(why)), -EINVAL);
    assert_text(why, "not a virtual environment");
}
int main(void) {
#define POOL_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        POOL_TEST(jobs_run_side_by_side),
        POOL_TEST(whole_trees_are_killed),
        POOL_TEST(forkserver_death_loses_work_and_is_mended),
        POOL_TEST(what_dies_unbegun_says_so),
        cmocka_unit_test_teardown(forkserver_that_cannot_start_refuses_work, teardown),
        POOL_TEST(no_descriptor_is_left),
        cmocka_unit_test_teardown(any_number_of_starts_and_kills_at_once, teardown),
        cmocka_unit_test_teardown(without_descriptors_work_waits, teardown),
        cmocka_unit_test_teardown(what_waits_is_given_back_without_descriptors, teardown),
        cmocka_unit_test(without_processes_work_is_given_back),
        /* the last: the limit stays raised */
        cmocka_unit_test_teardown(jobs_have_the_limit_that_we_were_given, teardown),
        cmocka_unit_test(shebangs_of_our_python),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
