/* The scheduler with the real pool and database, without a mount: jobs go in by sched.h and end. Needs $PPFS_WORKER. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sched/jobs/jobs.h"
#include "sched/sched.h"
#include "sched/turn/turn.h"

#define PATIENCE_US 30000000

static char dir[64], why[512];
static struct event_base *base;
static struct sched *s;

static void changed(void *arg, uint64_t job) {
}
static void on_log(void *arg, const char *sentence) {
    fprintf(stderr, "# %s\n", sentence);
}
static bool nobody(void *arg, uint64_t job, bool for_writing) {
    return false;
}

static void start(unsigned cpus) {
    struct sched_config c = {.base = base,
                             .state_dir = dir,
                             .mountpoint = "/nowhere",
                             .worker_path = getenv("PPFS_WORKER"),
                             .cpus = cpus,
                             .changed = changed,
                             .group_changed = changed,
                             .log = on_log};
    if (sched_create(&s, &c, why, sizeof why) < 0)
        fail_msg("%s", why);
    assert_int_equal(sched_recover(s, nobody, NULL), 0);
}

static int setup(void **state) {
    strcpy(dir, "/tmp/ppfs-sched-XXXXXX");
    if (!getenv("PPFS_WORKER") || !mkdtemp(dir) || chmod(dir, 0700) < 0)
        return -1;
    base = event_base_new();
    start(2);
    return 0;
}

static int teardown(void **state) {
    char command[128];
    sched_destroy(s);
    s = NULL;
    event_base_free(base);
    snprintf(command, sizeof command, "rm -rf %s", dir);
    return system(command);
}

static void turn(void) {
    struct timeval soon = {0, 200000};
    event_base_loopexit(base, &soon);
    event_base_loop(base, EVLOOP_ONCE);
    sched_turn(s);
    sched_commit(s);
}

static uint64_t put_in(uint64_t group, const char *name, const char *text, size_t size) {
    struct writer w = {.uid = getuid(), .gid = getgid(), .pid = getpid(), .mode = 0644, .request = 2};
    struct job j;
    assert_int_equal(sched_create_draft(s, group, name, true, &w, &j), 0);
    assert_int_equal(sched_write(s, j.id, text, size, 0, NULL, NULL), 0);
    assert_int_equal(sched_flush(s, j.id, 0, false, false, NULL, NULL), 0);
    sched_release(s, j.id);
    return j.id;
}
#define PUT(name, text) put_in(0, name, text, sizeof(text) - 1)

static struct job get(uint64_t id) {
    struct job j;
    assert_int_equal(sched_job(s, id, &j), 0);
    return j;
}

static struct job wait_end(uint64_t id) {
    int64_t limit = (int64_t)time(NULL) * 1000000 + PATIENCE_US;
    struct job j = get(id);
    while (!job_ended(j.state) && (int64_t)time(NULL) * 1000000 < limit) {
        turn();
        j = get(id);
    }
    if (!job_ended(j.state))
        fail_msg("job %s is still %s", j.name, job_state_name(j.state));
    return j;
}

static void expect(uint64_t id, enum job_body body, const char *text) {
    char buf[4096];
    struct job j = wait_end(id);
    if (j.state != JOB_DONE)
        fail_msg("%s: %s", j.name, j.why);
    int64_t n = sched_read(s, id, body, buf, sizeof buf - 1, 0, NULL, NULL);
    assert_true(n >= 0);
    buf[n] = 0;
    assert_string_equal(buf, text);
}

static void test_kinds(void **state) {
    uint64_t call = PUT("call", "{\"call\": \"math.sqrt\", \"args\": [4]}"),
             run = PUT("run", "{\"run\": [\"cat\"], \"stdin\": \"in\"}");
    uint64_t python = PUT("py", "print(6*7)\n"), shell = PUT("sh", "#!/bin/sh\necho $PPFS_JOB $PPFS_ATTEMPT\n");
    uint64_t bad = PUT("bad", "\xff\xff");
    expect(call, BODY_RESULT, "2.0\n");
    expect(run, BODY_STDOUT, "in");
    expect(python, BODY_STDOUT, "42\n");
    expect(shell, BODY_STDOUT, "sh 1\n");
    struct job j = wait_end(bad);
    assert_int_equal(j.state, JOB_FAILED);
    assert_non_null(strstr(j.why, "none of what a job may be"));
}

static void test_failures(void **state) {
    uint64_t raised = PUT("raised", "{\"call\": \"int\", \"args\": [\"x\"]}"),
             exited = PUT("exited", "#!/bin/sh\nexit 3\n");
    uint64_t killed = PUT("killed", "#!/bin/sh\nkill -SEGV $$\n"),
             late = PUT("late", "#!/bin/sh\n#ppfs: timeout=200ms\nsleep 100\n");
    struct job j = wait_end(raised);
    assert_int_equal(j.state, JOB_FAILED);
    assert_non_null(strstr(j.why, "ValueError"));
    j = wait_end(exited);
    assert_int_equal(j.exit_status, 3);
    j = wait_end(killed);
    assert_non_null(strstr(j.why, "SIGSEGV"));
    j = wait_end(late);
    assert_int_equal(j.error, ETIMEDOUT);
}

static void test_after_and_hold(void **state) {
    uint64_t a = PUT("a", "#ppfs: hold=1\nprint('a')\n"), b = PUT("b", "#ppfs: after=a\nprint('b')\n");
    uint64_t c = PUT("c", "#ppfs: after=nobody\nprint('c')\n");
    turn();
    char text[512];
    assert_int_equal(get(a).state, JOB_HELD);
    struct job j = get(b);
    assert_int_equal(j.state, JOB_WAITING);
    sched_why(s, &j, text, sizeof text);
    assert_string_equal(text, "waits for a, which is held");
    assert_int_equal(get(c).state, JOB_FAILED);
    assert_int_equal(sched_set_hold(s, a, false), 0);
    expect(b, BODY_STDOUT, "b\n");
    uint64_t x = PUT("x", "#!/bin/sh\nexit 1\n"), y = PUT("y", "#ppfs: after=x\nprint('y')\n");
    wait_end(x);
    j = wait_end(y);
    assert_int_equal(j.state, JOB_FAILED);
}

static void test_group_opens_at_once(void **state) {
    struct writer w = {.uid = getuid(), .gid = getgid(), .mode = 0755, .request = 4};
    struct group g;
    struct tally t;
    uint64_t ids[600];
    char name[32];
    assert_int_equal(sched_mkgroup(s, 0, ".G", &w, &g), 0);
    for (int i = 0; i < 600; i++) { /* more than a slice */
        snprintf(name, sizeof name, "j%d", i);
        ids[i] = put_in(g.id, name, "{\"call\": \"abs\", \"args\": [-1]}", 29);
    }
    turn();
    assert_int_equal(get(ids[599]).state, JOB_DRAFT);
    assert_int_equal(sched_rename_group(s, g.id, 0, "G", 0, NULL, NULL), 0);
    for (int i = 599; i >= 0; i--)
        assert_int_equal(wait_end(ids[i]).state, JOB_DONE);
    assert_int_equal(sched_tally(s, 0, &t), 0);
    assert_int_equal(t.done, 600);
    assert_int_equal(t.active, 0);
}

