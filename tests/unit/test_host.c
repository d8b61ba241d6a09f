/* Which host takes a job: places, slots, reservations. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/clock.h"
#include "sched/hosts/state.h"
#include "sched/users/state.h"

static struct sched s;
static struct hosts hosts;
static struct users users;
static struct host local, old, big;
static const struct runner_ops ops; /* they are there, and nobody calls them */

static int setup(void **state) {
    free(hosts.by_id); /* of the test before */
    hosts = (struct hosts){0};
    users = (struct users){0};
    s = (struct sched){.hosts = &hosts, .users = &users, .dispatches = 1};
    TAILQ_INIT(&hosts.roomy);
    local = (struct host){.s = &s, .name = "local", .cpus = 2, .python = "3.11.2", .runner.ops = &ops};
    old = (struct host){.s = &s, .name = "old:1", .alias = "gpu3", .cpus = 2, .python = "3.9.18", .runner.ops = &ops};
    big = (struct host){.s = &s, .name = "big", .cpus = 8, .python = "3.11.9", .runner.ops = &ops};
    return host_enlist(&s, &local) < 0 || host_enlist(&s, &old) < 0 || host_enlist(&s, &big) < 0 ? -1 : 0;
}

static const struct resources none;

static struct host *choose(const char *where, unsigned cpus, const char *avoid) {
    return host_choose(&s, &(struct demand){.place = where, .cpus = cpus, .avoid = avoid});
}

static const char *place(enum work_kind kind, const char *pattern) {
    static char buf[CONSTRAINT_MAX];
    constraint_make(buf, kind, pattern, 0, &none);
    return buf;
}

static void test_places(void **state) {
    assert_string_equal(place(WORK_PROGRAM, NULL), "");
    assert_string_equal(place(WORK_JSON_CALL, "gpu*"), "-gpu*");
    assert_string_equal(place(WORK_STREAM_JSON, NULL), "");
    assert_string_equal(place(WORK_PICKLE, NULL), "p");
    assert_string_equal(place(WORK_CALL, "x"), "px");
    assert_string_equal(place(WORK_STREAM_FRAMES, NULL), "p");
}

static void test_who_fits(void **state) {
    assert_true(host_fits(&old, place(WORK_PYTHON, NULL), 0));
    assert_false(host_fits(&old, place(WORK_PICKLE, NULL), 0));
    assert_true(host_fits(&big, place(WORK_PICKLE, NULL), 0));
    assert_true(host_fits(&old, place(WORK_PROGRAM, "gpu*"), 0));
    assert_true(host_fits(&old, place(WORK_PROGRAM, "old*"), 0));
    assert_false(host_fits(&old, place(WORK_PICKLE, "gpu*"), 0));
    assert_false(host_fits(&big, place(WORK_PROGRAM, "gpu*"), 0));
    strcpy(big.python, "3.1.1"); /* no prefix of 3.11 */
    assert_false(host_fits(&big, place(WORK_PICKLE, NULL), 0));
    strcpy(big.python, "");
    assert_false(host_fits(&big, place(WORK_PICKLE, NULL), 0));
    strcpy(big.python, "3.11.0rc1");
    assert_true(host_fits(&big, place(WORK_PICKLE, NULL), 0));
    strcpy(local.python, ""); /* its workers have not said it yet */
    assert_false(host_fits(&big, place(WORK_PICKLE, NULL), 0));
}

