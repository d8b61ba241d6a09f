/* How it ends with a node: death, leaving, cuts, silence, and nonsense of either side. */
#include "tests/unit/noderig.h"
#include "tests/unit/relay.h"

/* --- ends --------------------------------------------------------------------------------------------------------- */
static void a_node_that_dies_loses_its_work(void **state) {
    unsigned first = 0;

    one_node();
    begin(1, WORK_PYTHON, sleeper);
    begin(2, WORK_STREAM_JSON, "");
    begin(3, WORK_PYTHON, sleeper);
    turn_until(has_output, &fix.jobs[1]);
    end_node(&fix.node[0]);
    turn_until(is_gone, &first);
    for (uint64_t i = 1; i <= 3; i++) {
        assert_true(fix.jobs[i].done);
        assert_end(&fix.jobs[i], WORK_LOST, "node n1 was lost");
    }
}

static bool has_two(void *arg) {
    return agent_works(((struct node *)arg)->agent) == 2;
}

/* Nobody can have died of what no worker of the node has taken, and the node says so. */
static void a_node_tells_what_had_not_begun(void **state) {
    one_node();
    begin(1, WORK_PYTHON, sleeper);
    turn_until(has_output, &fix.jobs[1]);
    kill(pool_forkserver(fix.node[0].pool), SIGSTOP);
    begin(2, WORK_PYTHON, sleeper);
    turn_until(has_two, &fix.node[0]);
    for (int i = 0; i < 5; i++) /* and its pool has it */
        event_base_loop(base, EVLOOP_NONBLOCK);
    kill(pool_forkserver(fix.node[0].pool), SIGKILL);
    assert_end(ended(1), WORK_LOST, "the fork server of the workers");
    assert_end(ended(2), WORK_LOST, "the fork server of the workers");
    assert_false(fix.jobs[1].outcome.unbegun);
    assert_true(fix.jobs[2].outcome.unbegun && !fix.jobs[2].outcome.no_room);
}

static void a_node_gives_back_what_it_does_not_take(void **state) {
    struct work w = work_of(1, WORK_PYTHON, sleeper);
    one_node();
    w.uid = UINT32_MAX - 1;
    assert_int_equal(runner_start(fix.runner, &w), 0);
    assert_end(ended(1), WORK_LOST, "runs nothing of user");
    assert_true(fix.jobs[1].outcome.unbegun && !fix.jobs[1].outcome.no_room);
}

static bool is_idle(void *arg) {
    struct node *n = arg;
    return n->left && agent_works(n->agent) == 0;
}

static void a_ppfs_that_dies_has_its_work_killed(void **state) {
    one_node();
    begin(1, WORK_PYTHON, sleeper);
    begin(2, WORK_PYTHON, sleeper);
    begin(3, WORK_PYTHON, sleeper);
    turn_until(has_output, &fix.jobs[1]);
    registry_destroy(fix.registry);
    fix.registry = NULL;
    turn_until(is_idle, &fix.node[0]);
    assert_false(fix.node[0].for_good);
    assert_int_equal(kill(atoi(fix.jobs[1].text[OUTPUT_STDOUT]), 0), -1);
}

static void a_node_is_let_go(void **state) {
    unsigned first = 0;

    one_node();
    begin(1, WORK_PYTHON, sleeper);
    turn_until(has_output, &fix.jobs[1]);
    registry_let_go(fix.registry, fix.remote[0]);
    turn_until(is_gone, &first);
    assert_true(fix.jobs[1].done);
    turn_until(flag, &fix.node[0].left);
    assert_true(fix.node[0].for_good);
}

static void a_node_says_goodbye(void **state) {
    unsigned first = 0;

    one_node();
    agent_goodbye(fix.node[0].agent);
    turn_until(is_gone, &first);
    assert_string_equal(fix.gone[0], "it has left");
    turn_until(flag, &fix.node[0].left);
    assert_false(fix.node[0].for_good);
}

