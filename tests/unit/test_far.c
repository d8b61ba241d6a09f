/* A node as a runner: a fleet and one or two nodes (hub, serve, a pool of real workers) in one process and one loop, over
 * real connections on loopback. $PPFS_WORKER, else ./ppfs-worker. */
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/listener.h>

#include "tests/unit/netrig.h"
#include "worker/far_proto.h"
#include "worker/fleet.h"
#include "worker/redial.h"
#include "worker/serve.h"

enum { JOBS = 64, CALLS = 3000, KEEP = 512, SLOTS = 2 };

struct job {
    bool done;
    struct work_outcome outcome;
    size_t size[4];
    uint32_t sum; /* of the result's bytes */
    char text[4][KEEP];
    unsigned order; /* how many were done before it */
};

struct call {
    bool answered;
    enum pool_answer kind;
    size_t size;
    char text[KEEP];
};

/* One node, as ppfs-node is made. */
struct node {
    const char *name, *dir;
    unsigned cpus;
    struct tls *tls;
    struct hub *hub;
    struct serve *serve;
    struct pool *pool;
    struct redial *redial;
    bool left, for_good, busy;
    unsigned links, guests;
};

static struct fixture {
    struct tls *tls;
    struct fleet *fleet;
    struct far *far[2]; /* as they came up */
    char gone[2][256];
    unsigned up, changes, done_count, needs, recalls;
    uint32_t recalled, answers, last_answer;
    bool room, stay_away;
    struct node node[2];
    struct job jobs[JOBS];
    struct call calls[CALLS];
    const char *function;
    size_t function_size;
    struct runner runner;               /* of the first */
    char trouble[1024], node_log[1024]; /* why the last guest of a node has gone */
    const char *via;                    /* what nodes dial; NULL: the fleet itself */
} fix;

/* --- the fleet's side --------------------------------------------------------------------------------------------- */
static void on_output(void *arg, uint64_t id, enum pool_stream stream, const void *bytes, size_t size) {
    struct job *j = &fix.jobs[id];

    (void)arg;
    assert_in_range(id, 1, JOBS - 1);
    assert_false(j->done);
    for (size_t i = 0; i < size; i++)
        j->sum += ((const uint8_t *)bytes)[i];
    for (size_t i = 0; i < size && j->size[stream] + i < KEEP - 1; i++)
        j->text[stream][j->size[stream] + i] = ((const char *)bytes)[i];
    j->size[stream] += size;
}

static void on_done(void *arg, uint64_t id, const struct work_outcome *o) {
    (void)arg;
    assert_in_range(id, 1, JOBS - 1);
    assert_false(fix.jobs[id].done);
    fix.jobs[id].done = true;
    fix.jobs[id].outcome = *o;
    fix.jobs[id].order = fix.done_count++;
}

static void on_answer(void *arg, uint64_t lease, uint32_t number, enum pool_answer kind, const void *bytes,
                      size_t size) {
    struct call *c = &fix.calls[number];

    (void)arg;
    assert_in_range(number, 1, CALLS - 1);
    assert_false(c->answered || fix.jobs[lease].done);
    if (kind == ANSWER_NEED && size) {
        fix.needs++;
        runner_function(fix.runner, lease, bytes, fix.function, fix.function_size);
        return;
    }
    for (size_t i = 0; i < size && c->size + i < KEEP - 1; i++)
        c->text[c->size + i] = ((const char *)bytes)[i];
    c->size += size;
    if (kind == ANSWER_PART)
        return;
    c->kind = kind;
    c->answered = true;
    fix.answers++;
    fix.last_answer = number;
}

static void on_recalled(void *arg, uint64_t lease, uint32_t number) {
    (void)arg;
    (void)lease;
    fix.recalled = number;
    fix.recalls++;
}

static void on_room(void *arg) {
    (void)arg;
    fix.room = true;
}

static void on_trouble(void *arg, const char *sentence) {
    (void)arg;
    snprintf(fix.trouble, sizeof(fix.trouble), "%s", sentence);
}

static const struct pool_events runner_events = {.output = on_output,
                                                 .done = on_done,
                                                 .answer = on_answer,
                                                 .trouble = on_trouble,
                                                 .recalled = on_recalled,
                                                 .room = on_room};

static void *on_up(void *arg, struct far *far) {
    (void)arg;
    assert_in_range(fix.up, 0, 1);
    fix.far[fix.up] = far;
    if (fix.up == 0)
        far_runner(far, &fix.runner);
    return &fix.far[fix.up++];
}

static void on_changed(void *node, struct far *far) {
    assert_ptr_equal(*(struct far **)node, far);
    fix.changes++;
}

static void on_gone(void *node, struct far *far, const char *reason) {
    int i = (struct far **)node == &fix.far[1];

    assert_ptr_equal(fix.far[i], far);
    fix.far[i] = NULL;
    snprintf(fix.gone[i], sizeof(fix.gone[i]), "%s", reason);
}

static void on_log(void *arg, const char *sentence) {
    if (arg && strstr(sentence, "has gone"))
        snprintf(fix.node_log, sizeof(fix.node_log), "%s", sentence);
    print_message("%s%s\n", arg ? "node: " : "", sentence);
}

static void make_fleet(unsigned silence_ms) {
    static const struct fleet_events events = {.up = on_up, .changed = on_changed, .gone = on_gone, .log = on_log};
    struct fleet_config config = {.key_file = key_file("key", KEY_A, 0600),
                                  .listen = "127.0.0.1:0",
                                  .silence_ms = silence_ms,
                                  .runner = &runner_events};

    if (fleet_create(&fix.fleet, base, &config, &events, NULL, why, sizeof(why)))
        fail_msg("%s", why);
}