static void test_memory_is_a_part_of_the_place(void **state) {
    char small[CONSTRAINT_MAX], large[CONSTRAINT_MAX];
    constraint_make(small, WORK_PROGRAM, NULL, 1u << 30, &none);
    constraint_make(large, WORK_PICKLE, "[bl]*:*", 3ull << 40, &none); /* a colon in the pattern */
    assert_string_equal(small, "=40000000:");
    struct constraint p = constraint_parse(large);
    assert_true(p.pickles && p.memory == 3ull << 40);
    assert_string_equal(p.pattern, "[bl]*:*");
    p = constraint_parse("");
    assert_true(!p.pickles && !p.memory && !*p.pattern);
    assert_true(host_fits(&local, small, 0)); /* not known */
    local.memory = 1u << 30;
    old.memory = (1u << 30) - 1;
    big.memory = 2ull << 40;
    assert_true(host_fits(&local, small, 0));
    assert_false(host_fits(&old, small, 0));
    assert_ptr_equal(choose(small, 1, ""), &local);
    local.used = 2;
    assert_ptr_equal(choose(small, 1, ""), &big);
    big.used = 8;
    assert_null(choose(small, 1, ""));
    assert_int_equal(host_largest(&s, small, 0), 8);
    assert_int_equal(host_largest(&s, large, 0), 0);
    strcpy(big.name, "big:1");
    assert_false(host_fits(&big, large, 0));
    big.memory = 3ull << 40;
    assert_true(host_fits(&big, large, 0));
}

static void test_memory_that_is_reserved_is_kept(void **state) {
    char half[CONSTRAINT_MAX], most[CONSTRAINT_MAX];
    constraint_make(half, WORK_PROGRAM, "local", 1u << 29, &none);
    constraint_make(most, WORK_PROGRAM, "local", 3u << 28, &none);
    local.memory = 1u << 30;
    host_hold_memory(&local, 1u << 29, true);
    assert_int_equal(host_free_memory(&local), 1u << 29);
    assert_ptr_equal(choose(half, 1, ""), &local);
    assert_null(choose(most, 1, ""));
    assert_true(host_any_short(&s, 1));
    assert_null(host_reserve(&s, &(struct demand){.place = most, .cpus = 1}, 7)); /* no slot is kept, but memory */
    assert_null(choose(half, 1, ""));
    assert_ptr_equal(choose("", 1, ""), &local);
    s.dispatches++;
    assert_ptr_equal(choose(half, 1, ""), &local);
    struct slot_use own = {.uid = 7, .memory = 1u << 29}; /* whom his own runs hold up has nothing kept from others */
    LIST_INSERT_HEAD(&local.under_way, &own, mates);
    assert_null(host_reserve(&s, &(struct demand){.place = most, .cpus = 1, .uid = 7}, 7));
    assert_ptr_equal(choose(half, 1, ""), &local);
    LIST_REMOVE(&own, mates);
    host_hold_memory(&local, 1u << 29, false);
    assert_ptr_equal(choose(most, 1, ""), &local);
}

static void test_resources_of_a_place(void **state) {
    char text[CONSTRAINT_MAX];
    struct resources two = {0};
    uint64_t first[RESOURCE_KINDS] = {0}, second[RESOURCE_KINDS] = {0};
    assert_int_equal(resources_parse(&two, "gpu=2,fpga=64", 13), 0);
    constraint_make(text, WORK_PROGRAM, "[bl]*:*", 16, &two);
    assert_string_equal(text, "=10;gpu=2,fpga=64:[bl]*:*");
    struct constraint p = constraint_parse(text);
    assert_string_equal(p.pattern, "[bl]*:*");
    assert_int_equal(p.memory, 16);
    strcpy(big.name, "big:1");
    assert_false(host_fits(&big, text, 0));
    assert_int_equal(resources_parse(&big.resources, "fpga=64,gpu=3", 13), 0);
    assert_true(host_fits(&big, text, 0));
    assert_ptr_equal(choose(text, 1, ""), &big);
    host_take_resources(&big, text, first);
    assert_true(first[0] == UINT64_MAX && first[1] == 3);
    assert_int_equal(host_taken(&big, 0), 64);
    assert_null(choose(text, 1, ""));
    host_take_resources(&big, "=0;gpu=1:", second);
    assert_true(second[0] == 0 && second[1] == 4 && big.taken[1] == 7);
    host_give_resources(&big, first);
    assert_true(big.taken[0] == 0 && big.taken[1] == 4);
    assert_ptr_equal(choose(text, 1, ""), &big);
}

