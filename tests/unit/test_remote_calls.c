/* Calls of leases on a node: sent ahead, taken back, large ones piece by piece; what they name. */
#include "tests/unit/noderig.h"
#include "worker/remote/remote_parts.h"

/* --- leases ------------------------------------------------------------------------------------------------------- */
static void finish_lease(uint64_t id) {
    assert_int_equal(runner_finish(fix.runner, id), 0);
    assert_end(ended(id), WORK_DONE, NULL);
}

static bool some_answers(void *arg) {
    return fix.answers >= *(uint32_t *)arg;
}

static void calls_travel_ahead(void **state) {
    one_node();
    begin(1, WORK_STREAM_JSON, "");
    for (uint32_t i = 1; i <= 2500; i++) /* more than a worker takes */
        json(i, "{\"call\": \"operator.add\", \"args\": [%u, 1]}", i);
    runner_flush(fix.runner);
    assert_int_equal(runner_call(fix.runner, 1, 2500, CALL_JSON, "", 0, NULL), -EINVAL);
    assert_int_equal(runner_call(fix.runner, 2, 1, CALL_JSON, "", 0, NULL), -ENOENT);
    finish_lease(1);
    assert_int_equal(runner_call(fix.runner, 1, 2501, CALL_JSON, "", 0, NULL), -ENOENT);
    assert_int_equal(fix.answers, 2500);
    for (uint32_t i = 1; i <= 2500; i++)
        assert_int_equal(atoi(fix.calls[i].text), i + 1);
}

static void a_lease_can_wait_for_its_slot(void **state) {
    one_node();
    begin(2, WORK_PYTHON, sleeper);
    begin(3, WORK_PYTHON, sleeper);
    begin(1, WORK_STREAM_JSON, "");
    for (uint32_t i = 1; i <= 10; i++)
        json(i, "{\"call\": \"operator.add\", \"args\": [%u, 1]}", i);
    assert_int_equal(runner_recall(fix.runner, 1, 8), RUNNER_LATER);
    begin(4, WORK_STREAM_JSON, "");
    finish_lease(4); /* never had one */
    assert_int_equal(runner_finish(fix.runner, 1), 0);
    runner_kill(fix.runner, 2);
    assert_end(ended(1), WORK_DONE, NULL);
    assert_int_equal(fix.recalled, 8);
    assert_int_equal(fix.answers, 7);
}

static void calls_are_taken_back(void **state) {
    one_node();
    begin(1, WORK_STREAM_JSON, "");
    json(1, "{\"call\": \"math.sqrt\", \"args\": [%u]}", 4);
    uint32_t want = 1;
    turn_until(some_answers, &want);
    json(2, "{\"call\": \"time.sleep\", \"args\": [%u]}", 1);
    for (uint32_t i = 3; i <= 40; i++)
        json(i, "{\"call\": \"math.sqrt\", \"args\": [%u]}", i);
    assert_int_equal(runner_recall(fix.runner, 1, 41), 41); /* known here */
    assert_int_equal(runner_recall(fix.runner, 1, 20), RUNNER_LATER);
    json(41, "{\"call\": \"math.sqrt\", \"args\": [%u]}", 41 * 41); /* sent after it */
    while (!fix.recalls)
        event_base_loop(base, EVLOOP_ONCE);
    assert_in_range(fix.recalled, 20, 41);
    finish_lease(1);
    for (uint32_t i = 1; i <= 41; i++)
        assert_int_equal(fix.calls[i].answered, i < fix.recalled || i == 41);
    assert_true(fix.recalled < 41); /* the second call sleeps: it cannot have been too late for all */
}

/* (text,), {} */
static size_t pickle_args(char *to, size_t size) {
    uint32_t n = (uint32_t)size;

    memcpy(to, "\x80\x03X", 3);
    memcpy(to + 3, &n, 4);
    memset(to + 7, 'x', size);
    memcpy(to + 7 + size, "\x85}\x86.", 4);
    return size + 11;
}

static void hashed(uint64_t id, uint32_t number, char hash, size_t size) {
    char *bytes = malloc(size + 64);

    assert_non_null(bytes);
    memset(bytes, hash, 32);
    assert_int_equal(runner_call(fix.runner, id, number, CALL_HASH, bytes, 32 + pickle_args(bytes + 32, size), NULL),
                     0);
    free(bytes);
}

static const char pickled_len[] = "\x80\x03"
                                  "cbuiltins\nlen\n.";

