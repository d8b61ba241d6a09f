/* Leases with real workers ($PPFS_WORKER, else ./ppfs-worker): calls that are sent ahead, what comes back for them, how
 * they are taken back, whose output is whose, and how a lease ends. */
#include "tests/unit/leaserig.h"

/* --- tests -------------------------------------------------------------------------------------------------------- */
static void json_calls_ahead(void **state) {
    char text[128];

    begin(lease_work(WORK_STREAM_JSON));
    for (uint32_t i = 1; i <= 1000; i++) {
        snprintf(text, sizeof(text), "{\"call\": \"operator.add\", \"args\": [%u, 1]}", i);
        json(i, text);
    }
    json(1001, "{\"call\": \"math.sqrt\", \"args\": [-1]}");
    json(1002, "{\"run\": [\"true\"]}");
    json(1003, "{\"call\": \"math.sqrt\", \"args\": [4], \"retries\": 2}");
    json(1004, "{\"call\": ");
    json(1005, "{\"call\": \"os.getenv\", \"args\": [\"PPFS_JOB\"]}");
    finish_well();
    assert_int_equal(fix.answers, 1005);
    for (uint32_t i = 1; i <= 1000; i++) {
        assert_int_equal(fix.calls[i].kind, ANSWER_VALUE);
        assert_int_equal(atoi(fix.calls[i].text), i + 1);
    }
    assert_int_equal(fix.calls[1001].kind, ANSWER_ERROR);
    assert_true(strncmp(fix.calls[1001].text, "ValueError: math domain error\nValueError", 40) == 0);
    assert_int_equal(fix.calls[1002].kind, ANSWER_NEED);
    assert_int_equal(fix.calls[1003].kind, ANSWER_NEED);
    assert_int_equal(fix.calls[1004].kind, ANSWER_ERROR);
    assert_non_null(strstr(fix.calls[1004].text, "not valid JSON"));
    assert_string_equal(fix.calls[1005].text, "\"s\"");
}

/* A large call is not copied: its memory is held until the worker has it, also when that dies. */
static void large_calls_are_lent(void **state) {
    enum { SIZE = 32 << 20 };
    char *memory = malloc(SIZE + 64);
    struct shared_buffer *shared = shared_buffer_new(memory);

    assert_non_null(memory);
    assert_non_null(shared);
    begin(lease_work(WORK_STREAM_FRAMES));
    fix.function = pickled_len;
    fix.function_size = sizeof(pickled_len) - 1;
    memset(memory, 'h', 32);
    char *text = malloc(SIZE);
    assert_non_null(text);
    memset(text, 'x', SIZE);
    size_t size = 32 + pickle_args(memory + 32, text, SIZE);
    free(text);
    assert_int_equal(runner_call(fix.runner, LEASE, 1, CALL_HASH, memory, size, shared), 0);
    assert_int_equal(shared->holders, 1 + size / FRAME_BODY_MAX); /* what is over is small */
    while (!fix.calls[1].answered)
        event_base_loop(fix.base, EVLOOP_ONCE);
    assert_int_equal(shared->holders, 1);
    assert_memory_equal(fix.calls[1].text + fix.calls[1].kept - 6, "J\x00\x00\x00\x02.", 6);
    assert_int_equal(runner_call(fix.runner, LEASE, 2, CALL_HASH, memory, size, shared), 0);
    runner_kill(fix.runner, LEASE);
    loop_until(&fix.done);
    assert_int_equal(shared->holders, 1);
    shared_buffer_release(shared);
}