/* --- the node's side ---------------------------------------------------------------------------------------------- */
static void node_greeted(void *arg, void *tag, struct session *s, bool fresh) {
    struct node *n = arg;

    (void)tag;
    if (fresh)
        assert_int_not_equal(serve_guest(n->serve, s), 0);
    n->guests += fresh;
}

static void node_failed(void *arg, void *tag, const char *reason) {
    struct node *n = arg;

    (void)tag;
    print_message("%s: %s\n", n->name, reason);
    redial_later(n->redial);
}

static void node_connected(void *arg, struct tls_conn *conn) {
    struct node *n = arg;
    assert_int_equal(hub_greet(n->hub, conn, redial_address(n->redial), NULL), 0);
}

static void node_dial_failed(void *arg, const char *reason) {
    (void)arg;
    print_message("%s\n", reason);
}

static void node_linked(void *arg, uint64_t guest, bool up) {
    struct node *n = arg;

    (void)guest;
    n->links += up;
    if (!up)
        redial_now(n->redial);
}

static void node_left(void *arg, uint64_t guest, bool for_good) {
    struct node *n = arg;

    (void)guest;
    n->left = true;
    n->for_good = for_good;
    if (n->redial && !for_good && !fix.stay_away)
        redial_later(n->redial);
}

static void node_busy(void *arg, bool busy) {
    ((struct node *)arg)->busy = busy;
}

static void node_python(void *arg) {
    struct node *n = arg;
    serve_set_python(n->serve, pool_python(n->pool));
}

static void node_unable(void *arg) {
    fail_msg("the workers of %s cannot be started", ((struct node *)arg)->name);
}

static void make_node(struct node *n, const char *name, unsigned silence_ms) {
    static const struct serve_events events = {.linked = node_linked,
                                               .left = node_left,
                                               .busy = node_busy,
                                               .python = node_python,
                                               .unable = node_unable,
                                               .log = on_log};
    static const struct hub_events hub_events = {.greeted = node_greeted, .failed = node_failed};
    static const struct redial_events redial_events = {.connected = node_connected, .failed = node_dial_failed};
    const char *worker = getenv("PPFS_WORKER");
    struct hub_config hub = {.side = TLS_NODE, .silence_ms = silence_ms};

    n->name = name;
    n->cpus = n->cpus ? n->cpus : SLOTS;
    struct serve_config serve = {.name = name, .dir = n->dir ? n->dir : dir, .cpus = n->cpus};
    struct pool_config pool = {.worker_path = worker ? worker : "./ppfs-worker", .workers = n->cpus};
    struct runner runner;
    n->tls = make_tls(TLS_NODE, KEY_A);
    assert_int_equal(hub_create(&n->hub, base, &hub, &hub_events, n), 0);
    assert_int_equal(serve_create(&n->serve, base, &serve, &events, n), 0);
    assert_int_equal(pool_create(&n->pool, base, &pool, &serve_runner_events, n->serve), 0);
    pool_runner(n->pool, &runner);
    serve_set_runner(n->serve, runner);
    assert_int_equal(
        redial_create(&n->redial, base, n->tls, fix.via ? fix.via : fleet_address(fix.fleet), &redial_events, n), 0);
    redial_now(n->redial);
}

static void end_node(struct node *n) {
    redial_destroy(n->redial);
    serve_destroy(n->serve);
    pool_destroy(n->pool);
    hub_destroy(n->hub);
    tls_destroy(n->tls);
    *n = (struct node){0};
}

static bool is_up(void *arg) {
    unsigned i = *(unsigned *)arg;
    return fix.far[i] && far_python(fix.far[i])[0];
}

static void wait_up(unsigned i) {
    turn_until(is_up, &i);
}

static int setup(void **state) {
    (void)state;
    unsetenv("VIRTUAL_ENV");
    memset(&fix, 0, sizeof(fix));
    setenv("TMPDIR", dir, 1);
    make_fleet(0);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    fleet_destroy(fix.fleet);
    for (int i = 0; i < 2; i++)
        end_node(&fix.node[i]);
    unsetenv("TMPDIR");
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* no process was left */
    assert_int_equal(errno, ECHILD);
    return 0;
}

static void one_node(void) {
    make_node(&fix.node[0], "n1", 0);
    wait_up(0);
}

/* --- work ---------------------------------------------------------------------------------------------------------- */
static struct work work_of(uint64_t id, enum work_kind kind, const char *text) {
    return (struct work){.job = id,
                         .kind = kind,
                         .attempt = 3,
                         .name = "job",
                         .node = "n1",
                         .cwd = "",
                         .uid = geteuid(),
                         .gid = getegid(),
                         .payload = text,
                         .payload_size = (uint32_t)strlen(text)};
}

static void begin(uint64_t id, enum work_kind kind, const char *text) {
    struct work w = work_of(id, kind, text);
    assert_int_equal(runner_start(fix.runner, &w), 0);
}

static void begin_file(uint64_t id, enum work_kind kind, const char *file) {
    struct work w = work_of(id, kind, "");
    w.file = file;
    assert_int_equal(runner_start(fix.runner, &w), 0);
}

static bool is_done(void *arg) {
    return ((struct job *)arg)->done;
}

static struct job *ended(uint64_t id) {
    turn_until(is_done, &fix.jobs[id]);
    return &fix.jobs[id];
}

static void assert_end(const struct job *j, enum work_end end, const char *part) {
    if (j->outcome.end != end || (part && !strstr(j->outcome.why, part)))
        fail_msg("end %d, not %d: %s", j->outcome.end, end, j->outcome.why);
    assert_int_equal(j->outcome.attempt, 3);
}

static bool has_output(void *arg) {
    return ((struct job *)arg)->size[POOL_STDOUT] > 0;
}

static bool flag(void *arg) {
    return *(bool *)arg;
}

static bool is_gone(void *arg) {
    return fix.gone[*(unsigned *)arg][0];
}