static void test_the_least_crowded_is_chosen(void **state) {
    assert_ptr_equal(choose("", 1, ""), &local);
    local.used = 1;
    assert_ptr_equal(choose("", 1, ""), &old);
    old.used = 1;
    big.used = 2;
    assert_ptr_equal(choose("", 1, ""), &big);
    assert_ptr_equal(choose("-gpu3", 1, ""), &old);
    assert_null(choose("-gpu3", 2, ""));
    assert_ptr_equal(choose("", 6, ""), &big);
    assert_null(choose("", 7, ""));
}

static void test_who_takes_nothing(void **state) {
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
    assert_int_equal(host_largest(&s, "", 0), 8); /* it may come back */
    big.leaving = true;
    assert_int_equal(host_largest(&s, "", 0), 2);
    assert_int_equal(host_largest(&s, "-nobody", 0), 0);
}

static void test_a_large_job_keeps_one_host_for_itself(void **state) {
    big.used = 5;
    local.used = 1;
    old.used = 2;
    host_reserve(&s, &(struct demand){.place = "", .cpus = 4}, 1); /* only big can ever have four */
    assert_null(choose("-big", 1, ""));
    assert_ptr_equal(choose("", 1, ""), &local);
    host_reserve(&s, &(struct demand){.place = "", .cpus = 1}, 2);
    assert_false(host_any_free(&s));
    assert_int_equal(host_free(&big), 3);
}

static void test_a_job_does_not_go_where_it_died(void **state) {
    assert_ptr_equal(choose("", 1, "local"), &old);
    old.used = 2;
    big.used = 8;
    assert_null(choose("", 1, "local")); /* it waits for another one ... */
    old.runner.ops = big.runner.ops = NULL;
    assert_ptr_equal(choose("", 1, "local"), &local); /* ... while there is one */
}

static void test_a_node_that_dies_is_tried_again_carefully(void **state) {
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
    local.used = 2;
    assert_int_equal(host_free(&local), 0);
    local.lent = 1;
    assert_int_equal(host_free(&local), 1);
}

static const char *why(const char *name) {
    static struct node n;
    assert_int_equal(sched_node(&s, sched_node_id(name), 0, &n), 0);
    return n.why;
}

static void test_a_node_says_why(void **state) {
    assert_string_equal(why("local"), "");
    assert_string_equal(why("big"), "");
    assert_string_equal(
        why("old:1"),
        "its Python is 3.9.18, and here it is 3.11.2: it gets scripts, programs, JSON and source, but no pickles");
    strcpy(old.python, ""); /* its workers have not said it yet */
    assert_string_equal(why("old:1"), "");
    big.crashes = 2;
    assert_non_null(strstr(why("big"), "2 times in a row"));
    big.quiet_until = clock_us() + 60000000;
    assert_non_null(strstr(why("big"), "nothing for another 60 s"));
    big.runner.ops = NULL;
    assert_non_null(strstr(why("big"), "not answered yet"));
    strcpy(big.why, "connection refused");
    assert_string_equal(why("big"), "connection refused");
}

/* --- measured run times ------------------------------------------------------------------------------------------- */

static void runs(struct host *h, unsigned function, double us, int n) {
    while (n--)
        estimate_note(h, function, us, 1);
}

static struct host *choose_for(unsigned function) {
    return host_choose(&s, &(struct demand){.place = "", .cpus = 1, .function = function, .avoid = ""});
}

static void test_the_faster_host_is_chosen_while_it_is_free(void **state) {
    unsigned f = estimate_function(&s, estimate_key_text("m.f", 3)),
             g = estimate_function(&s, estimate_key_text("m.g", 3));
    assert_int_not_equal(f, g);
    assert_int_equal(estimate_function(&s, estimate_key_text("m.f", 3)), f);
    runs(&local, f, 300000, 8);
    assert_ptr_equal(choose_for(f), &local); /* nothing to compare it with */
    runs(&big, f, 100000, 8);
    assert_ptr_equal(choose_for(f), &old); /* not known: thought to be as fast as any */
    old.used = 2;
    assert_ptr_equal(choose_for(f), &big);
    big.used = 7;
    assert_ptr_equal(choose_for(f), &big);
    big.used = 8;
    assert_ptr_equal(choose_for(f), &local);
    old.used = big.used = 0;
    assert_ptr_equal(choose_for(g), &local); /* of another function nothing is known */
}