static unsigned count_in(const uint64_t *ids, unsigned n, enum job_state state) {
    unsigned found = 0;
    for (unsigned i = 0; i < n; i++)
        found += get(ids[i]).state == state;
    return found;
}

static void turn_of(int64_t us) {
    s->slice_us = us;
    sched_turn(s);
    assert_int_equal(sched_commit(s), 0);
}

/* How much of long work a turn does goes by time, so with no time it is little, and with much time all of it. */
static void test_long_work_is_cut_by_time(void **state) {
    enum { JOBS = 300 };
    struct writer w = {.uid = getuid(), .gid = getgid(), .mode = 0755, .request = 4};
    struct group g;
    uint64_t ids[2 * JOBS];
    char name[32];
    static const char large[] = "#!/bin/sh\n#ppfs: cpus=4\ntrue\n", after[] = "#!/bin/sh\n#ppfs: after=G/j0\ntrue\n";
    assert_int_equal(sched_set_node_state(s, "local", NODE_DRAIN), 0);
    assert_int_equal(sched_mkgroup(s, 0, ".G", &w, &g), 0);
    for (int i = 0; i < JOBS; i++) {
        snprintf(name, sizeof name, "j%d", i);
        ids[i] = put_in(g.id, name, large, sizeof large - 1);
    }
    turn_of(0);
    assert_int_equal(sched_rename_group(s, g.id, 0, "G", 0, NULL, NULL), 0);
    for (unsigned open = 0, last = 0; last < JOBS; last = open) {
        turn_of(0);
        open = JOBS - count_in(ids, JOBS, JOB_DRAFT);
        assert_in_range(open, last + 1, last + 16);
    }
    assert_int_equal(count_in(ids, JOBS, JOB_WAITING), JOBS); /* there are too few slots */
    for (int i = JOBS; i < 2 * JOBS; i++) {
        snprintf(name, sizeof name, "j%d", i);
        ids[i] = put_in(0, name, after, sizeof after - 1);
    }
    assert_int_equal(sched_set_cpus(s, "local", 4), 0);
    turn_of(0);
    assert_in_range(count_in(ids, JOBS, JOB_QUEUED), 1, 16);
    turn_of(INT32_MAX);
    assert_int_equal(count_in(ids, JOBS, JOB_QUEUED), JOBS);
    assert_int_equal(sched_cancel(s, ids[0], getuid()), 0); /* those that wait for it fail */
    turn_of(0);
    assert_in_range(count_in(ids + JOBS, JOBS, JOB_FAILED), 1, 16);
    for (int i = 0; i < JOBS; i++)
        turn_of(0);
    assert_int_equal(count_in(ids + JOBS, JOBS, JOB_FAILED), JOBS);
}