static const char sleeper[] = "import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(600)\n";

/* --- tests -------------------------------------------------------------------------------------------------------- */
static void a_node_tells_about_itself(void **state) {
    (void)state;
    one_node();
    assert_string_equal(far_name(fix.far[0]), "n1");
    assert_int_equal(far_cpus(fix.far[0]), SLOTS);
    assert_int_equal(strncmp(far_python(fix.far[0]), "3.", 2), 0);
    assert_true(far_linked(fix.far[0]));
    assert_false(far_draining(fix.far[0]));
    assert_null(far_dialled(fix.far[0]));
    assert_int_equal(strncmp(far_address(fix.far[0]), "127.0.0.1:", 10), 0);
    serve_drain(fix.node[0].serve);
    unsigned before = fix.changes;
    while (fix.changes == before)
        event_base_loop(base, EVLOOP_ONCE);
    assert_true(far_draining(fix.far[0]));
}

static void scripts_run_there(void **state) {
    (void)state;
    one_node();
    begin(1, WORK_PYTHON,
          "import os, sys\nprint(6 * 7, os.environ['PPFS_ATTEMPT'], os.environ['PPFS_NODE'])\nprint('e', "
          "file=sys.stderr)\n");
    assert_end(ended(1), WORK_DONE, NULL);
    assert_string_equal(fix.jobs[1].text[POOL_STDOUT], "42 3 n1\n");
    assert_string_equal(fix.jobs[1].text[POOL_STDERR], "e\n");
    begin(1, WORK_PYTHON, "raise SystemExit(7)");
    fix.jobs[1] = (struct job){0};
    assert_end(ended(1), WORK_EXITED, NULL);
    assert_int_equal(fix.jobs[1].outcome.status, 7);
    begin(2, WORK_JSON_CALL, "{\"call\": \"math.sqrt\", \"args\": [16]}");
    assert_end(ended(2), WORK_DONE, NULL);
    assert_string_equal(fix.jobs[2].text[POOL_RESULT], "4.0\n");
    begin(3, WORK_PROGRAM, "#!/bin/sh\nkill -9 $$\n");
    assert_end(ended(3), WORK_SIGNALED, NULL);
}

static void more_than_slots_wait_there(void **state) {
    (void)state;
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
    (void)state;
    one_node();
    begin_file(1, WORK_PYTHON, write_file("big", "import sys\nprint(42)\n#", 20 << 20));
    begin_file(2, WORK_PROGRAM, write_file("sh", "#!/bin/sh\nwc -c <$0\nexit\n", 3 << 20));
    begin_file(3, WORK_PYTHON, write_file("empty", "", 0));
    begin(4, WORK_JSON_CALL, "{\"call\": \"math.sqrt\", \"args\": [16]}");
    assert_end(ended(4), WORK_DONE, NULL);
    assert_false(fix.jobs[1].done); /* the small one did not wait for all of the large one */
    assert_end(ended(1), WORK_DONE, NULL);
    assert_string_equal(fix.jobs[1].text[POOL_STDOUT], "42\n");
    assert_end(ended(2), WORK_DONE, NULL);
    assert_int_equal(atoi(fix.jobs[2].text[POOL_STDOUT]), 3 << 20);
    assert_end(ended(3), WORK_DONE, NULL);
}

static void a_payload_that_cannot_be_read_is_refused(void **state) {
    (void)state;
    one_node();
    begin_file(1, WORK_PYTHON, "/nonexistent/payload");
    assert_end(ended(1), WORK_REFUSED, "could not be read");
    begin_file(2, WORK_PYTHON, "/"); /* opens, but reading it fails */
    assert_end(ended(2), WORK_REFUSED, "could not be read");
}

static void a_node_without_room_gives_the_work_back(void **state) {
    (void)state;
    fix.node[0].dir = "/nonexistent";
    one_node();
    begin_file(1, WORK_PYTHON, write_file("big", "print(1)\n#", 1 << 20));
    assert_end(ended(1), WORK_LOST, "node n1 cannot keep its bytes in /nonexistent: No such file");
    begin(2, WORK_PYTHON, "print(1)");
    assert_end(ended(2), WORK_DONE, NULL);
}

static void a_disk_that_fills_up_gives_the_work_back(void **state) {
    struct rlimit before, little = {.rlim_cur = 1 << 20};

    (void)state;
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
    (void)state;
    one_node();
    begin(1, WORK_PYTHON, "import sys\nfor i in range(300): sys.stdout.write(chr(65 + i % 26) * 100000)\n");
    begin(2, WORK_JSON_CALL, "{\"call\": \"operator.mul\", \"args\": [\"a\", 9000000]}");
    assert_end(ended(1), WORK_DONE, NULL);
    assert_int_equal(fix.jobs[1].size[POOL_STDOUT], 30000000);
    uint32_t sum = 0;
    for (int i = 0; i < 300; i++)
        sum += (uint32_t)(65 + i % 26) * 100000;
    assert_int_equal(fix.jobs[1].sum, sum);
    assert_end(ended(2), WORK_DONE, NULL);
    assert_int_equal(fix.jobs[2].size[POOL_RESULT], 9000003);
}

static void a_hold_stops_the_output(void **state) {
    (void)state;
    one_node();
    begin(1, WORK_PROGRAM, "#!/bin/sh\nexec yes\n");
    turn_until(has_output, &fix.jobs[1]);
    runner_hold(fix.runner, 1, true);
    size_t before;
    double quiet = now_s(); /* what is on the way still comes */
    for (before = 0; now_s() - quiet < 1;) {
        if (before != fix.jobs[1].size[POOL_STDOUT])
            quiet = now_s();
        before = fix.jobs[1].size[POOL_STDOUT];
        struct timeval pause = {.tv_usec = 50000};
        event_base_loopexit(base, &pause);
        event_base_dispatch(base);
    }
    runner_hold(fix.runner, 1, false);
    while (fix.jobs[1].size[POOL_STDOUT] == before)
        event_base_loop(base, EVLOOP_ONCE);
    runner_kill(fix.runner, 1);
    assert_end(ended(1), WORK_SIGNALED, "killed");
}