static void pickled_calls(void **state) {
    begin(lease_work(WORK_STREAM_FRAMES));
    pickled(1, "len", "abc");
    pickled(2, "eval", "1/0");
    pickled(3, "eval", "(x for x in ())");
    assert_int_equal(runner_call(fix.runner, LEASE, 4, CALL_PICKLE,
                                 "\x80\x03"
                                 "cno_such\nthing\n.",
                                 19, NULL),
                     0);
    pickled(5, "eval", "__import__('sys').exit(3)");
    finish_well();
    assert_int_equal(fix.calls[1].kind, ANSWER_VALUE);
    assert_memory_equal(fix.calls[1].text, "\x80\x05K\x03.", 5);
    assert_int_equal(fix.calls[2].kind, ANSWER_ERROR);
    assert_int_equal(fix.calls[2].text[0], 1);
    uint32_t n;
    memcpy(&n, fix.calls[2].text + 4, 4);
    assert_in_range(n, 10, 300);
    assert_true(strncmp(fix.calls[2].text + 8 + n, "ZeroDivisionError: division by zero\nTraceback", 45) == 0);
    assert_int_equal(fix.calls[3].text[0], 2); /* cannot be pickled */
    assert_int_equal(fix.calls[4].text[0], 2);
    assert_non_null(strstr(fix.calls[4].text + 8, "could not be unpickled"));
    assert_int_equal(fix.calls[5].text[0], 1);
}

static void functions_are_asked_for_once(void **state) {
    begin(lease_work(WORK_STREAM_FRAMES));
    function(pickled_len, sizeof(pickled_len) - 1);
    hashed(1, 'a', "12", 2);
    for (uint32_t i = 2; i < 100; i++)
        hashed(i, i % 2 ? 'a' : 'b', "123", 3);
    finish_well();
    assert_int_equal(fix.needs, 2);
    assert_memory_equal(fix.calls[1].text, "\x80\x05K\x02.", 5);
    assert_memory_equal(fix.calls[99].text, "\x80\x05K\x03.", 5);
    begin(lease_work(WORK_STREAM_FRAMES)); /* the worker still has it */
    hashed(1, 'b', "1234", 4);
    function(NULL, 0);
    hashed(2, 'c', "", 0);
    hashed(3, 'b', "12345", 5);
    finish_well();
    assert_int_equal(fix.needs, 3);
    assert_memory_equal(fix.calls[1].text, "\x80\x05K\x04.", 5);
    assert_int_equal(fix.calls[2].kind, ANSWER_ERROR);
    assert_int_equal(fix.calls[2].text[0], 2);
    assert_memory_equal(fix.calls[3].text, "\x80\x05K\x05.", 5);
}

static void large_arguments_and_results(void **state) {
    size_t size = 5 << 20;
    char *big = malloc(size);

    assert_non_null(big);
    memset(big, 'x', size);
    begin(lease_work(WORK_STREAM_FRAMES));
    function(pickled_len, sizeof(pickled_len) - 1);
    hashed(1, 'a', big, size);
    hashed(2, 'a', big, 10);
    hashed(3, 'a', big, size);
    pickled(4, "eval", "'y' * (5 << 20)");
    pickled(5, "len", "abc");
    finish_well();
    assert_memory_equal(fix.calls[1].text, "\x80\x05\x95\6\0\0\0\0\0\0\0J\0\0P\0.", 17);
    assert_memory_equal(fix.calls[2].text, "\x80\x05K\x0a.", 5);
    assert_memory_equal(fix.calls[3].text, fix.calls[1].text, 17);
    assert_true(fix.calls[4].size > size);
    assert_memory_equal(fix.calls[5].text, "\x80\x05K\x03.", 5);
    /* A function of that size, too. */
    begin(lease_work(WORK_STREAM_FRAMES));
    size_t at = (size_t)sprintf(big, "\x80\x03"
                                     "cfunctools\npartial\ncbuiltins\nlen\n");
    big[at] = 'X';
    memcpy(big + at + 1, "\0\0\x30", 4); /* 3 MiB of what stands there */
    at += 5 + (3 << 20);
    memcpy(big + at, "\x85\x86R.", 4); /* partial(len, ("xxx...",)): not valid, and the worker says so */
    function(big, at + 4);
    hashed(1, 'd', "", 0);
    hashed(2, 'a', "12", 2);
    finish_well();
    assert_int_equal(fix.calls[1].text[0], 1);
    assert_memory_equal(fix.calls[2].text, "\x80\x05K\x02.", 5);
    free(big);
}