static void functions_cross_once(void **state) {
    one_node();
    fix.function = pickled_len;
    fix.function_size = sizeof(pickled_len) - 1;
    begin(1, WORK_STREAM_FRAMES, "");
    begin(2, WORK_STREAM_FRAMES, "");
    hashed(1, 1, 'a', 3);
    hashed(2, 2, 'a', 4);
    finish_lease(1);
    finish_lease(2);
    assert_memory_equal(fix.calls[1].text, "\x80\x05K\x03.", 5);
    assert_memory_equal(fix.calls[2].text, "\x80\x05K\x04.", 5);
    assert_int_equal(fix.needs, 1); /* though two workers needed it */
    fix.jobs[1].done = false;
    begin(1, WORK_STREAM_FRAMES, "");
    hashed(1, 3, 'a', 5 << 20); /* a large argument */
    fix.function_size = 0;
    hashed(1, 4, 'b', 3);
    finish_lease(1);
    assert_int_equal(fix.needs, 2);
    assert_int_equal(fix.calls[3].size, 17); /* with a frame around it */
    assert_memory_equal(fix.calls[3].text + 11, "J\x00\x00\x50\x00.", 6);
    assert_int_equal(fix.calls[4].kind, ANSWER_ERROR);
}

/* A call with a value, both by their hashes: callable(callable). */
static void with_value(uint64_t id, uint32_t number) {
    char bytes[128] = {1, 1, 0, 0};

    memset(bytes + 4, 'v', 32);
    memset(bytes + 36, 'f', 32);
    memcpy(bytes + 68,
           "\x80\x03"
           "C ",
           4);
    memset(bytes + 72, 'v', 32);
    memcpy(bytes + 104, "Q\x85}\x86.", 5);
    assert_int_equal(runner_call(fix.runner, id, number, CALL_VALUES, bytes, 109, NULL), 0);
}

static void objects_cross_once(void **state) {
    static const char callable[] = "\x80\x03"
                                   "cbuiltins\ncallable\n.";

    one_node();
    fix.function = callable;
    fix.function_size = sizeof(callable) - 1;
    begin(1, WORK_STREAM_FRAMES, "");
    begin(2, WORK_STREAM_FRAMES, "");
    for (uint32_t i = 1; i <= 20; i++)
        with_value(i % 2 + 1, i);
    finish_lease(1);
    finish_lease(2);
    for (uint32_t i = 1; i <= 20; i++)
        assert_memory_equal(fix.calls[i].text, "\x80\x05\x88.", 4);
    assert_int_equal(fix.needs, 2); /* of two workers, for a function and a value */
}

/* The first lease asks for the function and dies before it comes: the second one asks again. */
static void a_function_is_asked_for_again(void **state) {
    one_node();
    fix.function = pickled_len;
    fix.function_size = sizeof(pickled_len) - 1;
    begin(1, WORK_STREAM_FRAMES, "");
    begin(2, WORK_STREAM_FRAMES, "");
    hashed(1, 1, 'a', 3);
    hashed(2, 2, 'a', 4);
    runner_kill(fix.runner, 1);
    finish_lease(2);
    assert_end(ended(1), WORK_SIGNALED, NULL);
    assert_memory_equal(fix.calls[2].text, "\x80\x05K\x04.", 5);
}

static void too_much_on_the_way_is_refused_until_there_is_room(void **state) {
    size_t size = 1 << 20;
    char *text = malloc(size);
    uint32_t n = 1;

    one_node();
    assert_non_null(text);
    memset(text, ' ', size);
    memcpy(text, "{\"call\": \"math.sqrt\", \"args\": [4]}", 34);
    begin(1, WORK_STREAM_JSON, "");
    int err;
    while (!(err = runner_call(fix.runner, 1, n, CALL_JSON, text, size, NULL)))
        n++;
    assert_int_equal(err, -ENOMEM);
    assert_in_range(n, 5, 20);
    turn_until(flag, &fix.room);
    assert_int_equal(runner_call(fix.runner, 1, n, CALL_JSON, text, size, NULL), 0);
    finish_lease(1);
    assert_int_equal(fix.answers, n);
    free(text);
}

/* Of a large call no more goes into a turn than of a payload; what is said of that work meanwhile comes after it, what
 * is said of another before its end; and room is told where too much waits. */
static void a_large_call_goes_piece_by_piece(void **state) {
    enum { SIZE = 32 << 20, A_TURN = 1 << 20 };
    char *memory = malloc(SIZE + 64);
    struct shared_buffer *shared = shared_buffer_new(memory);
    const struct session *session;

    assert_non_null(memory);
    assert_non_null(shared);
    one_node();
    session = remote_session(fix.remote[0]);
    fix.function = pickled_len;
    fix.function_size = sizeof(pickled_len) - 1;
    begin(1, WORK_STREAM_FRAMES, "");
    begin(2, WORK_STREAM_FRAMES, "");
    memset(memory, 'h', 32);
    size_t size = 32 + pickle_args(memory + 32, SIZE);
    assert_int_equal(runner_call(fix.runner, 1, 1, CALL_HASH, memory, size, shared), 0);
    assert_int_equal(shared->holders, 2);
    runner_flush(fix.runner);
    assert_in_range(session_pending(session), 0, A_TURN);
    assert_int_equal(runner_call(fix.runner, 1, 2, CALL_JSON, "{}", 2, NULL), -ENOMEM);
    assert_int_equal(runner_recall(fix.runner, 1, 2), 2); /* it was not sent */
    hashed(2, 3, 'h', 4);
    assert_int_equal(runner_finish(fix.runner, 1), 0);
    for (size_t before = session_pending(session); !fix.calls[1].answered;) {
        event_base_loop(base, EVLOOP_ONCE);
        size_t now = session_pending(session);
        assert_in_range(now > before ? now - before : 0, 0, A_TURN);
        before = now;
    }
    assert_true(fix.room);
    assert_int_equal(shared->holders, 1);
    assert_memory_equal(fix.calls[1].text + fix.calls[1].size - 6, "J\x00\x00\x00\x02.", 6);
    assert_end(ended(1), WORK_DONE, NULL);
    finish_lease(2);
    assert_memory_equal(fix.calls[3].text, "\x80\x05K\x04.", 5);
    shared_buffer_release(shared);
}