static void an_endless_output_holds_up_nobody(void **state) {
    (void)state;
    one_node();
    begin(1, WORK_PROGRAM, "#!/bin/sh\nexec cat /dev/zero\n");
    while (fix.jobs[1].size[POOL_STDOUT] < 50 << 20) /* as much as the session takes is on the way */
        event_base_loop(base, EVLOOP_ONCE);
    for (uint64_t i = 2; i < 12; i++) {
        begin(i, WORK_JSON_CALL, "{\"call\": \"operator.mul\", \"args\": [\"a\", 1000]}");
        assert_end(ended(i), WORK_DONE, NULL);
        assert_int_equal(fix.jobs[i].size[POOL_RESULT], 1003);
    }
    assert_false(fix.jobs[1].done);
    runner_kill(fix.runner, 1);
    assert_end(ended(1), WORK_SIGNALED, "killed");
}

static void kill_ends_what_runs_and_what_waits(void **state) {
    (void)state;
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
    assert_int_equal(kill(atoi(fix.jobs[1].text[POOL_STDOUT]), 0), -1);
    begin(5, WORK_PYTHON, "print(1)");
    assert_end(ended(5), WORK_DONE, NULL);
}

static void slots_change(void **state) {
    (void)state;
    one_node();
    runner_resize(fix.runner, 1);
    while (far_cpus(fix.far[0]) != 1)
        event_base_loop(base, EVLOOP_ONCE);
    begin(1, WORK_PYTHON, sleeper);
    begin(2, WORK_PYTHON, "print(2)");
    turn_until(has_output, &fix.jobs[1]);
    runner_resize(fix.runner, 2);
    assert_end(ended(2), WORK_DONE, NULL);
    assert_false(fix.jobs[1].done);
}

/* --- leases ------------------------------------------------------------------------------------------------------- */
static void json(uint32_t number, const char *format, unsigned a) {
    char text[256];

    snprintf(text, sizeof(text), format, a);
    assert_int_equal(runner_call(fix.runner, 1, number, CALL_JSON, text, strlen(text)), 0);
}

static void finish_lease(uint64_t id) {
    assert_int_equal(runner_finish(fix.runner, id), 0);
    assert_end(ended(id), WORK_DONE, NULL);
}

static bool some_answers(void *arg) {
    return fix.answers >= *(uint32_t *)arg;
}

static void calls_travel_ahead(void **state) {
    (void)state;
    one_node();
    begin(1, WORK_STREAM_JSON, "");
    for (uint32_t i = 1; i <= 2500; i++) /* more than a worker takes */
        json(i, "{\"call\": \"operator.add\", \"args\": [%u, 1]}", i);
    runner_flush(fix.runner);
    assert_int_equal(runner_call(fix.runner, 1, 2500, CALL_JSON, "", 0), -EINVAL);
    assert_int_equal(runner_call(fix.runner, 2, 1, CALL_JSON, "", 0), -ENOENT);
    finish_lease(1);
    assert_int_equal(runner_call(fix.runner, 1, 2501, CALL_JSON, "", 0), -ENOENT);
    assert_int_equal(fix.answers, 2500);
    for (uint32_t i = 1; i <= 2500; i++)
        assert_int_equal(atoi(fix.calls[i].text), i + 1);
}

static void a_lease_can_wait_for_its_slot(void **state) {
    (void)state;
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
    (void)state;
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
    assert_int_equal(runner_call(fix.runner, id, number, CALL_HASH, bytes, 32 + pickle_args(bytes + 32, size)), 0);
    free(bytes);
}

static const char pickled_len[] = "\x80\x03"
                                  "cbuiltins\nlen\n.";

