/* What is counted of transitions, and that a look at it costs the same however many jobs there are. Needs
 * $PPFS_WORKER. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sched/db/store_int.h"
#include "sched/sched.h"
#include "sched/turn/turn.h"
#include "sched/watch/watch.h"

static char dir[64], why[512];
static struct event_base *base;
static struct sched *s;

static void changed(void *arg, uint64_t job) {
}
static void on_log(void *arg, const char *sentence) {
}
static bool nobody(void *arg, uint64_t job, bool for_writing) {
    return false;
}

static int setup(void **state) {
    strcpy(dir, "/tmp/ppfs-watch-XXXXXX");
    if (!getenv("PPFS_WORKER") || !mkdtemp(dir) || chmod(dir, 0700) < 0)
        return -1;
    base = event_base_new();
    struct sched_config c = {.base = base,
                             .state_dir = dir,
                             .mountpoint = "/nowhere",
                             .worker_path = getenv("PPFS_WORKER"),
                             .cpus = 0,
                             .changed = changed,
                             .group_changed = changed,
                             .log = on_log};
    if (sched_create(&s, &c, why, sizeof why) < 0)
        fail_msg("%s", why);
    return sched_recover(s, nobody, NULL);
}

static int teardown(void **state) {
    char command[128];
    sched_destroy(s);
    event_base_free(base);
    snprintf(command, sizeof command, "rm -rf %s", dir);
    return system(command);
}

static uint64_t put(const char *name) {
    static const char text[] = "#ppfs: hold=1\nprint()\n";
    struct writer w = {.uid = getuid(), .gid = getgid(), .pid = getpid(), .mode = 0644, .request = 2};
    struct job j;
    assert_int_equal(sched_create_draft(s, 0, name, true, &w, &j), 0);
    assert_int_equal(sched_write(s, j.id, text, sizeof text - 1, 0, NULL, NULL), 0);
    assert_int_equal(sched_flush(s, j.id, 0, false, false, NULL, NULL), 0);
    sched_release(s, j.id);
    return j.id;
}

static void test_what_is_not_committed_is_not_counted(void **state) {
    uint64_t id = put("a");
    assert_int_equal(sched_counts(s)->submitted, 0);
    assert_int_equal(sched_commit(s), 0);
    assert_int_equal(sched_counts(s)->submitted, 1);
    put("b");
    store_fail(s->store, -EIO);
    assert_true(sched_commit(s) < 0);
    assert_int_equal(sched_commit(s), 0);
    assert_int_equal(sched_counts(s)->submitted, 1);
    assert_int_equal(sched_cancel(s, id, getuid()), 0);
    assert_int_equal(sched_commit(s), 0);
    assert_int_equal(sched_counts(s)->cancelled, 1);
}

static void test_histogram(void **state) {
    const struct counts *c = sched_counts(s);
    struct job j = {.state = JOB_DONE, .started = 1000000, .ended = 1002000, .kind = WORK_PROGRAM};
    watch_transition(s, &j, JOB_RUNNING, false);
    j = (struct job){.state = JOB_FAILED, .started = 1000000, .ended = 90000000000, .kind = WORK_PROGRAM};
    watch_transition(s, &j, JOB_RUNNING, false);
    j = (struct job){.state = JOB_RUNNING, .started = 1000000, .queued = 3000000, .kind = WORK_PROGRAM}; /* set back */
    watch_transition(s, &j, JOB_QUEUED, false);
    watch_committed(s, true);
    assert_int_equal(c->run.below[0], 0);
    assert_int_equal(c->run.below[1], 1); /* to 5 ms */
    assert_int_equal(c->run.below[HISTOGRAM_BOUNDS], 1);
    assert_int_equal(c->wait.below[0], 1);
    assert_true(c->wait.sum == 0);
    assert_int_equal(sched_pace(s, 60).ended, 2);
    assert_int_equal(sched_pace(s, 0).ended, 0);
}

