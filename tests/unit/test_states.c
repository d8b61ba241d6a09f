/* Tables of states, and the trace of their transitions. */
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "net/states.h"

enum { SHUT, AJAR, OPEN };
static const struct state table[] = {
    [SHUT] = {"shut", 1u << AJAR}, [AJAR] = {"ajar", 1u << SHUT | 1u << OPEN}, [OPEN] = {"open", 0}};
static const struct states doors = {"door", table, 3};

static char said[256];
static void say(const char *sentence) {
    snprintf(said, sizeof said, "%s", sentence);
}

static void test_what_may_follow(void **state) {
    assert_true(states_may(&doors, SHUT, AJAR));
    assert_true(states_may(&doors, AJAR, SHUT));
    assert_false(states_may(&doors, SHUT, OPEN));
    assert_false(states_may(&doors, OPEN, SHUT));
}

static void test_a_transition_is_written_while_the_switch_is_on(void **state) {
    atomic_bool on = false;
    said[0] = '\0';
    states_changed(&doors, 7, NULL, SHUT, AJAR); /* nowhere */
    states_trace(&on, say);
    states_changed(&doors, 7, NULL, SHUT, AJAR);
    assert_string_equal(said, "");
    on = true;
    states_changed(&doors, 7, NULL, SHUT, AJAR);
    assert_string_equal(said, "trace: door 7: shut -> ajar");
    states_changed(&doors, UINT64_MAX, "front", AJAR, OPEN);
    assert_string_equal(said, "trace: door 18446744073709551615 front: ajar -> open");
    states_trace(NULL, NULL);
}

static void test_one_that_the_table_does_not_have_is_told_whatever_the_switch_says(void **state) {
    atomic_bool on = false;
    states_trace(&on, say);
    states_changed(&doors, 7, NULL, OPEN, SHUT);
    assert_string_equal(said, STATES_FAULT ": door 7: open -> shut");
    states_trace(NULL, NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_may_follow),
        cmocka_unit_test(test_a_transition_is_written_while_the_switch_is_on),
        cmocka_unit_test(test_one_that_the_table_does_not_have_is_told_whatever_the_switch_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