static uint64_t make_group(uint64_t parent, const char *name) {
    struct writer w = {.uid = getuid(), .gid = getgid(), .mode = 0755, .request = 5};
    struct group g;
    assert_int_equal(sched_mkgroup(s, parent, name, &w, &g), 0);
    return g.id;
}

static unsigned unended(uint64_t group) {
    struct tally t;
    assert_int_equal(sched_tally(s, group, &t), 0);
    return (unsigned)t.active;
}

/* However many groups are being opened, a look at the counts meets none of them, and says that more is to come. */
static void test_groups_that_open_count_as_unended(void **state) {
    enum { GROUPS = 50 };
    char name[32];
    assert_int_equal(sched_set_node_state(s, "local", NODE_DRAIN), 0);
    uint64_t top = make_group(0, ".G"), beside = make_group(0, "H");
    for (int i = 0; i < GROUPS; i++) {
        snprintf(name, sizeof name, "g%d", i);
        uint64_t in = make_group(make_group(top, name), "in");
        put_in(in, "x", "#!/bin/sh\n", 10);
    }
    turn_of(0);
    assert_int_equal(unended(0), 0);
    assert_int_equal(sched_rename_group(s, top, 0, "G", 0, NULL, NULL), 0);
    assert_int_equal(unended(top), 1);
    assert_int_equal(sched_rename_group(s, top, 0, ".G", 0, NULL, NULL), -EBUSY);
    assert_int_equal(sched_rename_group(s, top, beside, "G", 0, NULL, NULL), 0);
    turn_of(0);
    assert_in_range(unended(beside), 2, 20);
    for (int i = 0; i < 4 * GROUPS && unended(beside) != GROUPS; i++) {
        assert_in_range(unended(beside), 1, GROUPS + 20);
        turn_of(0);
    }
    turn_of(INT32_MAX);
    assert_int_equal(unended(beside), GROUPS);
    assert_int_equal(unended(0), GROUPS);
    uint64_t empty = make_group(0, ".E");
    assert_int_equal(sched_rename_group(s, empty, 0, "E", 0, NULL, NULL), 0);
    assert_int_equal(unended(0), GROUPS + 1);
    assert_int_equal(sched_rmgroup(s, empty, SHELF_JOBS), 0);
    assert_int_equal(unended(0), GROUPS);
}

