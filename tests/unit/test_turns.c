/* Turns between users: who gets the slots, by the order in which work is given to a host that is simulated here and
 * ends a job when it is told to. The scheduler and its database are real. Needs $PPFS_WORKER. */
#include "tests/unit/schedrig.h"
#include "sched/dispatch/state.h"
#include "sched/leases/state.h"

#define STARTS 4096
#define SECOND 1000000

static struct fake { struct host h; /* first: the scheduler frees it */ } * fake;
static struct begun {
    uint64_t job;
    uid_t uid;
    bool ended, finished; /* finished: a lease that is to end */
} starts[STARTS];
static unsigned count;

static int to_start(void *self, const struct work *w) {
    assert_true(count < STARTS);
    starts[count++] = (struct begun){.job = w->job, .uid = w->uid};
    return 0;
}
static int to_call(void *self, uint64_t lease, uint32_t number, enum call_format format, const void *bytes, size_t size,
                   struct shared_buffer *shared) {
    return 0;
}
static int to_function(void *self, uint64_t lease, const uint8_t hash[32], const void *bytes, size_t size,
                       struct shared_buffer *shared) {
    return 0;
}
static int to_finish(void *self, uint64_t lease) {
    for (unsigned i = 0; i < count; i++)
        starts[i].finished |= starts[i].job == lease;
    return 0;
}
static uint32_t to_recall(void *self, uint64_t lease, uint32_t number) {
    return number + 1; /* the one that runs goes on */
}
static void to_kill(void *self, uint64_t job) {
}
static const struct runner_ops ops = {to_start,     to_call, to_function, to_finish,     to_recall,
                                      ignore_flush, to_kill, ignore_hold, ignore_resize, NULL};

static void tick(void) {
    rig_turn();
    assert_int_equal(sched_commit(s), 0);
}

/* A busy machine may cut a turn short by its time. */
static void tick_until(unsigned started) {
    for (int i = 0; i < 1000 && count < started; i++)
        tick();
    assert_int_equal(count, started);
}

static void calm(void) {
    s->owner = 4;              /* nobody below has that one */
    s->slice_us = 10 * SECOND; /* a busy machine cuts no dispatch */
}

static int setup(void **state) {
    count = 0;
    open_for_writing = false;
    if (rig_setup() < 0)
        return -1;
    calm();
    return 0;
}

static int teardown(void **state) {
    return rig_teardown();
}

static struct host *add_named(const char *name, unsigned cpus) {
    fake = calloc(1, sizeof *fake);
    assert_non_null(fake);
    rig_add(&fake->h, cpus, &ops, name);
    return &fake->h;
}

static void add_host(unsigned cpus) {
    add_named("fake", cpus);
}

static uint64_t write_file(uid_t uid, const char *name, const char *text) {
    return rig_write(uid, 1, name, text, strlen(text));
}

static uint64_t submit_with(uid_t uid, const char *options) {
    static unsigned n;
    char name[32], text[96];
    snprintf(name, sizeof name, "j%u", n++);
    snprintf(text, sizeof text, "#ppfs: %s\nx = 1\n", options);
    uint64_t job = write_file(uid, name, text);
    assert_int_equal(sched_flush(s, job, 0, false, false, NULL, NULL), 0);
    sched_release(s, job);
    return job;
}

static uint64_t submit(uid_t uid, int priority) {
    char text[32];
    snprintf(text, sizeof text, "priority=%d", priority);
    return submit_with(uid, text);
}

static uint64_t stream(uid_t uid, unsigned calls) {
    static unsigned n;
    char name[32], text[8192] = "";
    snprintf(name, sizeof name, "s%u.jsonl", n++);
    for (unsigned i = 0; i < calls; i++)
        strcat(text, "{\"call\": \"m.f\"}\n");
    return write_file(uid, name, text);
}

static void submit_many(uid_t uid, unsigned n) {
    while (n--)
        submit(uid, 0);
}

static struct user *user(uid_t uid) {
    struct user *u = user_of(s, uid);
    assert_non_null(u);
    return u;
}

/* What started i-th ends after so much time of its slot. */
static void end(unsigned i, int64_t us) {
    struct work_outcome o = {.attempt = 1, .wall_us = us, .end = WORK_DONE};
    assert_true(i < count && !starts[i].ended);
    starts[i].ended = true;
    user(starts[i].uid)->at -= us;
    host_events.done(&fake->h, starts[i].job, &o);
    tick();
}

static unsigned begun_of(uid_t uid, unsigned from) {
    unsigned n = 0;
    for (unsigned i = from; i < count; i++)
        n += starts[i].uid == uid;
    return n;
}

