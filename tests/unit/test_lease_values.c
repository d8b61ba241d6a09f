/* Values of calls: they are asked for once, and a call that names what is none is refused. */
#include "tests/unit/leaserig.h"

/* --- values: a pickle that names what was sent before ----------------------------------------------------------------
 * */
static size_t put_hash(char *to, char hash) {
    memset(to, hash, 32);
    return 32;
}

/* (what that hash names,), {}: C and 32 bytes are a short bytes object, Q makes a persistent id of it. */
static size_t pickle_reference(char *to, char hash) {
    memcpy(to,
           "\x80\x03"
           "C\x20",
           4);
    put_hash(to + 4, hash);
    memcpy(to + 36, "Q\x85}\x86.", 5);
    return 41;
}

/* FUNC(value), both by their hashes; listed: the value that the call lists, 0 = none. */
static void call_value(uint32_t number, char func, char value, char listed) {
    char bytes[256] = {1, listed != 0, 0, 0};
    size_t at = 4;

    if (listed)
        at += put_hash(bytes + at, listed);
    at += put_hash(bytes + at, func);
    at += pickle_reference(bytes + at, value);
    assert_int_equal(runner_call(fix.runner, LEASE, number, CALL_VALUES, bytes, at, NULL), 0);
}

static const char pickled_append[] = "\x80\x03"
                                     "cbuiltins\neval\nX\x28\0\0\0"
                                     "lambda what: what.append(0) or len(what)\x85R.";
static const char pickled_list[] = "\x80\x03]K\1a."; /* [1] */

/* By the letter of the hash: l and a are functions, from p on they are lists, B to Z are texts of 5 MiB. */
static void on_need(const uint8_t *hash, uint64_t lease) {
    size_t size = 5 << 20, at = 2;
    char *text;

    fix.needs++;
    if (*hash == 'l') {
        runner_function(fix.runner, lease, hash, pickled_len, sizeof(pickled_len) - 1, NULL);
    } else if (*hash == 'a') {
        runner_function(fix.runner, lease, hash, pickled_append, sizeof(pickled_append) - 1, NULL);
    } else if (*hash >= 'p') {
        runner_function(fix.runner, lease, hash, pickled_list, sizeof(pickled_list) - 1, NULL);
    } else if (*hash > 'A') {
        assert_non_null(text = malloc(size));
        memset(text, 'x', size);
        memcpy(text, "\x80\x03", 2);
        at += put_string(text + at, text + 7, size - 8);
        text[at++] = '.';
        runner_function(fix.runner, lease, hash, text, at, NULL);
        free(text);
    } else {
        runner_function(fix.runner, lease, hash, NULL, 0, NULL);
    }
}

static void withhold(const uint8_t *hash, uint64_t lease) {
    fix.withheld = true;
}

static void objects_are_asked_for_once(void **state) {
    char bytes[512];

    fix.need = on_need;
    begin(lease_work(WORK_STREAM_FRAMES));
    for (uint32_t i = 1; i <= 50; i++)
        call_value(i, 'a', 'p', 'p'); /* each has a list of its own */
    call_value(51, 'l', 'q', 'q');
    finish_well();
    assert_int_equal(fix.needs, 4);
    for (uint32_t i = 1; i <= 50; i++)
        assert_memory_equal(fix.calls[i].text, "\x80\x05K\2.", 5);
    assert_memory_equal(fix.calls[51].text, "\x80\x05K\1.", 5);
    begin(lease_work(WORK_STREAM_FRAMES)); /* the worker still has them */
    call_value(1, 'a', 'p', 'p');
    /* Two of them in one call, and the function in its pickle: max([1], [1]). */
    memcpy(bytes, "\0\2\0\0", 4);
    size_t at = 4 + put_hash(bytes + 4, 'p');
    at += put_hash(bytes + at, 'r');
    at += (size_t)sprintf(bytes + at, "\x80\x03"
                                      "cbuiltins\nmax\nC ");
    at += put_hash(bytes + at, 'p');
    at += (size_t)sprintf(bytes + at, "QC ");
    at += put_hash(bytes + at, 'r');
    memcpy(bytes + at, "Q\x86}\x87.", 5);
    assert_int_equal(runner_call(fix.runner, LEASE, 2, CALL_VALUES, bytes, at + 5, NULL), 0);
    finish_well();
    assert_int_equal(fix.needs, 5);
    assert_memory_equal(fix.calls[1].text, "\x80\x05K\2.", 5);
    assert_memory_equal(fix.calls[2].text, "\x80\x05", 2);
    assert_non_null(memmem(fix.calls[2].text, 30, "]\x94K\1a.", 6));
}

static void expect_refusal(uint32_t number, const char *text) {
    struct call *c = &fix.calls[number];

    assert_int_equal(c->kind, ANSWER_ERROR);
    assert_int_equal(c->text[0], 2);
    if (!strstr(c->text + 8, text))
        print_message("%s\n", c->text + 8);
    assert_non_null(strstr(c->text + 8, text));
}