static void crash_in_the_middle(void **state) {
    begin(lease_work(WORK_STREAM_JSON));
    json(1, "{\"call\": \"len\", \"args\": [[1]]}");
    json(2, "{\"call\": \"len\", \"args\": [[1, 2]]}");
    json(3, "{\"call\": \"os.abort\"}");
    json(4, "{\"call\": \"len\", \"args\": [[]]}");
    loop_until(&fix.done);
    assert_int_equal(fix.outcome.end, WORK_SIGNALED);
    assert_int_equal(fix.outcome.status, SIGABRT);
    assert_int_equal(fix.first, 3);
    assert_int_equal(runner_call(fix.runner, LEASE, 5, CALL_JSON, "{}", 2, NULL), -ENOENT);
    begin(lease_work(WORK_STREAM_JSON));
    json(1, "{\"call\": \"os._exit\", \"args\": [4]}");
    loop_until(&fix.done);
    assert_int_equal(fix.outcome.end, WORK_EXITED);
    assert_int_equal(fix.outcome.status, 4);
    assert_non_null(strstr(fix.outcome.why, "exit status 4"));
}

static void killed_lease(void **state) {
    begin(lease_work(WORK_STREAM_JSON));
    json(1, "{\"call\": \"len\", \"args\": [[1]]}");
    json(2, "{\"call\": \"time.sleep\", \"args\": [60]}");
    loop_until(&fix.calls[1].answered);
    runner_kill(fix.runner, LEASE);
    loop_until(&fix.done);
    assert_int_equal(fix.outcome.end, WORK_SIGNALED);
    assert_int_equal(fix.first, 2);
}

static void recall_while_one_sleeps(void **state) {
    begin(lease_work(WORK_STREAM_JSON));
    json(1, "{\"call\": \"len\", \"args\": [[]]}");
    json(2, "{\"call\": \"time.sleep\", \"args\": [0.4]}");
    for (uint32_t i = 3; i <= 10; i++)
        json(i, "{\"call\": \"len\", \"args\": [[]]}");
    loop_until(&fix.calls[1].answered);
    loop_for_ms(50, NULL);
    assert_int_equal(runner_recall(fix.runner, LEASE, 8), 8);
    assert_int_equal(runner_recall(fix.runner, LEASE, 1), 3); /* 2 runs */
    json(11, "{\"call\": \"len\", \"args\": [[1, 2]]}");
    json(12, "{\"call\": \"len\", \"args\": [[1, 2]]}");
    assert_int_equal(runner_recall(fix.runner, LEASE, 12), 12);
    assert_int_equal(runner_recall(fix.runner, LEASE, 13), 13);
    json(13, "{\"call\": \"len\", \"args\": [[1, 2, 3]]}");
    finish_well();
    assert_int_equal(fix.answers, 4);
    assert_true(fix.calls[2].answered && fix.calls[11].answered && fix.calls[13].answered);
    assert_string_equal(fix.calls[13].text, "3");
}

/* Whatever is taken back at whatever moment: each call either is answered or was below the limit, never both. */
static void recall_at_any_moment(void **state) {
    static const char text[] = "{\"call\": \"len\", \"args\": [[]]}";
    bool back[CALLS] = {false};
    uint32_t sent = 0, answered = 0;

    begin(lease_work(WORK_STREAM_JSON));
    while (sent + 40 < CALLS) {
        for (int i = 0; i < 40; i++)
            while (runner_call(fix.runner, LEASE, sent + 1, CALL_JSON, text, sizeof(text) - 1, NULL) ? true
                                                                                                     : (sent++, false))
                event_base_loop(fix.base, EVLOOP_ONCE); /* too many ahead */
        runner_flush(fix.runner);
        for (volatile uint32_t spin = 0; spin < sent * 97 % 200000; spin++)
            ;
        for (uint32_t i = runner_recall(fix.runner, LEASE, sent - 35); i <= sent; i++)
            back[i] = true;
        event_base_loop(fix.base, EVLOOP_NONBLOCK);
    }
    finish_well();
    for (uint32_t i = 1; i <= sent; i++) {
        assert_int_equal(fix.calls[i].answered, !back[i]);
        answered += fix.calls[i].answered;
    }
    assert_in_range(answered, sent / 40, sent);
}