/* --- jobs -------------------------------------------------------------------------------------------------------- */

static void test_long_and_short_jobs_get_the_same_time(void **state) {
    add_host(1);
    submit_many(10, 20);  /* of a second each */
    submit_many(11, 400); /* of a tenth of that */
    tick();
    for (unsigned i = 0; i < 110; i++) {
        assert_int_equal(count, i + 1);
        end(i, starts[i].uid == 10 ? SECOND : SECOND / 10);
    }
    assert_in_range(begun_of(10, 0), 9, 11);
}

static void test_a_newcomer_has_no_credit(void **state) {
    add_host(1);
    submit_many(10, 100);
    tick();
    for (unsigned i = 0; i < 20; i++)
        end(i, 10 * SECOND);
    submit_many(11, 100);
    tick();
    for (unsigned i = 20; i < 40; i++)
        end(i, SECOND);
    assert_in_range(begun_of(11, 20), 9, 11);
    assert_int_equal(starts[21].uid, 11);
}

static void test_free_slots_are_shared_at_once(void **state) {
    submit_many(10, 20);
    submit_many(11, 20);
    submit_many(12, 1);
    tick();
    add_host(9);
    tick_until(9);
    assert_int_equal(begun_of(10, 0), 4);
    assert_int_equal(begun_of(11, 0), 4);
    assert_int_equal(begun_of(12, 0), 1);
}

static void test_slots_that_are_held_count(void **state) {
    add_host(4);
    submit_many(10, 100);
    tick_until(4);
    submit_many(11, 100);
    tick();
    end(0, SECOND);
    end(1, SECOND);
    assert_int_equal(begun_of(11, 4), 2);
    user(10)->at -= 100 * SECOND; /* the other two go on */
    user(11)->at -= SECOND;
    end(4, SECOND);
    assert_int_equal(starts[6].uid, 11);
    end(5, SECOND);
    assert_int_equal(starts[7].uid, 11);
}

static void test_priority_orders_what_is_a_users(void **state) {
    add_host(1);
    submit(10, 0);
    tick();
    uint64_t low = submit(10, -5), high = submit(10, 1000000);
    for (int i = 0; i < 40; i++)
        submit(10, 1000000);
    submit_many(11, 2);
    uint64_t roots = submit(0, 1), roots_other = submit(0, 0);
    end(0, SECOND);
    assert_int_equal(starts[1].job, roots);
    end(1, SECOND); /* those who had nothing so far have had less than either by now */
    assert_int_equal(starts[2].uid, 11);
    end(2, 10);
    assert_int_equal(starts[3].uid, 11);
    end(3, 3 * SECOND);
    assert_true(starts[4].job == roots_other || starts[4].job == high);
    end(4, 4 * SECOND);
    assert_true(starts[5].job == roots_other || starts[5].job == high);
    for (unsigned i = 5; i < count; i++)
        end(i, 1);
    assert_int_equal(starts[count - 1].job, low);
}

static void test_the_order_outlives_the_daemon(void **state) {
    submit_many(10, 30);
    submit_many(11, 30);
    tick();
    sched_destroy(s);
    assert_int_equal(rig_begin(), 0);
    calm();
    add_host(1);
    for (int i = 0; i < 3; i++)
        tick();
    for (unsigned i = 0; i < 60; i++)
        end(i, SECOND);
    assert_in_range(begun_of(10, 0) - begun_of(10, 20), 9, 11);
    assert_int_equal(begun_of(11, 0), 30);
}

/* A slot comes free between the dispatch that found none for a user and the one that goes on with the others. */
static void test_who_was_passed_in_a_dispatch_that_was_cut_is_asked_again(void **state) {
    const struct work_outcome o = {.attempt = 1, .wall_us = 1, .end = WORK_DONE};
    add_named("two", 1);
    struct host *one = add_named("one", 1);
    add_named("free", 1);
    submit_with(20, "node=two");
    uint64_t first = submit_with(20, "node=one");
    tick();
    assert_int_equal(count, 2);
    submit_with(10, "node=one");
    submit_with(11, "node=two");
    s->slice_us = -1;
    sched_turn(s);
    assert_int_equal(sched_commit(s), 0);
    assert_true(user(10)->passed && !user(11)->passed);
    host_events.done(one, first, &o);
    for (int i = 0; i < 4 && (i == 0 || evtimer_pending(s->tick, NULL)); i++)
        tick();
    assert_int_equal(begun_of(10, 0), 1);
    for (int i = 0; i < 4; i++)
        tick();
    assert_false(evtimer_pending(s->tick, NULL));
}