/* --- cuts --------------------------------------------------------------------------------------------------------- */
enum { LITTLE = 64 * 1024 /* bytes that the relay itself holds */ };

static int setup_relay(void **state) {
    setup(state);
    registry_destroy(fix.registry);
    make_registry(1000);
    relay_start(registry_address(fix.registry), LITTLE);
    fix.via = relay.address;
    make_node(&fix.node[0], "n1", 1000);
    wait_up(0);
    return 0;
}

static int teardown_relay(void **state) {
    relay_stop();
    return teardown(state);
}

/* What a small one has before it on a network that takes eight megabytes a second is what is in the network, not what
 * waits. */
static void small_results_pass_large_ones(void **state) {
    struct ev_token_bucket_cfg *slow =
        ev_token_bucket_cfg_new(160 * 1024, 160 * 1024, 160 * 1024, 160 * 1024, &(struct timeval){.tv_usec = 20000});

    for (int i = 0; i < RELAY_PAIRS; i++)
        if (relay.ends[i][0])
            bufferevent_set_rate_limit(relay.ends[i][0], slow); /* what the node sends */
    begin(1, WORK_PROGRAM, "#!/bin/sh\nexec cat /dev/zero\n");
    while (fix.jobs[1].size[OUTPUT_STDOUT] < 16 << 20) /* as much as there can be waits */
        event_base_loop(base, EVLOOP_ONCE);
    for (uint64_t i = 2; i < 6; i++) {
        size_t before = fix.jobs[1].size[OUTPUT_STDOUT];
        begin(i, WORK_JSON_CALL, "{\"call\": \"math.sqrt\", \"args\": [16]}");
        assert_end(ended(i), WORK_DONE, NULL);
        assert_in_range(fix.jobs[1].size[OUTPUT_STDOUT] - before, 0, 5 << 19);
    }
    runner_kill(fix.runner, 1);
    assert_end(ended(1), WORK_SIGNALED, "killed");
    relay_cut();
    ev_token_bucket_cfg_free(slow);
}

static bool moved(void *arg) {
    return relay.passed > *(size_t *)arg;
}

static void cuts_lose_and_double_nothing(void **state) {
    unsigned cuts = 0;

    begin(1, WORK_STREAM_JSON, "");
    begin(2, WORK_PYTHON, "import sys\nfor i in range(200): sys.stdout.write(chr(65 + i % 26) * 100000)\n");
    for (uint32_t i = 1; i <= 2000; i++)
        json(i, "{\"call\": \"operator.add\", \"args\": [%u, 1]}", i);
    assert_int_equal(runner_finish(fix.runner, 1), 0);
    while (!fix.jobs[1].done || !fix.jobs[2].done) {
        size_t goal = relay.passed + 500000;
        while (relay.passed < goal && !(fix.jobs[1].done && fix.jobs[2].done))
            event_base_loop(base, EVLOOP_ONCE);
        if (fix.jobs[1].done && fix.jobs[2].done)
            break;
        relay_cut();
        cuts++;
        goal = relay.passed;
        turn_until(moved, &goal);
    }
    assert_in_range(cuts, 10, 1000);
    assert_int_equal(fix.answers, 2000);
    for (uint32_t i = 1; i <= 2000; i++)
        assert_int_equal(atoi(fix.calls[i].text), i + 1);
    assert_end(&fix.jobs[1], WORK_DONE, NULL);
    assert_end(&fix.jobs[2], WORK_DONE, NULL);
    assert_int_equal(fix.jobs[2].size[OUTPUT_STDOUT], 20000000);
    uint32_t sum = 0;
    for (int i = 0; i < 200; i++)
        sum += (uint32_t)(65 + i % 26) * 100000;
    assert_int_equal(fix.jobs[2].sum, sum);
    assert_int_equal(fix.node[0].clients, 1);
}

static bool both_have_lost(void *arg) {
    return fix.jobs[1].done && fix.gone[0][0] && is_idle(&fix.node[0]);
}

