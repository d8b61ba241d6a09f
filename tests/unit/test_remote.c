/* A node as a runner: what it is given and what comes back. */
#include "tests/unit/noderig.h"

/* --- tests -------------------------------------------------------------------------------------------------------- */
static void a_node_tells_about_itself(void **state) {
    one_node();
    assert_string_equal(remote_name(fix.remote[0]), "n1");
    assert_int_equal(remote_about(fix.remote[0])->cpus, SLOTS);
    assert_int_equal(remote_about(fix.remote[0])->memory, MEMORY);
    assert_int_equal(strncmp(remote_about(fix.remote[0])->python, "3.", 2), 0);
    assert_true(remote_linked(fix.remote[0]));
    assert_false(remote_about(fix.remote[0])->draining);
    assert_null(remote_dialled(fix.remote[0]));
    assert_int_equal(strncmp(remote_address(fix.remote[0]), "127.0.0.1:", 10), 0);
    agent_drain(fix.node[0].agent);
    unsigned before = fix.changes;
    while (fix.changes == before)
        event_base_loop(base, EVLOOP_ONCE);
    assert_true(remote_about(fix.remote[0])->draining);
}

static void scripts_run_there(void **state) {
    one_node();
    begin(1, WORK_PYTHON,
          "import os, sys\nprint(6 * 7, os.environ['PPFS_ATTEMPT'], os.environ['PPFS_NODE'])\nprint('e', "
          "file=sys.stderr)\n");
    assert_end(ended(1), WORK_DONE, NULL);
    assert_string_equal(fix.jobs[1].text[OUTPUT_STDOUT], "42 3 n1\n");
    assert_string_equal(fix.jobs[1].text[OUTPUT_STDERR], "e\n");
    begin(1, WORK_PYTHON, "raise SystemExit(7)");
    fix.jobs[1] = (struct job){0};
    assert_end(ended(1), WORK_EXITED, NULL);
    assert_int_equal(fix.jobs[1].outcome.status, 7);
    begin(2, WORK_JSON_CALL, "{\"call\": \"math.sqrt\", \"args\": [16]}");
    assert_end(ended(2), WORK_DONE, NULL);
    assert_string_equal(fix.jobs[2].text[OUTPUT_RESULT], "4.0\n");
    begin(3, WORK_PROGRAM, "#!/bin/sh\nkill -9 $$\n");
    assert_end(ended(3), WORK_SIGNALED, NULL);
}

static void more_than_slots_wait_there(void **state) {
    one_node();
    for (uint64_t i = 1; i < JOBS; i++)
        begin(i, WORK_JSON_CALL, "{\"call\": \"math.sqrt\", \"args\": [16]}");
    for (uint64_t i = 1; i < JOBS; i++)
        assert_end(ended(i), WORK_DONE, NULL);
    turn_until(flag, &(bool){true});
    while (fix.node[0].busy)
        event_base_loop(base, EVLOOP_ONCE);
}

static char *write_file(const char *name, const char *head, size_t size) {
    static char path[128];

    snprintf(path, sizeof(path), "%s/%s", dir, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(head, f);
    for (size_t i = strlen(head); i < size; i++)
        fputc(i % 80 ? '#' : '\n', f);
    fclose(f);
    return path;
}

static void large_payloads_come_in_pieces(void **state) {
    one_node();
    begin_file(1, WORK_PYTHON, write_file("big", "import sys\nprint(42)\n#", 20 << 20));
    begin_file(2, WORK_PROGRAM, write_file("sh", "#!/bin/sh\nwc -c <$0\nexit\n", 3 << 20));
    begin_file(3, WORK_PYTHON, write_file("empty", "", 0));
    begin(4, WORK_JSON_CALL, "{\"call\": \"math.sqrt\", \"args\": [16]}");
    assert_end(ended(4), WORK_DONE, NULL);
    assert_false(fix.jobs[1].done); /* the small one did not wait for all of the large one */
    assert_end(ended(1), WORK_DONE, NULL);
    assert_string_equal(fix.jobs[1].text[OUTPUT_STDOUT], "42\n");
    assert_end(ended(2), WORK_DONE, NULL);
    assert_int_equal(atoi(fix.jobs[2].text[OUTPUT_STDOUT]), 3 << 20);
    assert_end(ended(3), WORK_DONE, NULL);
}

static void a_payload_that_cannot_be_read_is_refused(void **state) {
    one_node();
    begin_file(1, WORK_PYTHON, "/nonexistent/payload");
    assert_end(ended(1), WORK_REFUSED, "could not be read");
    begin_file(2, WORK_PYTHON, "/"); /* opens, but reading it fails */
    assert_end(ended(2), WORK_REFUSED, "could not be read");
}

static void a_node_without_room_gives_the_work_back(void **state) {
    fix.node[0].dir = "/nonexistent";
    one_node();
    begin_file(1, WORK_PYTHON, write_file("big", "print(1)\n#", 1 << 20));
    assert_end(ended(1), WORK_LOST, "node n1 cannot keep its bytes in /nonexistent: No such file");
    begin(2, WORK_PYTHON, "print(1)");
    assert_end(ended(2), WORK_DONE, NULL);
}

static void a_disk_that_fills_up_gives_the_work_back(void **state) {
    struct rlimit before, little = {.rlim_cur = 1 << 20};

    one_node();
    char *file = write_file("big", "print(1)\n#", 4 << 20);
    getrlimit(RLIMIT_FSIZE, &before);
    little.rlim_max = before.rlim_max;
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &little); /* write() fails in the middle of the payload */
    begin_file(1, WORK_PYTHON, file);
    struct job *j = ended(1);
    setrlimit(RLIMIT_FSIZE, &before);
    assert_end(j, WORK_LOST, "cannot keep its bytes");
    begin(2, WORK_PYTHON, "print(1)");
    assert_end(ended(2), WORK_DONE, NULL);
}