static void output_is_of_its_call(void **state) {
    char text[128], want[32];

    begin(lease_work(WORK_STREAM_JSON));
    for (uint32_t i = 1; i <= 600; i++) {
        if (i % 3 == 0)
            snprintf(text, sizeof(text), "{\"call\": \"print\", \"args\": [\"call %u\"]}", i);
        else if (i % 3 == 1)
            snprintf(text, sizeof(text), "{\"call\": \"os.system\", \"args\": [\"echo err %u >&2\"]}", i);
        else
            snprintf(text, sizeof(text), "{\"call\": \"time.sleep\", \"args\": [0]}");
        if (i % 3 != 1 || i < 60)
            json(i, text);
    }
    finish_well();
    for (uint32_t i = 1; i <= 600; i++) {
        const struct call *c = &fix.calls[i];
        snprintf(want, sizeof(want), "call %u\n", i);
        assert_string_equal(c->output[0], i % 3 == 0 ? want : "");
        snprintf(want, sizeof(want), "err %u\n", i);
        assert_string_equal(c->output[1], i % 3 == 1 && i < 60 ? want : "");
    }
}

static void output_larger_than_a_pipe(void **state) {
    begin(lease_work(WORK_STREAM_JSON));
    json(1, "{\"call\": \"eval\", \"args\": [\"print('x' * 3000000)\"]}");
    json(2, "{\"call\": \"print\", \"args\": [\"two\"]}");
    finish_well();
    assert_int_equal(fix.calls[1].printed, 3000001);
    assert_string_equal(fix.calls[2].output[0], "two\n");
}

static void calls_leave_their_worker_in_order(void **state) {
    begin(lease_work(WORK_STREAM_JSON));
    json(1, "{\"call\": \"os.chdir\", \"args\": [\"/tmp\"]}");
    json(2, "{\"call\": \"os.getcwd\"}");
    json(3, "{\"call\": \"os.putenv\", \"args\": [\"A\", \"b\"]}");
    json(4, "{\"call\": \"eval\", \"args\": [\"__import__('os').environ.__setitem__('PPFS_X', 'b')\"]}");
    json(5, "{\"call\": \"os.getenv\", \"args\": [\"PPFS_X\"]}");
    json(6, "{\"call\": \"eval\", \"args\": [\"__import__('subprocess').Popen(['sleep', '60']) and None\"]}");
    json(7, "{\"call\": \"eval\", \"args\": [\"__import__('os').waitpid(-1, 1)\"]}");
    json(8, "{\"call\": \"eval\", \"args\": [\"__import__('sys').path.insert(0, '/nowhere')\"]}");
    json(9, "{\"call\": \"eval\", \"args\": [\"'/nowhere' in __import__('sys').path\"]}");
    json(10, "{\"call\": \"eval\", \"args\": [\"__import__('os').fork() and __import__('os').wait()[1]\"]}");
    finish_well();
    assert_string_equal(fix.calls[2].text, "\"/\"");
    assert_string_equal(fix.calls[5].text, "null");
    assert_non_null(strstr(fix.calls[7].text, "ChildProcessError"));
    assert_string_equal(fix.calls[9].text, "false");
    assert_string_equal(fix.calls[10].text, "0");
    assert_int_equal(fix.answers, 10);
}

static void threads_end_the_worker_after_the_lease(void **state) {
    begin(lease_work(WORK_STREAM_JSON));
    json(1, "{\"call\": \"eval\", \"args\": [\"__import__('threading').Timer(60, print).start()\"]}");
    json(2, "{\"call\": \"os.getpid\"}");
    finish_well();
    int before = atoi(fix.calls[2].text);
    begin(lease_work(WORK_STREAM_JSON));
    json(1, "{\"call\": \"os.getpid\"}");
    finish_well();
    assert_int_not_equal(atoi(fix.calls[1].text), before);
}