/* Neither side hears the other: each gives the other up by itself. */
static void silence_loses_the_work_and_kills_it(void **state) {
    begin(1, WORK_PYTHON, sleeper);
    turn_until(has_output, &fix.jobs[1]);
    relay.closed = true;
    relay_freeze(false);
    turn_until(both_have_lost, NULL);
    assert_end(&fix.jobs[1], WORK_LOST, "node n1 was lost");
    assert_int_equal(kill(atoi(fix.jobs[1].text[OUTPUT_STDOUT]), 0), -1);
    fix.up = 0;
    fix.remote[0] = NULL;
    relay.closed = false;
    relay_cut();
    wait_up(0); /* it comes back, as a new one */
    begin(3, WORK_PYTHON, "print(3)");
    assert_end(ended(3), WORK_DONE, NULL);
}

/* The same ppfs, started again, has nothing of what its predecessor began. */
static void a_successor_ends_what_its_predecessor_runs(void **state) {
    static const struct registry_events events = {.up = on_up, .changed = on_changed, .gone = on_gone, .log = on_log};
    char id[160];
    struct registry *registries[2];

    snprintf(id, sizeof(id), "%s/id", dir);
    struct registry_config config = {
        .key_file = key_file("key", KEY_A, 0600), .listen = "127.0.0.1:0", .id_file = id, .runner = &runner_events};
    for (int i = 0; i < 2; i++) {
        if (registry_create(&registries[i], base, &config, &events, NULL, why, sizeof(why)))
            fail_msg("%s", why);
        let_nodes_in(registries[i]);
    }
    registry_destroy(fix.registry);
    fix.registry = registries[0];
    relay_start(registry_address(fix.registry), LITTLE);
    fix.via = relay.address;
    one_node();
    begin(1, WORK_PYTHON, sleeper);
    turn_until(has_output, &fix.jobs[1]);
    relay.closed = true; /* as if the first had been killed: its connection ends, but not the lease */
    relay_cut();
    redial_destroy(fix.node[0].redial);
    static const struct redial_events redial_events = {.connected = node_connected, .failed = node_dial_failed};
    assert_int_equal(redial_create(&fix.node[0].redial, base, fix.node[0].tls, &fix.node[0].dials,
                                   registry_address(registries[1]), false, &redial_events, &fix.node[0]),
                     0);
    redial_now(fix.node[0].redial);
    turn_until(flag, &fix.node[0].left);
    assert_non_null(strstr(fix.node_log, "it was started again"));
    while (kill(atoi(fix.jobs[1].text[OUTPUT_STDOUT]), 0) == 0)
        event_base_loop(base, EVLOOP_ONCE);
    wait_up(1);
    remote_runner(fix.remote[1], &fix.runner);
    begin(2, WORK_PYTHON, "print(2)");
    assert_end(ended(2), WORK_DONE, NULL);
    registry_destroy(registries[1]);
    relay_stop();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        REMOTE_TEST(a_node_that_dies_loses_its_work),
        REMOTE_TEST(a_node_tells_what_had_not_begun),
        REMOTE_TEST(a_node_gives_back_what_it_does_not_take),
        REMOTE_TEST(a_ppfs_that_dies_has_its_work_killed),
        REMOTE_TEST(a_node_is_let_go),
        REMOTE_TEST(a_node_says_goodbye),
        REMOTE_TEST(a_successor_ends_what_its_predecessor_runs),
        cmocka_unit_test_setup_teardown(small_results_pass_large_ones, setup_relay, teardown_relay),
        cmocka_unit_test_setup_teardown(cuts_lose_and_double_nothing, setup_relay, teardown_relay),
        cmocka_unit_test_setup_teardown(silence_loses_the_work_and_kills_it, setup_relay, teardown_relay),
    };

    return cmocka_run_group_tests(tests, rig_setup, rig_teardown);
}