static bool is_ahead(void *arg) {
    const struct entry *e = arg;
    return e->pieces - e->kept == PAYLOAD_AHEAD;
}

/* What a busy worker does not read stays here, and what is said of other works passes it. */
static void a_large_call_waits_for_its_worker(void **state) {
    enum { SIZE = 96 << 20, MOST = 32 << 20 };
    char *memory = malloc(SIZE + 64), fifo[128], text[256];
    struct shared_buffer *shared = shared_buffer_new(memory);

    assert_non_null(memory);
    assert_non_null(shared);
    one_node();
    snprintf(fifo, sizeof(fifo), "%s/fifo", dir);
    assert_int_equal(mkfifo(fifo, 0600), 0);
    begin(1, WORK_STREAM_JSON, "");
    snprintf(text, sizeof(text), "{\"call\": \"os.open\", \"args\": [\"%s\", 0]}", fifo);
    assert_int_equal(runner_call(fix.runner, 1, 1, CALL_JSON, text, strlen(text), NULL), 0);
    int head = sprintf(memory, "{\"call\": \"len\", \"args\": [\"");
    memset(memory + head, 'x', SIZE);
    memcpy(memory + head + SIZE, "\"]}", 3);
    assert_int_equal(runner_call(fix.runner, 1, 2, CALL_JSON, memory, (size_t)head + SIZE + 3, shared), 0);
    const struct entry *e = &fix.remote[0]->entries[0];
    turn_until(is_ahead, (void *)e);
    begin(2, WORK_PYTHON, "print(1)");
    assert_end(ended(2), WORK_DONE, NULL);
    assert_true(is_ahead((void *)e));
    assert_in_range(e->pieces, PAYLOAD_AHEAD, MOST / MESSAGE_CHUNK);
    assert_int_equal(shared->holders, 2);
    int fd = open(fifo, O_RDWR | O_CLOEXEC);
    finish_lease(1);
    close(fd);
    assert_string_equal(fix.calls[2].text, "100663296");
    shared_buffer_release(shared);
}

static void a_large_call_ends_with_its_work(void **state) {
    enum { SIZE = 32 << 20 };
    char *memory = malloc(SIZE + 64);
    struct shared_buffer *shared = shared_buffer_new(memory);

    assert_non_null(memory);
    assert_non_null(shared);
    one_node();
    fix.function = pickled_len;
    fix.function_size = sizeof(pickled_len) - 1;
    begin(1, WORK_STREAM_FRAMES, "");
    memset(memory, 'h', 32);
    size_t size = 32 + pickle_args(memory + 32, SIZE);
    assert_int_equal(runner_call(fix.runner, 1, 1, CALL_HASH, memory, size, shared), 0);
    runner_flush(fix.runner);
    runner_kill(fix.runner, 1);
    assert_int_equal(shared->holders, 1);
    assert_end(ended(1), WORK_SIGNALED, NULL);
    fix.jobs[1].done = false;
    begin(1, WORK_STREAM_FRAMES, ""); /* with the ref of the other one */
    hashed(1, 2, 'h', 4);
    finish_lease(1);
    assert_memory_equal(fix.calls[2].text, "\x80\x05K\x04.", 5);
    shared_buffer_release(shared);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        REMOTE_TEST(calls_travel_ahead),
        REMOTE_TEST(a_lease_can_wait_for_its_slot),
        REMOTE_TEST(calls_are_taken_back),
        REMOTE_TEST(functions_cross_once),
        REMOTE_TEST(objects_cross_once),
        REMOTE_TEST(a_function_is_asked_for_again),
        REMOTE_TEST(a_large_call_goes_piece_by_piece),
        REMOTE_TEST(a_large_call_waits_for_its_worker),
        REMOTE_TEST(a_large_call_ends_with_its_work),
        REMOTE_TEST(too_much_on_the_way_is_refused_until_there_is_room),
    };

    return cmocka_run_group_tests(tests, rig_setup, rig_teardown);
}