static void lease_with_an_environment_has_its_own_process(void **state) {
    const char *env[] = {"COLOUR=green", NULL};
    struct work w = lease_work(WORK_STREAM_JSON);

    w.env = env;
    begin(w);
    json(1, "{\"call\": \"os.getenv\", \"args\": [\"COLOUR\"]}");
    json(2, "{\"call\": \"os.getuid\"}");
    json(3, "{\"call\": \"print\", \"args\": [\"hello\"]}");
    finish_well();
    assert_string_equal(fix.calls[1].text, "\"green\"");
    assert_string_equal(fix.calls[3].output[0], "hello\n");
    begin(w);
    json(1, "{\"call\": \"os._exit\", \"args\": [0]}");
    json(2, "{\"call\": \"len\", \"args\": [[]]}");
    loop_until(&fix.done);
    assert_int_equal(fix.outcome.end, WORK_EXITED);
    assert_int_equal(fix.first, 1);
    begin(lease_work(WORK_STREAM_JSON));
    json(1, "{\"call\": \"os.getenv\", \"args\": [\"COLOUR\"]}");
    finish_well();
    assert_string_equal(fix.calls[1].text, "null");
}

static void lease_of_another_user(void **state) {
    struct work w = lease_work(WORK_STREAM_JSON);

    if (geteuid() != 0)
        skip();
    w.uid = w.gid = 65534;
    begin(w);
    json(1, "{\"call\": \"os.getuid\"}");
    json(2, "{\"call\": \"print\", \"args\": [\"hello\"]}");
    json(3, "{\"call\": \"os.kill\", \"args\": [1, 0]}");
    finish_well();
    assert_string_equal(fix.calls[1].text, "65534");
    assert_string_equal(fix.calls[2].output[0], "hello\n");
    assert_true(strncmp(fix.calls[3].text, "PermissionError", 15) == 0);
}

static void death_of_the_forkserver_loses_the_lease(void **state) {
    begin(lease_work(WORK_STREAM_JSON));
    json(1, "{\"call\": \"len\", \"args\": [[1]]}");
    json(2, "{\"call\": \"eval\", \"args\": [\"print('x', flush=True) or __import__('time').sleep(60)\"]}");
    while (!fix.calls[2].printed)
        event_base_loop(fix.base, EVLOOP_ONCE);
    kill(pool_forkserver(fix.pool), SIGKILL);
    loop_until(&fix.done);
    assert_int_equal(fix.outcome.end, WORK_LOST);
    assert_false(fix.outcome.unbegun);
    begin(lease_work(WORK_STREAM_JSON));
    json(1, "{\"call\": \"len\", \"args\": [[1]]}");
    loop_until(&fix.calls[1].answered);
    kill(pool_forkserver(fix.pool), SIGKILL); /* between two calls: none has begun */
    loop_until(&fix.done);
    assert_int_equal(fix.outcome.end, WORK_LOST);
    assert_true(fix.outcome.unbegun);
    begin(lease_work(WORK_STREAM_JSON));
    json(1, "{\"call\": \"len\", \"args\": [[1]]}");
    finish_well();
    assert_true(fix.calls[1].answered);
}

static void lease_waits_for_a_forkserver(void **state) {
    bool never = false;

    kill(pool_forkserver(fix.pool), SIGKILL); /* before it has come up: the next start waits a while */
    loop_for_ms(100, &never);
    assert_int_equal(pool_forkserver(fix.pool), 0);
    begin(lease_work(WORK_STREAM_JSON));
    assert_int_equal(runner_call(fix.runner, LEASE, 1, CALL_JSON, "{}", 2, NULL), -ENOENT);
    finish_well();
    begin(lease_work(WORK_STREAM_JSON));
    assert_int_equal(runner_recall(fix.runner, LEASE, 1), 1);
    while (runner_call(fix.runner, LEASE, 1, CALL_JSON, "{}", 2, NULL) == -ENOENT)
        event_base_loop(fix.base, EVLOOP_ONCE);
    finish_well();
    assert_int_equal(fix.calls[1].kind, ANSWER_ERROR);
}