static void objects_that_are_none(void **state) {
    char bytes[128] = {0, 1, 0, 0};

    fix.need = on_need;
    begin(lease_work(WORK_STREAM_FRAMES));
    call_value(1, 'l', 'x', 'x');
    call_value(2, 'l', 'A', 'A'); /* nobody has it */
    call_value(3, 'l', 'x', 'y'); /* it lists another */
    call_value(4, 'l', 'x', 0);
    assert_int_equal(runner_call(fix.runner, LEASE, 5, CALL_VALUES, bytes, 35, NULL), 0);
    bytes[0] = 2;
    assert_int_equal(runner_call(fix.runner, LEASE, 6, CALL_VALUES, bytes, 100, NULL), 0);
    memset(bytes, 'l', 32);
    memcpy(bytes + 32,
           "\x80\x03"
           "C\3abcQ\x85}\x86.",
           12);
    assert_int_equal(runner_call(fix.runner, LEASE, 7, CALL_HASH, bytes, 44, NULL), 0); /* one that lists none */
    memcpy(bytes, "\1\0\0\0", 4);
    memset(bytes + 4, 'l', 32);
    memcpy(bytes + 36,
           "\x80\x03"
           "C\3abcQ\x85}\x86.",
           12);
    assert_int_equal(runner_call(fix.runner, LEASE, 8, CALL_VALUES, bytes, 48, NULL), 0);
    call_value(9, 'l', 'x', 'x');
    finish_well();
    expect_refusal(2, "a value of the call is not known");
    expect_refusal(3, "that the call does not list");
    expect_refusal(4, "that the call does not list");
    expect_refusal(5, "cut off");
    expect_refusal(6, "cut off");
    expect_refusal(7, "it refers to values, and lists none");
    expect_refusal(8, "not the 32 bytes of a hash");
    assert_memory_equal(fix.calls[1].text, "\x80\x05K\1.", 5);
    assert_memory_equal(fix.calls[9].text, "\x80\x05K\1.", 5);
}

/* Calls that were sent behind it, and the end of the lease, wait in the buffer meanwhile. */
static void large_values(void **state) {
    fix.need = on_need;
    begin(lease_work(WORK_STREAM_FRAMES));
    for (uint32_t i = 1; i <= 40; i++)
        call_value(i, 'l', (char)('B' + i % 20), (char)('B' + i % 20)); /* 100 MiB: what is needed next has just gone */
    for (uint32_t i = 41; i <= 50; i++)
        call_value(i, 'l', 'B', 'B');
    finish_well();
    assert_int_equal(fix.needs, 1 + 40);
    for (uint32_t i = 1; i <= 50; i++)
        assert_memory_equal(fix.calls[i].text, "\x80\x05\x95\6\0\0\0\0\0\0\0J\xf8\xff\x4f\0.", 17);
}

static void objects_in_a_process_of_its_own(void **state) {
    const char *env[] = {"COLOUR=green", NULL};
    struct work w = lease_work(WORK_STREAM_FRAMES);

    fix.need = on_need;
    w.env = env;
    begin(w);
    call_value(1, 'a', 'p', 'p');
    call_value(2, 'a', 'p', 'p');
    finish_well();
    assert_int_equal(fix.needs, 2);
    assert_memory_equal(fix.calls[2].text, "\x80\x05K\2.", 5);
}

/* Killed, or recalled behind it, while a worker waits for a value. */
static void waiting_for_a_value(void **state) {
    fix.need = withhold;
    begin(lease_work(WORK_STREAM_FRAMES));
    call_value(1, 'l', 'x', 'x');
    call_value(2, 'l', 'x', 'x');
    loop_until(&fix.withheld);
    assert_int_equal(runner_recall(fix.runner, LEASE, 1), 2);
    runner_kill(fix.runner, LEASE);
    loop_until(&fix.done);
    assert_int_equal(fix.outcome.end, WORK_SIGNALED);
    assert_int_equal(fix.first, 1);
}

/* A single call brings its values along. */
static void single_call_with_values(void **state) {
    char bytes[512] = {2, 0, 0, 0};
    uint32_t n = sizeof(pickled_list) - 1;
    size_t at = 4;
    struct work w = lease_work(WORK_CALL);

    for (char hash = 'p'; hash <= 'q'; hash++) {
        at += put_hash(bytes + at, hash);
        memcpy(bytes + at, &n, 4);
        memcpy(bytes + at + 4, pickled_list, n);
        at += 4 + n;
    }
    n = sizeof(pickled_append) - 1;
    memcpy(bytes + at, &n, 4);
    memcpy(bytes + at + 4, pickled_append, n);
    at += 4 + n;
    w.payload = bytes;
    w.payload_size = (uint32_t)(at + pickle_reference(bytes + at, 'q'));
    begin(w);
    loop_until(&fix.done);
    assert_int_equal(fix.outcome.end, WORK_DONE);
    assert_memory_equal(fix.calls[1].text, "\x80\x03K\2.", 5);
    pickle_reference(bytes + at, 'r');
    begin(w);
    loop_until(&fix.done);
    assert_int_equal(fix.outcome.end, WORK_REFUSED);
    assert_non_null(strstr(fix.calls[1].text + 8, "does not list"));
    w.payload_size = 60;
    begin(w);
    loop_until(&fix.done);
    assert_int_equal(fix.outcome.end, WORK_REFUSED);
    assert_non_null(strstr(fix.calls[1].text + 8, "cut off"));
}

int main(void) {
#define LEASE_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        LEASE_TEST(objects_are_asked_for_once),
        LEASE_TEST(objects_that_are_none),
        LEASE_TEST(large_values),
        LEASE_TEST(objects_in_a_process_of_its_own),
        LEASE_TEST(waiting_for_a_value),
        LEASE_TEST(single_call_with_values),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