static void test_runs_that_differ_say_nothing(void **state) {
    unsigned f = estimate_function(&s, 7);
    for (int i = 0; i < 50; i++)
        estimate_note(&local, f, i % 2 ? 1000000 : 10, 1);
    runs(&big, f, 1000, 20);
    assert_false(estimate_sure(&local, f));
    assert_true(estimate_sure(&big, f));
    assert_true(estimate_excess(&local, f) == 0);
    assert_ptr_equal(choose_for(f), &local);
    unsigned once = estimate_function(&s, 8);
    runs(&big, once, 1000, 1);
    assert_false(estimate_sure(&big, once)); /* once is not enough */
    assert_true(estimate_us(&big, once) > 999 && estimate_us(&big, once) < 1001);
}

static void test_functions_of_users_are_told_apart(void **state) {
    for (uint64_t key = 0; key < 4; key++) /* also where somebody has chosen a name for that */
        assert_true(estimate_key_of(0, 1000) != estimate_key_of(1000, key));
    struct job hers = {.uid = 1000}, his = {.uid = 1001};
    unsigned f = estimate_of_job(&s, &hers, 0);
    assert_true(f != estimate_of_job(&s, &his, 0));
    assert_int_equal(estimate_of_job(&s, &hers, 0), f);
    assert_int_equal(estimate_known(&s, &hers), f);
}

static void test_a_small_difference_is_none(void **state) {
    unsigned f = estimate_function(&s, 7);
    runs(&local, f, 120000, 8);
    runs(&big, f, 100000, 8);
    assert_true(estimate_excess(&local, f) == 0);
    assert_false(estimate_faster(&big, &local, f));
    runs(&local, f, 200000, 40);
    assert_true(estimate_excess(&local, f) > 99000);
    assert_true(estimate_faster(&big, &local, f));
    assert_false(estimate_faster(&local, &big, f));
}

static void test_a_host_is_as_slow_as_with_other_functions(void **state) {
    for (uint64_t key = 1; key <= 3; key++) {
        unsigned f = estimate_function(&s, key << 33);
        runs(&big, f, 1000 * (double)key, 8);
        runs(&local, f, 3000 * (double)key, 8);
    }
    unsigned f = estimate_function(&s, 99);
    assert_true(estimate_us(&local, f) == 0);
    runs(&big, f, 50000, 8);
    assert_true(estimate_us(&local, f) < 51000); /* until they are compared */
    estimate_weigh(&s);
    assert_true(local.slower > 2.9 && local.slower < 3.1);
    assert_true(estimate_us(&local, f) > 145000 && estimate_us(&local, f) < 155000);
    assert_true(estimate_us(&old, f) > 49000 && estimate_us(&old, f) < 51000); /* nothing was seen of it */
    assert_true(estimate_excess(&local, f) > 90000);
}

static void test_a_host_that_was_throttled_is_seen_to_be_fast_again(void **state) {
    unsigned f = estimate_function(&s, 7);
    runs(&big, f, 100000, 8);
    runs(&local, f, 900000, 8);
    runs(&local, f, 100000, 40);
    assert_true(estimate_excess(&local, f) == 0);
    runs(&local, f, 50000, 40);
    runs(&local, f, 200000, 60); /* slower than it was once; fastest is made anew */
    estimate_weigh(&s);
    assert_true(estimate_excess(&big, f) == 0);
}

