/* Which host takes a job: places, slots, reservations. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "net/clock.h"
#include "sched/sched_int.h"

static struct sched s;
static struct host local, old, big;
static const struct runner_ops ops; /* they are there, and nobody calls them */

static int setup(void **state) {
    (void)state;
    s = (struct sched){.hosts = &local};
    local = (struct host){.s = &s, .name = "local", .next = &old, .cpus = 2, .python = "3.11.2", .runner.ops = &ops};
    old = (struct host){.s = &s, .name = "old:1", .alias = "gpu3", .next = &big, .cpus = 2, .python = "3.9.18", .runner.ops = &ops};
    big = (struct host){.s = &s, .name = "big", .cpus = 8, .python = "3.11.9", .runner.ops = &ops};
    return 0;
}

static const char *place(enum work_kind kind, const char *pattern) {
    static char buf[PLACE_MAX];
    place_make(buf, kind, pattern);
    return buf;
}

static void test_places(void **state) {
    (void)state;
    assert_string_equal(place(WORK_PROGRAM, NULL), "");
    assert_string_equal(place(WORK_JSON_CALL, "gpu*"), "-gpu*");
    assert_string_equal(place(WORK_STREAM_JSON, NULL), "");
    assert_string_equal(place(WORK_PICKLE, NULL), "p");
    assert_string_equal(place(WORK_CALL, "x"), "px");
    assert_string_equal(place(WORK_STREAM_FRAMES, NULL), "p");
}

static void test_who_fits(void **state) {
    (void)state;
    assert_true(host_fits(&old, place(WORK_PYTHON, NULL)));
    assert_false(host_fits(&old, place(WORK_PICKLE, NULL)));
    assert_true(host_fits(&big, place(WORK_PICKLE, NULL)));
    assert_true(host_fits(&old, place(WORK_PROGRAM, "gpu*")));
    assert_true(host_fits(&old, place(WORK_PROGRAM, "old*")));
    assert_false(host_fits(&old, place(WORK_PICKLE, "gpu*")));
    assert_false(host_fits(&big, place(WORK_PROGRAM, "gpu*")));
    strcpy(big.python, "3.1.1"); /* no prefix of 3.11 */
    assert_false(host_fits(&big, place(WORK_PICKLE, NULL)));
    strcpy(big.python, "");
    assert_false(host_fits(&big, place(WORK_PICKLE, NULL)));
    strcpy(big.python, "3.11.0rc1");
    assert_true(host_fits(&big, place(WORK_PICKLE, NULL)));
    strcpy(local.python, ""); /* its workers have not said it yet */
    assert_false(host_fits(&big, place(WORK_PICKLE, NULL)));
}

static void test_the_least_crowded_is_chosen(void **state) {
    (void)state;
    assert_ptr_equal(host_choose(&s, "", 1, ""), &local);
    local.used = 1;
    assert_ptr_equal(host_choose(&s, "", 1, ""), &old);
    old.used = 1;
    big.used = 2;
    assert_ptr_equal(host_choose(&s, "", 1, ""), &big);
    assert_ptr_equal(host_choose(&s, "-gpu3", 1, ""), &old);
    assert_null(host_choose(&s, "-gpu3", 2, ""));
    assert_ptr_equal(host_choose(&s, "", 6, ""), &big);
    assert_null(host_choose(&s, "", 7, ""));
}

static void test_who_takes_nothing(void **state) {
    (void)state;
    big.state = NODE_DRAIN;
    assert_int_equal(host_free(&big), 0);
    big.state = NODE_UP;
    big.leaving = true;
    assert_int_equal(host_free(&big), 0);
    assert_null(host_find(&s, "big"));
    big.leaving = false;
    assert_ptr_equal(host_find(&s, "big"), &big);
    big.runner.ops = NULL;
    assert_int_equal(host_free(&big), 0);
    assert_int_equal(host_largest(&s, ""), 8); /* it may come back */
    big.leaving = true;
    assert_int_equal(host_largest(&s, ""), 2);
    assert_int_equal(host_largest(&s, "-nobody"), 0);
}

static void test_a_large_job_keeps_one_host_for_itself(void **state) {
    (void)state;
    big.used = 5;
    local.used = 1;
    old.used = 2;
    host_reserve(&s, "", 4); /* only big can ever have four */
    assert_null(host_choose(&s, "-big", 1, ""));
    assert_ptr_equal(host_choose(&s, "", 1, ""), &local);
    host_reserve(&s, "", 1);
    assert_false(host_any_free(&s));
    assert_int_equal(host_free(&big), 3);
}

static void test_a_job_does_not_go_where_it_died(void **state) {
    (void)state;
    assert_ptr_equal(host_choose(&s, "", 1, "local"), &old);
    old.used = 2;
    big.used = 8;
    assert_null(host_choose(&s, "", 1, "local")); /* it waits for another one ... */
    old.runner.ops = big.runner.ops = NULL;
    assert_ptr_equal(host_choose(&s, "", 1, "local"), &local); /* ... while there is one */
}

static void test_a_node_that_dies_is_tried_again_carefully(void **state) {
    (void)state;
    big.crashes = 1;
    big.quiet_until = clock_us() + 60000000;
    assert_int_equal(host_free(&big), 0);
    big.quiet_until = clock_us() - 1;
    assert_int_equal(host_free(&big), 8);
    big.used = 1;
    assert_int_equal(host_free(&big), 0); /* one piece of work at a time */
    host_worked(&big);
    assert_int_equal(host_free(&big), 7);
}

static void test_a_lent_slot_is_one_more(void **state) {
    (void)state;
    local.used = 2;
    assert_int_equal(host_free(&local), 0);
    local.lent = 1;
    assert_int_equal(host_free(&local), 1);
}

int main(void) {
#define TEST(t) cmocka_unit_test_setup(t, setup)
    const struct CMUnitTest tests[] = {TEST(test_places), TEST(test_who_fits), TEST(test_the_least_crowded_is_chosen), TEST(test_who_takes_nothing),
                                       TEST(test_a_large_job_keeps_one_host_for_itself), TEST(test_a_job_does_not_go_where_it_died),
                                       TEST(test_a_node_that_dies_is_tried_again_carefully), TEST(test_a_lent_slot_is_one_more)};
    return cmocka_run_group_tests_name("host", tests, NULL, NULL);
}