static void test_who_is_refused_by_a_node_holds_up_no_other(void **state) {
    const struct work_outcome o = {.attempt = 1, .end = WORK_LOST, .unbegun = true, .why = "no such user"};
    add_host(2);
    for (uid_t uid = 20; uid < 20 + REFUSED_USERS; uid++) {
        submit(uid, 0);
        tick_until(uid - 20 + 1);
        host_events.done(&fake->h, starts[uid - 20].job, &o);
        tick();
        assert_non_null(host_refuses(&fake->h, uid));
        assert_null(host_refuses(&fake->h, 11));
    }
    assert_int_equal(count, REFUSED_USERS); /* nobody is asked for twice at once */
    submit(11, 0);
    tick();
    assert_int_equal(begun_of(11, 0), 1);
}

/* Few turns with no time for long work bring both jobs of user 11 to their start, before most of user 10's. */
static void starts_soon(unsigned from) {
    s->slice_us = 0;
    for (int i = 0; i < 8; i++)
        tick();
    assert_int_equal(begun_of(11, from), 2);
    assert_true(begun_of(10, from) < 100);
    calm();
    for (int i = 0; i < 8; i++)
        tick();
    assert_int_equal(begun_of(10, from), 200);
}

static void test_many_that_fitted_no_node_hold_up_no_other_user(void **state) {
    for (int i = 0; i < 200; i++)
        submit_with(10, "node=late");
    submit_with(11, "node=late");
    submit_with(11, "node=late");
    tick();
    host_changed(add_named("late", 300));
    starts_soon(0);
}

static void test_many_retries_hold_up_no_other_user(void **state) {
    const struct work_outcome o = {.attempt = 1, .wall_us = 1, .end = WORK_EXITED};
    add_host(300);
    for (int i = 0; i < 200; i++)
        submit_with(10, "retries=1");
    submit_with(11, "retries=1");
    submit_with(11, "retries=1");
    tick_until(202);
    for (unsigned i = 0; i < 202; i++)
        host_events.done(&fake->h, starts[i].job, &o);
    tick();
    assert_int_equal(count, 202);
    s->steady_us += 2 * SECOND;
    starts_soon(202);
}

/* --- streams ----------------------------------------------------------------------------------------------------- */

static void end_told(int64_t us) {
    for (unsigned i = 0, n = count; i < n; i++)
        if (starts[i].finished && !starts[i].ended)
            end(i, us);
}

static unsigned told_to_finish(void) {
    unsigned n = 0;
    for (int i = 0; i < 5; i++) {
        s->leases->reclaim_at = 0;
        tick();
    }
    for (unsigned i = 0; i < count; i++)
        n += starts[i].finished && !starts[i].ended;
    return n;
}

static void test_a_stream_gives_slots_back_when_others_wait(void **state) {
    open_for_writing = true;
    add_host(4);
    uint64_t job = stream(10, 100);
    for (int i = 0; i < 5; i++)
        tick();
    assert_int_equal(user(10)->slots, 4);
    open_for_writing = false;
    submit_many(11, 50);
    stream_becomes(stream_find(s, job), STREAM_OPEN);
    struct lease *l;
    LIST_FOREACH(l, &s->leases->all, all)
        l->began -= SECOND;
    assert_int_equal(told_to_finish(), 2); /* not all four, of which two would come back to it */
    end_told(SECOND);
    assert_int_equal(begun_of(11, 0), 2);
}

/* However young the stream's leases are: one of them for each such job. */
static void test_a_job_of_higher_priority_gets_a_slot_of_a_stream_at_once(void **state) {
    open_for_writing = true;
    add_host(4);
    uint64_t job = stream(10, 100);
    assert_int_equal(told_to_finish(), 0);
    open_for_writing = false;
    stream_becomes(stream_find(s, job), STREAM_OPEN);
    struct lease *l;
    LIST_FOREACH(l, &s->leases->all, all)
        l->began += 1000 * (int64_t)SECOND; /* all are young */
    submit(10, 0);
    assert_int_equal(told_to_finish(), 0);
    uint64_t first = submit(10, 9);
    submit(10, 8);
    assert_int_equal(told_to_finish(), 1);
    end_told(1);
    assert_int_equal(starts[4].job, first);
    assert_int_equal(told_to_finish(), 1); /* for the next of them, which is known by now */
}

static void test_streams_and_jobs_of_two_users_share(void **state) {
    tick();
    open_for_writing = true;
    stream(10, 100);
    stream(10, 100);
    stream(10, 100);
    tick();
    open_for_writing = false;
    submit_many(11, 50);
    tick();
    add_host(8);
    assert_int_equal(told_to_finish(), 0);
    assert_int_equal(user(10)->slots, 4);
    assert_int_equal(user(11)->slots, 4);
}