static void large_results_come_whole(void **state) {
    one_node();
    begin(1, WORK_PYTHON, "import sys\nfor i in range(300): sys.stdout.write(chr(65 + i % 26) * 100000)\n");
    begin(2, WORK_JSON_CALL, "{\"call\": \"operator.mul\", \"args\": [\"a\", 9000000]}");
    assert_end(ended(1), WORK_DONE, NULL);
    assert_int_equal(fix.jobs[1].size[OUTPUT_STDOUT], 30000000);
    uint32_t sum = 0;
    for (int i = 0; i < 300; i++)
        sum += (uint32_t)(65 + i % 26) * 100000;
    assert_int_equal(fix.jobs[1].sum, sum);
    assert_end(ended(2), WORK_DONE, NULL);
    assert_int_equal(fix.jobs[2].size[OUTPUT_RESULT], 9000003);
}

static void a_hold_stops_the_output(void **state) {
    one_node();
    begin(1, WORK_PROGRAM, "#!/bin/sh\nexec yes\n");
    turn_until(has_output, &fix.jobs[1]);
    runner_hold(fix.runner, 1, true);
    size_t before;
    double quiet = now_s(); /* what is on the way still comes */
    for (before = 0; now_s() - quiet < 1;) {
        if (before != fix.jobs[1].size[OUTPUT_STDOUT])
            quiet = now_s();
        before = fix.jobs[1].size[OUTPUT_STDOUT];
        struct timeval pause = {.tv_usec = 50000};
        event_base_loopexit(base, &pause);
        event_base_dispatch(base);
    }
    runner_hold(fix.runner, 1, false);
    while (fix.jobs[1].size[OUTPUT_STDOUT] == before)
        event_base_loop(base, EVLOOP_ONCE);
    runner_kill(fix.runner, 1);
    assert_end(ended(1), WORK_SIGNALED, "killed");
}

static void an_endless_output_holds_up_nobody(void **state) {
    one_node();
    begin(1, WORK_PROGRAM, "#!/bin/sh\nexec cat /dev/zero\n");
    while (fix.jobs[1].size[OUTPUT_STDOUT] < 50 << 20) /* as much as the session takes is on the way */
        event_base_loop(base, EVLOOP_ONCE);
    for (uint64_t i = 2; i < 12; i++) {
        begin(i, WORK_JSON_CALL, "{\"call\": \"operator.mul\", \"args\": [\"a\", 1000]}");
        assert_end(ended(i), WORK_DONE, NULL);
        assert_int_equal(fix.jobs[i].size[OUTPUT_RESULT], 1003);
    }
    assert_false(fix.jobs[1].done);
    runner_kill(fix.runner, 1);
    assert_end(ended(1), WORK_SIGNALED, "killed");
}

static void kill_ends_what_runs_and_what_waits(void **state) {
    one_node();
    for (uint64_t i = 1; i <= SLOTS; i++)
        begin(i, WORK_PYTHON, sleeper);
    begin(3, WORK_PYTHON, "print(1)");
    begin_file(4, WORK_PYTHON, write_file("big", "print(1)\n#", 64 << 20));
    turn_until(has_output, &fix.jobs[1]);
    runner_kill(fix.runner, 3);
    runner_kill(fix.runner, 4);
    assert_end(ended(3), WORK_SIGNALED, "killed");
    assert_end(ended(4), WORK_SIGNALED, "killed");
    runner_kill(fix.runner, 1);
    runner_kill(fix.runner, 1);
    runner_kill(fix.runner, 60); /* nobody */
    assert_end(ended(1), WORK_SIGNALED, "killed");
    assert_int_equal(kill(atoi(fix.jobs[1].text[OUTPUT_STDOUT]), 0), -1);
    begin(5, WORK_PYTHON, "print(1)");
    assert_end(ended(5), WORK_DONE, NULL);
}

static void slots_change(void **state) {
    one_node();
    runner_resize(fix.runner, 1);
    while (remote_about(fix.remote[0])->cpus != 1)
        event_base_loop(base, EVLOOP_ONCE);
    begin(1, WORK_PYTHON, sleeper);
    begin(2, WORK_PYTHON, "print(2)");
    turn_until(has_output, &fix.jobs[1]);
    runner_resize(fix.runner, 2);
    assert_end(ended(2), WORK_DONE, NULL);
    assert_false(fix.jobs[1].done);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        REMOTE_TEST(a_node_tells_about_itself),
        REMOTE_TEST(scripts_run_there),
        REMOTE_TEST(more_than_slots_wait_there),
        REMOTE_TEST(large_payloads_come_in_pieces),
        REMOTE_TEST(a_payload_that_cannot_be_read_is_refused),
        REMOTE_TEST(a_node_without_room_gives_the_work_back),
        REMOTE_TEST(a_disk_that_fills_up_gives_the_work_back),
        REMOTE_TEST(large_results_come_whole),
        REMOTE_TEST(a_hold_stops_the_output),
        REMOTE_TEST(an_endless_output_holds_up_nobody),
        REMOTE_TEST(kill_ends_what_runs_and_what_waits),
        REMOTE_TEST(slots_change),
    };

    return cmocka_run_group_tests(tests, rig_setup, rig_teardown);
}