/* Who waits for a name waits for its next job, unless they are very many: then they hear in slices that it is gone. */
static void test_a_name_for_which_very_many_wait_is_written_again(void **state) {
    static const char held[] = "#!/bin/sh\n#ppfs: hold=1\n", after[] = "#!/bin/sh\n#ppfs: after=a\n";
    struct writer w = {.uid = getuid(), .gid = getgid(), .mode = 0644, .request = 11};
    struct job draft;
    uint64_t a = put_in(0, "a", held, sizeof held - 1);
    for (int many = 0; many < 2; many++) {
        uint64_t b = put_in(0, many ? "c" : "b", after, sizeof after - 1);
        int left = 100;
        turn_of(0);
        for (uint64_t i = 0; many && i < 10000; i++) /* of jobs that are gone by then */
            assert_int_equal(store_dep_add(s->store, 1000000 + i, 0, a, &left), 0);
        assert_int_equal(sched_open_draft(s, a, true, &w, &draft, NULL, NULL), 0);
        a = draft.id;
        assert_int_equal(sched_write(s, a, held, sizeof held - 1, 0, NULL, NULL), 0);
        sched_release(s, a);
        turn_of(INT32_MAX);
        assert_int_equal(get(b).state, many ? JOB_FAILED : JOB_WAITING);
    }
}

/* What would have to look at very many groups at once is refused; what need not is not. */
static void test_a_tree_of_very_many_groups_is_moved_only_as_it_is(void **state) {
    char name[32];
    uint64_t top = make_group(0, "G"), beside = make_group(0, "H");
    for (int i = 0; i < 10000; i++) {
        snprintf(name, sizeof name, "g%d", i);
        make_group(top, name);
    }
    assert_int_equal(sched_rename_group(s, top, 0, ".G", 0, NULL, NULL), -EMLINK);
    assert_int_equal(sched_rename_group(s, top, beside, "G", 0, NULL, NULL), -EMLINK);
    assert_int_equal(sched_rename_group(s, top, 0, "F", 0, NULL, NULL), 0);
}

/* The second side of the name is another's: then the first is not given up either. */
static void test_rename_that_is_refused_changes_nothing(void **state) {
    struct writer mine = {.uid = 1001, .gid = 1001, .mode = 0666, .request = 8},
                  other = {.uid = 0, .gid = 0, .mode = 0666, .request = 9};
    struct job x, y, draft;
    static const char held[] = "#!/bin/sh\n#ppfs: hold=1\ntrue\n";
    assert_int_equal(sched_create_draft(s, 0, "x", true, &mine, &x), 0);
    assert_int_equal(sched_write(s, x.id, held, sizeof held - 1, 0, NULL, NULL), 0);
    sched_release(s, x.id);
    assert_int_equal(get(x.id).state, JOB_HELD);
    assert_int_equal(sched_open_draft(s, x.id, true, &(struct writer){.uid = 1002}, &draft, NULL, NULL), -EACCES);
    assert_int_equal(sched_open_draft(s, x.id, true, &other, &draft, NULL, NULL), 0);
    assert_int_equal(sched_create_draft(s, 0, ".y", true, &mine, &y), 0);
    turn();
    assert_int_equal(sched_rename(s, 0, ".y", 0, "x", false, false, NULL, NULL), -EACCES);
    turn();
    assert_int_equal(get(x.id).state, JOB_HELD);
    assert_string_equal(get(y.id).name, ".y");
    assert_int_equal(get(draft.id).state, JOB_DRAFT);
}

static void test_replace_cancel_forget(void **state) {
    uint64_t running = PUT("r", "#!/bin/sh\nsleep 100\n");
    struct writer w = {.uid = getuid(), .gid = getgid(), .mode = 0644, .request = 6};
    struct job j;
    turn();
    assert_int_equal(get(running).state, JOB_RUNNING);
    assert_int_equal(sched_create_draft(s, 0, "r", false, &w, &j), -ETXTBSY);
    assert_int_equal(sched_cancel(s, running, getuid()), 0);
    j = wait_end(running);
    assert_int_equal(j.state, JOB_CANCELLED);
    uint64_t again = PUT("r", "print(2)\n");
    expect(again, BODY_STDOUT, "2\n");
    assert_int_equal(sched_job(s, running, &j), -ENOENT);
    assert_int_equal(sched_create_draft(s, 0, "r", true, &w, &j), -EEXIST);
    assert_int_equal(sched_forget(s, again, false), 0);
    assert_int_equal(sched_job(s, again, &j), -ENOENT);
    while (sched_running(s))
        turn();
}