static void test_the_function_not_used_for_longest_is_forgotten(void **state) {
    unsigned first = estimate_function(&s, 1ull << 32), other;
    runs(&local, first, 1000, 8);
    for (uint64_t i = 2; i < 10000; i++) {
        other = estimate_function(&s, estimate_key(i, 0));
        assert_in_range(other, 1, ESTIMATE_MAX);
        assert_int_equal(estimate_function(&s, 1ull << 32), first);
        runs(&local, other == first ? 0 : other, 5, 1);
    }
    assert_true(estimate_us(&local, first) > 999);
    for (uint64_t i = 10000; i < 20000; i++)
        estimate_function(&s, estimate_key(i, 0));
    assert_true(estimate_us(&local, first) == 0);
    assert_true(estimate_us(&local, estimate_function(&s, 1ull << 32)) == 0);
}

/* --- what passes a job that needs more slots -----------------------------------------------------------------------
 * */

static struct slot_use *under_way(struct slot_use *r, unsigned function, int64_t ran_us) {
    *r = (struct slot_use){.cpus = 1, .function = function, .began = clock_us() - ran_us};
    LIST_INSERT_HEAD(&local.under_way, r, mates);
    local.used++;
    return r;
}

static struct host *spare(unsigned function, int64_t timeout_us) {
    return host_spare(&s, &(struct demand){.place = "", .cpus = 1, .function = function, .avoid = ""}, timeout_us);
}

static void keep_anew(void) {
    host_unreserve_all(&s);
    hosts.spares = NULL;
    host_reserve(&s, &(struct demand){.place = "-local", .cpus = 2}, 7);
    assert_int_equal(local.kept_for, 7);
}

static void test_what_surely_ends_before_passes(void **state) {
    struct slot_use old_one, other;
    unsigned slow = estimate_function(&s, 1), quick = estimate_function(&s, 2), unknown = estimate_function(&s, 3);
    runs(&local, slow, 100e6, 30);
    runs(&local, quick, 1e6, 30);
    under_way(&old_one, slow, 10e6); /* 90 s are left */
    keep_anew();
    assert_null(choose("-local", 1, ""));
    assert_ptr_equal(spare(quick, 0), &local);
    assert_null(spare(slow, 0));
    assert_ptr_equal(spare(slow, 2e6), &local);
    assert_null(spare(unknown, 0));
    assert_null(spare(unknown, 95e6));
    assert_ptr_equal(spare(unknown, 80e6), &local);
    under_way(&other, quick, 0)->filled = true;
    assert_null(spare(quick, 0)); /* full */
    LIST_REMOVE(&old_one, mates);
    local.used--;
    keep_anew(); /* only what has passed it holds it up */
    assert_null(spare(quick, 0));
}

static void test_of_what_passes_a_run_of_unknown_length(void **state) {
    struct slot_use one;
    unsigned quick = estimate_function(&s, 2), unknown = estimate_function(&s, 3);
    runs(&local, quick, 1e6, 30);
    under_way(&one, unknown, 8e6); /* taken to go on for two more */
    keep_anew();
    assert_ptr_equal(spare(quick, 0), &local);
    assert_null(spare(unknown, 3e6));
    one.began += 6000000;
    keep_anew();
    assert_null(spare(quick, 0));
    one.function = quick; /* takes twice as long as it should: nothing is sure of others like it */
    one.began -= 20000000;
    keep_anew();
    assert_null(spare(quick, 0));
    assert_ptr_equal(spare(quick, 3e6), &local);
}

static void test_one_host_is_kept_for_one_job(void **state) {
    local.used = old.used = 1;
    host_reserve(&s, &(struct demand){.place = "", .cpus = 2}, 7);
    unsigned kept = local.reserved + old.reserved + big.reserved;
    host_reserve(&s, &(struct demand){.place = "", .cpus = 2}, 7);
    assert_int_equal(kept, 1);
    assert_int_equal(local.reserved + old.reserved + big.reserved, 1);
}