static void held_lease_says_nothing(void **state) {
    begin(lease_work(WORK_STREAM_JSON));
    json(1, "{\"call\": \"print\", \"args\": [\"one\"]}");
    loop_until(&fix.calls[1].answered);
    runner_hold(fix.runner, LEASE, true);
    for (uint32_t i = 2; i <= 9; i++)
        json(i, "{\"call\": \"print\", \"args\": [\"more\"]}");
    loop_for_ms(100, NULL);
    assert_int_equal(fix.first, 2);
    runner_hold(fix.runner, LEASE, false);
    finish_well();
    for (uint32_t i = 2; i <= 9; i++)
        assert_string_equal(fix.calls[i].output[0], "more\n");
}

static void call_that_spoils_its_worker(void **state) {
    begin(lease_work(WORK_STREAM_JSON));
    json(1, "{\"call\": \"os.dup2\", \"args\": [0, 1]}");
    json(2, "{\"call\": \"os.getpid\"}");
    finish_well(); /* at its end, the worker leaves */
    int before = atoi(fix.calls[2].text);
    begin(lease_work(WORK_STREAM_JSON));
    json(1, "{\"call\": \"os.getpid\"}");
    json(2, "{\"call\": \"os.closerange\", \"args\": [3, 1000]}");
    json(3, "{\"call\": \"os.getpid\"}");
    loop_until(&fix.done);
    assert_int_not_equal(atoi(fix.calls[1].text), before);
    assert_int_equal(fix.outcome.end, WORK_EXITED);
    assert_int_equal(fix.first, 2);
}

static void single_call_of_two_pickles(void **state) {
    char bytes[256] = {0}; /* no values */
    uint32_t n = sizeof(pickled_len) - 1;
    struct work w = lease_work(WORK_CALL);

    memcpy(bytes + 4, &n, 4);
    memcpy(bytes + 8, pickled_len, n);
    w.payload = bytes;
    w.payload_size = 8 + n + (uint32_t)pickle_args(bytes + 8 + n, "abcd", 4);
    begin(w);
    loop_until(&fix.done);
    assert_int_equal(fix.outcome.end, WORK_DONE);
    assert_memory_equal(fix.calls[1].text, "\x80\x03K\x04.", 5);
    w.payload_size = 13;
    begin(w);
    loop_until(&fix.done);
    assert_int_equal(fix.outcome.end, WORK_REFUSED);
    assert_memory_equal(fix.calls[1].text, "\2\0\0\0\0\0\0\0the bytes of the call", 29); /* as a stream is told */
    w.payload = "\0\0\0\0\0\0\0\0\x80\2(cbuiltins\nint\n(X\1\0\0\0xtt.";
    w.payload_size = 35;
    begin(w);
    loop_until(&fix.done);
    assert_int_equal(fix.outcome.end, WORK_RAISED);
    assert_int_equal(fix.calls[1].text[0], 1);
    assert_non_null(memmem(fix.calls[1].text, sizeof(fix.calls[1].text), "\nValueError: invalid literal", 28));
}

int main(void) {
#define LEASE_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        LEASE_TEST(json_calls_ahead),
        LEASE_TEST(large_calls_are_lent),
        LEASE_TEST(pickled_calls),
        LEASE_TEST(functions_are_asked_for_once),
        LEASE_TEST(large_arguments_and_results),
        LEASE_TEST(crash_in_the_middle),
        LEASE_TEST(killed_lease),
        LEASE_TEST(recall_while_one_sleeps),
        LEASE_TEST(recall_at_any_moment),
        LEASE_TEST(output_is_of_its_call),
        LEASE_TEST(output_larger_than_a_pipe),
        LEASE_TEST(calls_leave_their_worker_in_order),
        LEASE_TEST(threads_end_the_worker_after_the_lease),
        LEASE_TEST(lease_with_an_environment_has_its_own_process),
        LEASE_TEST(lease_of_another_user),
        LEASE_TEST(death_of_the_forkserver_loses_the_lease),
        LEASE_TEST(lease_waits_for_a_forkserver),
        LEASE_TEST(held_lease_says_nothing),
        LEASE_TEST(call_that_spoils_its_worker),
        LEASE_TEST(single_call_of_two_pickles),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