static void functions_cross_once(void **state) {
    (void)state;
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

/* The first lease asks for the function and dies before it comes: the second one asks again. */
static void a_function_is_asked_for_again(void **state) {
    (void)state;
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

    (void)state;
    one_node();
    assert_non_null(text);
    memset(text, ' ', size);
    memcpy(text, "{\"call\": \"math.sqrt\", \"args\": [4]}", 34);
    begin(1, WORK_STREAM_JSON, "");
    int err;
    while (!(err = runner_call(fix.runner, 1, n, CALL_JSON, text, size)))
        n++;
    assert_int_equal(err, -ENOMEM);
    assert_in_range(n, 5, 20);
    turn_until(flag, &fix.room);
    assert_int_equal(runner_call(fix.runner, 1, n, CALL_JSON, text, size), 0);
    finish_lease(1);
    assert_int_equal(fix.answers, n);
    free(text);
}

/* --- ends --------------------------------------------------------------------------------------------------------- */
static void a_node_that_dies_loses_its_work(void **state) {
    unsigned first = 0;

    (void)state;
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

static bool is_idle(void *arg) {
    struct node *n = arg;
    return n->left && serve_works(n->serve) == 0;
}

static void a_ppfs_that_dies_has_its_work_killed(void **state) {
    (void)state;
    one_node();
    begin(1, WORK_PYTHON, sleeper);
    begin(2, WORK_PYTHON, sleeper);
    begin(3, WORK_PYTHON, sleeper);
    turn_until(has_output, &fix.jobs[1]);
    fleet_destroy(fix.fleet);
    fix.fleet = NULL;
    turn_until(is_idle, &fix.node[0]);
    assert_false(fix.node[0].for_good);
    assert_int_equal(kill(atoi(fix.jobs[1].text[POOL_STDOUT]), 0), -1);
}

static void a_node_is_let_go(void **state) {
    unsigned first = 0;

    (void)state;
    one_node();
    begin(1, WORK_PYTHON, sleeper);
    turn_until(has_output, &fix.jobs[1]);
    fleet_let_go(fix.fleet, fix.far[0]);
    turn_until(is_gone, &first);
    assert_true(fix.jobs[1].done);
    turn_until(flag, &fix.node[0].left);
    assert_true(fix.node[0].for_good);
}

static void a_node_says_goodbye(void **state) {
    unsigned first = 0;

    (void)state;
    one_node();
    serve_goodbye(fix.node[0].serve);
    turn_until(is_gone, &first);
    assert_string_equal(fix.gone[0], "it has left");
    turn_until(flag, &fix.node[0].left);
    assert_false(fix.node[0].for_good);
}

/* --- cuts --------------------------------------------------------------------------------------------------------- */
enum { PAIRS = 16 };
static struct relay {
    struct evconnlistener *listener;
    struct bufferevent *ends[PAIRS][2]; /* the node's, the fleet's */
    char address[64];
    size_t passed;
    bool closed;
} relay;

static void pass_on(struct bufferevent *from, void *arg) {
    struct bufferevent **pair = arg;
    struct evbuffer *in = bufferevent_get_input(from);

    relay.passed += evbuffer_get_length(in);
    bufferevent_write_buffer(pair[from == pair[0]], in);
}

static void cut_pair(struct bufferevent **pair) {
    for (int i = 0; i < 2; i++)
        if (pair[i])
            bufferevent_free(pair[i]);
    pair[0] = pair[1] = NULL;
}

static void on_relay_event(struct bufferevent *end, short what, void *arg) {
    (void)end;
    if (what & (BEV_EVENT_EOF | BEV_EVENT_ERROR))
        cut_pair(arg);
}

static void on_relay_accept(struct evconnlistener *l, evutil_socket_t fd, struct sockaddr *from, int size, void *arg) {
    int i = 0;

    (void)l, (void)from, (void)size, (void)arg;
    while (i < PAIRS && relay.ends[i][0])
        i++;
    if (relay.closed || i == PAIRS) {
        close(fd);
        return;
    }
    int other = connect_to(fleet_address(fix.fleet));
    evutil_make_socket_nonblocking(other);
    for (int end = 0; end < 2; end++) {
        relay.ends[i][end] = bufferevent_socket_new(base, end ? other : fd, BEV_OPT_CLOSE_ON_FREE);
        bufferevent_setcb(relay.ends[i][end], pass_on, NULL, on_relay_event, relay.ends[i]);
        bufferevent_enable(relay.ends[i][end], EV_READ | EV_WRITE);
    }
}

static void relay_open(void) {
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t size = sizeof(at);

    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    relay.listener = evconnlistener_new_bind(base, on_relay_accept, NULL, LEV_OPT_CLOSE_ON_FREE, 16,
                                             (struct sockaddr *)&at, sizeof(at));
    assert_non_null(relay.listener);
    int little = 64 * 1024; /* inherited: the relay itself holds little */
    setsockopt(evconnlistener_get_fd(relay.listener), SOL_SOCKET, SO_RCVBUF, &little, sizeof(little));
    getsockname(evconnlistener_get_fd(relay.listener), (struct sockaddr *)&at, &size);
    snprintf(relay.address, sizeof(relay.address), "127.0.0.1:%d", ntohs(at.sin_port));
    fix.via = relay.address;
}

static void cut(void) {
    for (int i = 0; i < PAIRS; i++)
        cut_pair(relay.ends[i]);
}

/* Connections stand, but nothing gets through. */
static void muffle(void) {
    for (int i = 0; i < PAIRS; i++)
        for (int end = 0; end < 2; end++)
            if (relay.ends[i][end])
                bufferevent_disable(relay.ends[i][end], EV_READ | EV_WRITE);
}

static int setup_relay(void **state) {
    setup(state);
    fleet_destroy(fix.fleet);
    make_fleet(1000);
    memset(&relay, 0, sizeof(relay));
    relay_open();
    make_node(&fix.node[0], "n1", 1000);
    wait_up(0);
    return 0;
}

static int teardown_relay(void **state) {
    cut();
    evconnlistener_free(relay.listener);
    return teardown(state);
}

/* What a small one has before it on a network that takes eight megabytes a second is what is in the network, not what waits. */
static void small_results_pass_large_ones(void **state) {
    struct ev_token_bucket_cfg *slow =
        ev_token_bucket_cfg_new(160 * 1024, 160 * 1024, 160 * 1024, 160 * 1024, &(struct timeval){.tv_usec = 20000});

    (void)state;
    for (int i = 0; i < PAIRS; i++)
        if (relay.ends[i][0])
            bufferevent_set_rate_limit(relay.ends[i][0], slow); /* what the node sends */
    begin(1, WORK_PROGRAM, "#!/bin/sh\nexec cat /dev/zero\n");
    while (fix.jobs[1].size[POOL_STDOUT] < 16 << 20) /* as much as there can be waits */
        event_base_loop(base, EVLOOP_ONCE);
    for (uint64_t i = 2; i < 6; i++) {
        size_t before = fix.jobs[1].size[POOL_STDOUT];
        begin(i, WORK_JSON_CALL, "{\"call\": \"math.sqrt\", \"args\": [16]}");
        assert_end(ended(i), WORK_DONE, NULL);
        assert_in_range(fix.jobs[1].size[POOL_STDOUT] - before, 0, 5 << 19);
    }
    runner_kill(fix.runner, 1);
    assert_end(ended(1), WORK_SIGNALED, "killed");
    cut();
    ev_token_bucket_cfg_free(slow);
}

static bool moved(void *arg) {
    return relay.passed > *(size_t *)arg;
}

static void cuts_lose_and_double_nothing(void **state) {
    unsigned cuts = 0;

    (void)state;
    begin(1, WORK_STREAM_JSON, "");
    begin(2, WORK_PYTHON, "import sys\nfor i in range(200): sys.stdout.write(chr(65 + i % 26) * 100000)\n");
    for (uint32_t i = 1; i <= 2000; i++)
        json(i, "{\"call\": \"operator.add\", \"args\": [%u, 1]}", i);
    assert_int_equal(runner_finish(fix.runner, 1), 0);
    while (!fix.jobs[1].done || !fix.jobs[2].done) {
        size_t far_enough = relay.passed + 500000;
        while (relay.passed < far_enough && !(fix.jobs[1].done && fix.jobs[2].done))
            event_base_loop(base, EVLOOP_ONCE);
        if (fix.jobs[1].done && fix.jobs[2].done)
            break;
        cut();
        cuts++;
        far_enough = relay.passed;
        turn_until(moved, &far_enough);
    }
    assert_in_range(cuts, 10, 1000);
    assert_int_equal(fix.answers, 2000);
    for (uint32_t i = 1; i <= 2000; i++)
        assert_int_equal(atoi(fix.calls[i].text), i + 1);
    assert_end(&fix.jobs[1], WORK_DONE, NULL);
    assert_end(&fix.jobs[2], WORK_DONE, NULL);
    assert_int_equal(fix.jobs[2].size[POOL_STDOUT], 20000000);
    uint32_t sum = 0;
    for (int i = 0; i < 200; i++)
        sum += (uint32_t)(65 + i % 26) * 100000;
    assert_int_equal(fix.jobs[2].sum, sum);
    assert_int_equal(fix.node[0].guests, 1);
}

static bool both_have_lost(void *arg) {
    (void)arg;
    return fix.jobs[1].done && fix.gone[0][0] && is_idle(&fix.node[0]);
}

/* Neither side hears the other: each gives the other up by itself. */
static void silence_loses_the_work_and_kills_it(void **state) {
    (void)state;
    begin(1, WORK_PYTHON, sleeper);
    turn_until(has_output, &fix.jobs[1]);
    relay.closed = true;
    muffle();
    turn_until(both_have_lost, NULL);
    assert_end(&fix.jobs[1], WORK_LOST, "node n1 was lost");
    assert_int_equal(kill(atoi(fix.jobs[1].text[POOL_STDOUT]), 0), -1);
    fix.up = 0;
    fix.far[0] = NULL;
    relay.closed = false;
    cut();
    wait_up(0); /* it comes back, as a new one */
    begin(3, WORK_PYTHON, "print(3)");
    assert_end(ended(3), WORK_DONE, NULL);
}

/* The same ppfs, started again, has nothing of what its predecessor began. */
static void a_successor_ends_what_its_predecessor_runs(void **state) {
    static const struct fleet_events events = {.up = on_up, .changed = on_changed, .gone = on_gone, .log = on_log};
    char id[160];
    struct fleet *fleets[2];

    (void)state;
    snprintf(id, sizeof(id), "%s/id", dir);
    struct fleet_config config = {
        .key_file = key_file("key", KEY_A, 0600), .listen = "127.0.0.1:0", .id_file = id, .runner = &runner_events};
    for (int i = 0; i < 2; i++)
        if (fleet_create(&fleets[i], base, &config, &events, NULL, why, sizeof(why)))
            fail_msg("%s", why);
    fleet_destroy(fix.fleet);
    fix.fleet = fleets[0];
    memset(&relay, 0, sizeof(relay));
    relay_open();
    one_node();
    begin(1, WORK_PYTHON, sleeper);
    turn_until(has_output, &fix.jobs[1]);
    relay.closed = true; /* as if the first had been killed: its connection ends, but not the lease */
    cut();
    redial_destroy(fix.node[0].redial);
    static const struct redial_events redial_events = {.connected = node_connected, .failed = node_dial_failed};
    assert_int_equal(redial_create(&fix.node[0].redial, base, fix.node[0].tls, fleet_address(fleets[1]), &redial_events,
                                   &fix.node[0]),
                     0);
    redial_now(fix.node[0].redial);
    turn_until(flag, &fix.node[0].left);
    assert_non_null(strstr(fix.node_log, "it was started again"));
    while (kill(atoi(fix.jobs[1].text[POOL_STDOUT]), 0) == 0)
        event_base_loop(base, EVLOOP_ONCE);
    wait_up(1);
    far_runner(fix.far[1], &fix.runner);
    begin(2, WORK_PYTHON, "print(2)");
    assert_end(ended(2), WORK_DONE, NULL);
    fleet_destroy(fleets[1]);
    evconnlistener_free(relay.listener);
}

/* --- nonsense ----------------------------------------------------------------------------------------------------- */
static struct rogue {
    struct tls *tls;
    struct hub *hub;
    struct session *session;
    struct peer_dial *dial;
    bool lost;
} rogue;

static void rogue_frame(void *arg, const struct frame *m) {
    (void)arg, (void)m;
}

static void rogue_linked(void *arg, bool up, const char *reason) {
    (void)arg, (void)up, (void)reason;
}

static void rogue_room(void *arg) {
    (void)arg;
}

static void rogue_lost(void *arg, const char *reason) {
    (void)arg, (void)reason;
    session_destroy(rogue.session);
    rogue.session = NULL;
    rogue.lost = true;
}

static void rogue_greeted(void *arg, void *tag, struct session *s, bool fresh) {
    static const struct session_events events = {
        .frame = rogue_frame, .linked = rogue_linked, .room = rogue_room, .lost = rogue_lost};

    (void)arg, (void)tag;
    assert_true(fresh);
    session_watch(s, &events, NULL);
    rogue.session = s;
}

static void rogue_failed(void *arg, void *tag, const char *reason) {
    (void)arg, (void)tag;
    fail_msg("%s", reason);
}

static void rogue_dialled(void *arg, struct tls_conn *conn, const char *reason) {
    (void)arg;
    if (!conn)
        fail_msg("%s", reason);
    assert_int_equal(hub_greet(rogue.hub, conn, "rogue", NULL), 0);
}

static bool rogue_is_there(void *arg) {
    (void)arg;
    return rogue.session;
}

static void rogue_comes(enum tls_side side, const char *address) {
    static const struct hub_events events = {.greeted = rogue_greeted, .failed = rogue_failed};
    struct hub_config config = {.side = side};

    memset(&rogue, 0, sizeof(rogue));
    rogue.tls = make_tls(side, KEY_A);
    assert_int_equal(hub_create(&rogue.hub, base, &config, &events, NULL), 0);
    assert_int_equal(peer_dial(&rogue.dial, base, rogue.tls, address, rogue_dialled, NULL), 0);
    turn_until(rogue_is_there, NULL);
}

static void rogue_goes(void) {
    session_destroy(rogue.session);
    peer_dial_destroy(rogue.dial);
    hub_destroy(rogue.hub);
    tls_destroy(rogue.tls);
}

static void rogue_says(uint8_t kind, uint64_t id, const void *body, uint32_t size) {
    assert_int_equal(session_send(rogue.session, kind, id, body, size), 0);
}

static void rogue_about(void) {
    uint8_t bytes[FAR_ABOUT_MAX];
    struct far_about about = {.cpus = 1, .name = "rogue", .python = "3.11.2"};

    rogue_says(FAR_ABOUT, 0, bytes, far_about_encode(&about, bytes));
}

/* What a node may not say, and whether it has said who it is before. */
static const struct nonsense {
    bool about;
    uint8_t kind;
    uint64_t id;
    const char *body;
    uint32_t size;
} nonsense[] = {
    {false, FAR_DONE, 0, "", 0},
    {false, FAR_ABOUT, 0, "", 0},
    {false, FAR_ABOUT, 0, "\1\0\0\0\1\0\0\0\0\0\0\0../x\0003.11", 22},
    {false, FAR_ABOUT, 0, "\1\0\0\0\1\0\0\0\0\0\0\0name\0003.11", 21}, /* not ended */
    {false, FAR_ABOUT, 0, "\2\0\0\0\1\0\0\0\0\0\0\0name\0003.11", 22},
    {false, FAR_ABOUT, 0, "\1\0\0\0\1\0\1\0\0\0\0\0name\0003.11", 22}, /* 65537 slots */
    {true, FAR_ABOUT, 0, "\1\0\0\0\1\0\0\0\0\0\0\0other\0003.11", 23},
    {true, FAR_DONE, 0, "", 0},
    {true, FAR_DONE, (uint64_t)1 << 32, "", 0}, /* no such work */
    {true, FAR_OUTPUT, UINT64_MAX, "x", 1},
    {true, FAR_OUTPUT, 4, "x", 1},
    {true, FAR_VALUE, 1, "x", 1}, /* work 0 is no lease */
    {true, FAR_RECALLED, 1, "", 0},
    {true, FAR_DONE, 0, "\3\0\0\0\1", 5},
    {true, FAR_START, 0, "", 0},
    {true, 31, 0, "", 0},
    {true, 200, 0, "", 0},
};

static void nonsense_of_a_node_ends_it(void **state) {
    unsigned first = 0;

    (void)state;
    for (size_t i = 0; i < sizeof(nonsense) / sizeof(*nonsense); i++) {
        const struct nonsense *n = &nonsense[i];
        fix.up = 0;
        fix.gone[0][0] = 0;
        fix.jobs[1] = (struct job){0};
        rogue_comes(TLS_NODE, fleet_address(fix.fleet));
        if (n->about) {
            rogue_about();
            wait_up(0);
            begin(1, WORK_PYTHON, "");
        }
        rogue_says(n->kind, n->id, n->body, n->size);
        turn_until(flag, &rogue.lost);
        if (n->about) {
            turn_until(is_gone, &first);
            if (!strstr(fix.gone[0], "makes no sense"))
                fail_msg("%zu: %s", i, fix.gone[0]);
            assert_end(&fix.jobs[1], WORK_LOST, "rogue");
        }
        rogue_goes();
    }
    fix.up = 0;
    one_node(); /* others are none the worse */
    begin(1, WORK_PYTHON, "print(1)");
    fix.jobs[1] = (struct job){0};
    assert_end(ended(1), WORK_DONE, NULL);
}

/* What a ppfs may not say; before it, work 1 is a script that runs and work 2 a lease. */
static const struct nonsense nonsense_to_node[] = {
    {false, 0, 0, "", 0},
    {false, FAR_START, 0, "", 0},
    {false, FAR_START, 0, "\1\0\0\0\5\0\0\0", 8},
    {false, FAR_START, (uint64_t)FAR_REFS << 32, "good", 4},
    {false, FAR_START, (uint64_t)1 << 32, "good", 4},     /* that ref is in use */
    {false, FAR_START, (uint64_t)3 << 32 | 2, "good", 4}, /* neither with nor without a payload */
    {false, FAR_START, (uint64_t)3 << 32 | 1, "good", 4}, /* a payload is to follow, but the work has one */
    {false, FAR_PAYLOAD, (uint64_t)1 << 32, "x", 1},      /* it has no file */
    {false, FAR_PIECE, (uint64_t)1 << 32, "x", 1},        /* it is no lease */
    {false, FAR_CALL_JSON, (uint64_t)1 << 32 | 1, "{}", 2},
    {false, FAR_CALL_JSON, (uint64_t)2 << 32, "{}", 2}, /* number 0 */
    {false, FAR_FINISH, (uint64_t)1 << 32, "", 0},
    {false, FAR_RECALL, (uint64_t)2 << 32, "", 0},
    {false, FAR_FUNCTION, (uint64_t)2 << 32, "short", 5},
    {false, FAR_HOLD, (uint64_t)1 << 32 | 7, "", 0},
    {false, FAR_RESIZE, FAR_CPUS_MAX + 1, "", 0},
    {false, FAR_HELLO, 0, "short", 5},
    {false, FAR_ABOUT, 0, "", 0},
    {false, 255 - 16, 0, "", 0},
};

static void node_accepted(void *arg, struct tls_conn *conn, const char *address) {
    struct node *n = arg;
    assert_int_equal(hub_greet(n->hub, conn, address, NULL), 0);
}

static void rogue_starts(uint32_t ref, enum work_kind kind, const char *text) {
    struct work w = work_of(1, kind, text);
    void *bytes;
    uint32_t size;

    assert_int_equal(work_encode(&w, &bytes, &size), 0);
    rogue_says(FAR_START, far_id(ref, 0), bytes, size);
    free(bytes);
}

static void nonsense_of_a_ppfs_ends_it(void **state) {
    static const struct peer_listener_events events = {.accepted = node_accepted, .refused = on_log};
    struct peer_listener *listener;
    struct work good = work_of(1, WORK_PYTHON, "");
    void *bytes;
    uint32_t size;

    (void)state;
    one_node();
    begin(1, WORK_PYTHON, sleeper); /* of a ppfs that behaves: it stays */
    turn_until(has_output, &fix.jobs[1]);
    fix.stay_away = true; /* it is the rogue that leaves */
    assert_int_equal(
        peer_listen(&listener, base, fix.node[0].tls, "127.0.0.1:0", &events, &fix.node[0], why, sizeof(why)), 0);
    assert_int_equal(work_encode(&good, &bytes, &size), 0);
    for (size_t i = 0; i < sizeof(nonsense_to_node) / sizeof(*nonsense_to_node); i++) {
        const struct nonsense *n = &nonsense_to_node[i];
        fix.node[0].left = false;
        rogue_comes(TLS_PPFS, peer_listener_address(listener));
        rogue_starts(1, WORK_PYTHON, sleeper);
        rogue_starts(2, WORK_STREAM_JSON, "");
        rogue_says(FAR_HOLD, far_id(9, 7), "", 0); /* of one that has ended: no harm */
        bool is_good = n->size == 4 && memcmp(n->body, "good", 4) == 0;
        rogue_says(n->kind, n->id, is_good ? bytes : n->body, is_good ? size : n->size);
        turn_until(flag, &rogue.lost);
        turn_until(flag, &fix.node[0].left);
        while (serve_works(fix.node[0].serve) != 1) /* its work is killed */
            event_base_loop(base, EVLOOP_ONCE);
        rogue_goes();
    }
    free(bytes);
    peer_listener_destroy(listener);
    assert_false(fix.jobs[1].done);
    begin(2, WORK_PYTHON, "print(1)");
    assert_end(ended(2), WORK_DONE, NULL);
}

static void two_nodes_of_one_name(void **state) {
    (void)state;
    one_node();
    make_node(&fix.node[1], "n1", 0);
    wait_up(1);
    assert_string_equal(far_name(fix.far[1]), "n1-2");
    unsigned second = 1;
    end_node(&fix.node[1]);
    turn_until(is_gone, &second);
    fix.up = 1;
    fix.gone[1][0] = 0;
    make_node(&fix.node[1], "local", 0);
    wait_up(1);
    assert_string_equal(far_name(fix.far[1]), "local-2");
}

#define FAR_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        FAR_TEST(a_node_tells_about_itself),
        FAR_TEST(scripts_run_there),
        FAR_TEST(more_than_slots_wait_there),
        FAR_TEST(large_payloads_come_in_pieces),
        FAR_TEST(a_payload_that_cannot_be_read_is_refused),
        FAR_TEST(a_node_without_room_gives_the_work_back),
        FAR_TEST(a_disk_that_fills_up_gives_the_work_back),
        FAR_TEST(large_results_come_whole),
        FAR_TEST(a_hold_stops_the_output),
        FAR_TEST(an_endless_output_holds_up_nobody),
        FAR_TEST(kill_ends_what_runs_and_what_waits),
        FAR_TEST(slots_change),
        FAR_TEST(calls_travel_ahead),
        FAR_TEST(a_lease_can_wait_for_its_slot),
        FAR_TEST(calls_are_taken_back),
        FAR_TEST(functions_cross_once),
        FAR_TEST(a_function_is_asked_for_again),
        FAR_TEST(too_much_on_the_way_is_refused_until_there_is_room),
        FAR_TEST(a_node_that_dies_loses_its_work),
        FAR_TEST(a_ppfs_that_dies_has_its_work_killed),
        FAR_TEST(a_node_is_let_go),
        FAR_TEST(a_node_says_goodbye),
        FAR_TEST(two_nodes_of_one_name),
        cmocka_unit_test_setup_teardown(small_results_pass_large_ones, setup_relay, teardown_relay),
        cmocka_unit_test_setup_teardown(cuts_lose_and_double_nothing, setup_relay, teardown_relay),
        cmocka_unit_test_setup_teardown(silence_loses_the_work_and_kills_it, setup_relay, teardown_relay),
        FAR_TEST(a_successor_ends_what_its_predecessor_runs),
        FAR_TEST(nonsense_of_a_node_ends_it),
        FAR_TEST(nonsense_of_a_ppfs_ends_it),
    };

    return cmocka_run_group_tests(tests, rig_setup, rig_teardown);
}