/* One row that cannot be read holds up nobody else: its job ends. */
static void test_options_that_cannot_be_read(void **state) {
    static const char bad[] = "{\"no such option\": 1}";
    uint64_t held = PUT("held", "#ppfs: hold=1\nprint(1)\n"), first = PUT("first", "#ppfs: hold=1\nprint(0)\n");
    uint64_t after = PUT("after", "#ppfs: after=first\nprint(2)\n");
    uint64_t fails = PUT("fails", "#!/bin/sh\nsleep 0.2\nexit 1\n");
    while (get(fails).state != JOB_RUNNING)
        turn();
    assert_int_equal(store_job_set_options(s->store, held, bad), 0);
    assert_int_equal(store_job_set_options(s->store, after, bad), 0);
    assert_int_equal(store_job_set_options(s->store, fails, bad), 0);
    turn();
    assert_int_equal(sched_set_hold(s, held, false), 0);
    assert_int_equal(sched_commit(s), 0);
    assert_int_equal(get(held).state, JOB_FAILED);
    assert_int_equal(sched_set_hold(s, first, false), 0);
    assert_int_equal(wait_end(first).state, JOB_DONE);
    assert_int_equal(wait_end(after).state, JOB_FAILED);
    assert_int_equal(wait_end(fails).state, JOB_FAILED);
}

/* What a turn that is not committed has written over the oldest is not taken for it. */
static void test_successors_of_a_turn_that_is_taken_back(void **state) {
    const uint64_t first = 1000000, lost = 5000000;
    struct successor was;
    for (uint64_t i = 0; i < SUCCESSORS; i++)
        sched_note_successor(s, &(struct job){.id = first + 2 * i}, first + 2 * i + 1);
    assert_int_equal(sched_commit(s), 0);
    assert_int_equal(sched_successor(s, first, &was), first + 1);
    sched_note_successor(s, &(struct job){.id = lost}, lost + 1);
    assert_int_equal(sched_successor(s, lost, &was), lost + 1);
    store_fail(s->store, -EIO);
    assert_int_equal(sched_commit(s), -EIO);
    assert_int_equal(sched_successor(s, lost, &was), 0);
    assert_int_equal(sched_successor(s, first, &was), 0);
    assert_int_equal(sched_successor(s, first + 2, &was), first + 3);
}

static void test_stop_and_go_on(void **state) {
    uint64_t slow = PUT("slow", "#!/bin/sh\ntest -e \"$0.never\" || sleep 1\necho done $PPFS_ATTEMPT\n");
    turn();
    assert_int_equal(get(slow).state, JOB_RUNNING);
    sched_destroy(s);
    start(2);
    expect(slow, BODY_STDOUT, "done 1\n"); /* the attempt that was stopped does not count */
}

static void test_large(void **state) {
    uint64_t id = PUT("large", "import sys\nsys.stdout.write('x' * 3000000)\n");
    struct job j = wait_end(id);
    assert_int_equal(j.state, JOB_DONE);
    assert_int_equal(sched_size(s, id, BODY_STDOUT), 3000000);
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {TEST(test_kinds),
                                       TEST(test_failures),
                                       TEST(test_after_and_hold),
                                       TEST(test_group_opens_at_once),
                                       TEST(test_long_work_is_cut_by_time),
                                       TEST(test_groups_that_open_count_as_unended),
                                       TEST(test_a_tree_of_very_many_groups_is_moved_only_as_it_is),
                                       TEST(test_a_name_for_which_very_many_wait_is_written_again),
                                       TEST(test_rename_that_is_refused_changes_nothing),
                                       TEST(test_replace_cancel_forget),
                                       TEST(test_options_that_cannot_be_read),
                                       TEST(test_successors_of_a_turn_that_is_taken_back),
                                       TEST(test_stop_and_go_on),
                                       TEST(test_large)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