/* Leases are old enough, and what is to end does. */
static void give_back(void) {
    struct lease *l;
    LIST_FOREACH(l, &s->leases->all, all)
        l->began -= SECOND;
    s->leases->reclaim_at = 0;
    tick();
    end_told(1);
    tick();
}

static void test_streams_leave_places_in_memory_to_others(void **state) {
    tick();
    open_for_writing = true;
    for (unsigned i = 0; i < STREAMS_ACTIVE; i++) {
        stream(10, 1);
        if (i % 64 == 63)
            tick();
    }
    add_host(1);
    tick();
    assert_in_range(user(10)->active_streams, STREAMS_ACTIVE / 16 * 15 - 15, STREAMS_ACTIVE / 16 * 15 + 15);
    for (int i = 0; i < 3; i++)
        stream(11, 1);
    give_back();
    assert_int_equal(user(11)->active_streams, 3);
    stream(0, 1);
    give_back();
    assert_int_equal(user(0)->active_streams, 1);
}

/* --- how much is looked at --------------------------------------------------------------------------------------- */

/* Jobs that nobody else is beside, then one of each user: steps for a job. */
static double steps_a_job(unsigned users) {
    unsigned first = count;
    for (unsigned u = 0; u < users; u++)
        submit_many(1000 + u, 2);
    tick();
    uint64_t before = s->steps;
    for (unsigned i = 0; i < users; i++)
        end(first + i, 1000);
    double steps = (double)(s->steps - before) / users;
    for (unsigned i = users; i < 2 * users; i++)
        end(first + i, 1000);
    assert_int_equal(count, first + 2 * users);
    return steps;
}

static void test_steps_grow_with_the_logarithm_of_the_users(void **state) {
    add_host(1);
    double one = steps_a_job(1), ten = steps_a_job(10), thousand = steps_a_job(1000);
    printf("# %.1f steps for a job of one user, %.1f of ten, %.1f of 1000\n", one, ten, thousand);
    assert_true(thousand < one + 80);
}

/* As many threads of a job open results at once. */
static void test_clients_that_begin_to_wait_are_looked_at_in_slices(void **state) {
    uint64_t job = submit(10, 0);
    tick();
    s->slice_us = -1;
    for (uint64_t request = 1; request <= 8000; request++)
        sched_blocked(s, getpid(), request, job);
    uint64_t before = s->steps;
    sched_turn(s);
    assert_int_equal(sched_commit(s), 0);
    assert_in_range(s->steps - before, 1, 8);
    assert_false(TAILQ_EMPTY(&s->dispatch->fresh));
    assert_true(evtimer_pending(s->tick, NULL));
    s->slice_us = 10 * SECOND;
    before = s->steps;
    for (int i = 0; i < 1000 && !TAILQ_EMPTY(&s->dispatch->fresh); i++)
        tick();
    assert_in_range(s->steps - before, 7990, 8100);
    before = s->steps;
    for (uint64_t request = 1; request <= 8000; request++)
        sched_unblocked(s, request);
    assert_int_equal(s->steps, before);
    assert_null(s->dispatch->parked);
}

int main(void) {
#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
    const struct CMUnitTest tests[] = {TEST(test_long_and_short_jobs_get_the_same_time),
                                       TEST(test_a_newcomer_has_no_credit),
                                       TEST(test_free_slots_are_shared_at_once),
                                       TEST(test_slots_that_are_held_count),
                                       TEST(test_priority_orders_what_is_a_users),
                                       TEST(test_the_order_outlives_the_daemon),
                                       TEST(test_who_is_refused_by_a_node_holds_up_no_other),
                                       TEST(test_many_that_fitted_no_node_hold_up_no_other_user),
                                       TEST(test_many_retries_hold_up_no_other_user),
                                       TEST(test_who_was_passed_in_a_dispatch_that_was_cut_is_asked_again),
                                       TEST(test_a_stream_gives_slots_back_when_others_wait),
                                       TEST(test_a_job_of_higher_priority_gets_a_slot_of_a_stream_at_once),
                                       TEST(test_streams_and_jobs_of_two_users_share),
                                       TEST(test_streams_leave_places_in_memory_to_others),
                                       TEST(test_clients_that_begin_to_wait_are_looked_at_in_slices),
                                       TEST(test_steps_grow_with_the_logarithm_of_the_users)};
    return cmocka_run_group_tests_name("turns", tests, NULL, NULL);
}