static void a_node_takes_the_users_that_it_says_and_without_root_one(void **state) {
    struct sched mount = {.owner = 0, .c = {.node_users = "other=7\nfar=1000\n"}};
    struct host h = {.s = &mount, .name = "10.0.0.1:6", .cpus = 1};
    assert_true(host_takes(&h, 0)); /* it has not said anything yet */
    h.known = true;
    assert_false(host_takes(&h, 1000));
    h.uids = (struct node_uids){2, {{1, 5}, {1000, 1999}}};
    assert_true(host_takes(&h, 5) && host_takes(&h, 1000) && host_takes(&h, 1999));
    assert_false(host_takes(&h, 0) || host_takes(&h, 6) || host_takes(&h, 2000));
    h.uids.count = 0;
    h.uid = 4711;
    host_set_user(&h);
    assert_true(host_takes(&h, 0)); /* who mounted */
    assert_false(host_takes(&h, 4711) || host_takes(&h, 1000));
    strcpy(h.alias, "far");
    host_set_user(&h);
    assert_true(host_takes(&h, 1000));
    assert_false(host_takes(&h, 0) || host_takes(&h, 4711));
    strcpy(h.alias, "farther");
    host_set_user(&h);
    assert_int_equal(h.only, 0);
    strcpy(h.alias, "far");
    h.uid = 0; /* so it says */
    h.uids = (struct node_uids){1, {{1, 1999}}};
    host_set_user(&h);
    assert_true(host_takes(&h, 1000));
    assert_false(host_takes(&h, 0) || host_takes(&h, 1001));
}

static void test_whether_another_host_will_do_is_asked_of_few(void **state) {
    static struct host h[400];
    const unsigned f = estimate_function(&s, 1), count = 400;
    const struct demand d = {.place = "", .cpus = 1, .function = f, .avoid = ""};
    old.cpus = big.cpus = local.cpus = 0;
    for (unsigned i = 0; i < count; i++) {
        h[i] = (struct host){.s = &s, .name = {(char)(i / 99 + 1), (char)(i % 99 + 1)}, .cpus = 1, .runner.ops = &ops};
        assert_int_equal(host_enlist(&s, &h[i]), 0);
        estimate_lacks(&h[i], f);
    }
    for (unsigned i = 0; i < 2 * count; i++) {
        estimate_ended(i == count ? &h[count - 1] : &local, f, i != count);
        assert_int_equal(host_doubts(&h[i % count], &d), i >= count && i < 2 * count - 1);
    }
    assert_in_range(s.steps, count, 16 * count);
}

int main(void) {
#define TEST(t) cmocka_unit_test_setup(t, setup)
    const struct CMUnitTest tests[] = {TEST(a_node_takes_the_users_that_it_says_and_without_root_one),
                                       TEST(test_places),
                                       TEST(test_who_fits),
                                       TEST(test_memory_is_a_part_of_the_place),
                                       TEST(test_memory_that_is_reserved_is_kept),
                                       TEST(test_resources_of_a_place),
                                       TEST(test_the_least_crowded_is_chosen),
                                       TEST(test_who_takes_nothing),
                                       TEST(test_a_large_job_keeps_one_host_for_itself),
                                       TEST(test_a_job_does_not_go_where_it_died),
                                       TEST(test_a_node_that_dies_is_tried_again_carefully),
                                       TEST(test_a_lent_slot_is_one_more),
                                       TEST(test_a_node_says_why),
                                       TEST(test_the_faster_host_is_chosen_while_it_is_free),
                                       TEST(test_runs_that_differ_say_nothing),
                                       TEST(test_functions_of_users_are_told_apart),
                                       TEST(test_a_small_difference_is_none),
                                       TEST(test_a_host_is_as_slow_as_with_other_functions),
                                       TEST(test_a_host_that_was_throttled_is_seen_to_be_fast_again),
                                       TEST(test_the_function_not_used_for_longest_is_forgotten),
                                       TEST(test_what_surely_ends_before_passes),
                                       TEST(test_of_what_passes_a_run_of_unknown_length),
                                       TEST(test_one_host_is_kept_for_one_job),
                                       TEST(test_whether_another_host_will_do_is_asked_of_few)};
    return cmocka_run_group_tests_name("host", tests, NULL, NULL);
}