static void test_who_comes_late_is_told_how_many_have_gone(void **state) {
    struct job j = {.id = 7, .state = JOB_HELD, .mode = 0644};
    struct event_place p = sched_events_end(s), old = p;
    struct event e;
    assert_false(sched_event(s, &p, &e));
    memset(j.name, 'x', JOB_NAME_MAX);
    watch_transition(s, &j, JOB_QUEUED, false);
    assert_false(sched_event(s, &p, &e)); /* not before the commit */
    watch_committed(s, false);
    assert_false(sched_event(s, &p, &e));
    watch_node(s, EVENT_NODE_UP, "box7", 3, "");
    watch_transition(s, &j, JOB_QUEUED, false);
    watch_committed(s, false); /* but what has happened to a node has */
    assert_true(sched_event(s, &p, &e));
    assert_int_equal(e.slots, 3);
    assert_string_equal(e.node, "box7");
    assert_false(sched_event(s, &p, &e));
    for (int i = 0; i < 30000; i++) {
        watch_transition(s, &j, JOB_QUEUED, false);
        watch_committed(s, true);
    }
    assert_true(sched_event(s, &old, &e));
    assert_int_equal(e.kind, EVENT_LOST);
    uint64_t lost = e.count, read = 0;
    for (; sched_event(s, &old, &e); read++) {
        assert_int_equal(e.job, 7);
        assert_int_equal(strlen(e.name), JOB_NAME_MAX);
    }
    assert_true(read > 5000);
    assert_in_range(lost + read, 30000, 30003); /* those that were taken back have numbers */
    assert_int_equal(old.at, sched_events_end(s).at);
    for (int i = 0; i < 30000; i++) /* more than there is room for in one turn that is taken back */
        watch_transition(s, &j, JOB_QUEUED, false);
    watch_committed(s, false);
    assert_true(sched_event(s, &old, &e));
    assert_int_equal(e.kind, EVENT_LOST);
    assert_false(sched_event(s, &old, &e));
}

static bool none(void *arg, const struct node *n) {
    return true;
}

/* Of SQLite's virtual machine, and of walks over hosts, for all that stats and metrics.prom ask. */
static uint64_t steps(void) {
    uint64_t all = 0, before = s->steps;
    struct tally t;
    for (int i = 0; i < SQL_STATEMENTS; i++)
        if (s->store->statements[i])
            sqlite3_stmt_status(s->store->statements[i], SQLITE_STMTSTATUS_VM_STEP, true);
    assert_int_equal(sched_tally(s, 0, &t), 0);
    assert_non_null(sched_counts(s));
    sched_pace(s, PACE_SECONDS);
    assert_int_equal(sched_list_nodes(s, true, none, NULL), 0);
    for (int i = 0; i < SQL_STATEMENTS; i++)
        if (s->store->statements[i])
            all += (uint64_t)sqlite3_stmt_status(s->store->statements[i], SQLITE_STMTSTATUS_VM_STEP, false);
    return all + s->steps - before;
}

static void test_a_look_costs_the_same_with_many_jobs(void **state) {
    char name[32];
    uint64_t few = steps();
    for (int i = 0; i < 2000; i++) {
        snprintf(name, sizeof name, "many%d", i);
        put(name);
    }
    assert_int_equal(sched_commit(s), 0);
    uint64_t many = steps();
    printf("# %llu steps, with 2000 more jobs %llu\n", (unsigned long long)few, (unsigned long long)many);
    assert_in_range(few, 1, 1000);
    assert_true(many <= few + 10);
}

static void test_a_long_turn_counts_for_the_handler_that_took_most_of_it(void **state) {
    const struct handler *h, *found = NULL;
    size_t count;
    for (int tries = 0; tries < 20 && !found; tries++) { /* the test itself may be kept from its processor */
        sched_turned(s);
        sched_woke(s);
        sched_took(s, "little");
        usleep(50000);
        sched_took(s, "much");
        sched_took(s, "nothing");
        sched_turned(s);
        h = sched_handlers(s, &count);
        for (size_t i = 0; i < count; i++)
            if (strcmp(h[i].name, "much") == 0 && h[i].turns)
                found = &h[i];
    }
    assert_non_null(found);
    assert_true(found->slowest >= 50000);
    assert_int_equal(found->took, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_not_committed_is_not_counted),
        cmocka_unit_test(test_histogram),
        cmocka_unit_test(test_who_comes_late_is_told_how_many_have_gone),
        cmocka_unit_test(test_a_look_costs_the_same_with_many_jobs),
        cmocka_unit_test(test_a_long_turn_counts_for_the_handler_that_took_most_of_it),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
