
#include "tests/unit/noderig.h"

struct fixture fix;

static void on_output(void *arg, uint64_t id, enum output_kind stream, const void *bytes, size_t size) {
    struct job *j = &fix.jobs[id];

    assert_in_range(id, 1, JOBS - 1);
    assert_false(j->done);
    for (size_t i = 0; i < size; i++)
        j->sum += ((const uint8_t *)bytes)[i];
    for (size_t i = 0; i < size && j->size[stream] + i < KEEP - 1; i++)
        j->text[stream][j->size[stream] + i] = ((const char *)bytes)[i];
    j->size[stream] += size;
}

static void on_done(void *arg, uint64_t id, const struct work_outcome *o) {
    assert_in_range(id, 1, JOBS - 1);
    assert_false(fix.jobs[id].done);
    fix.jobs[id].done = true;
    fix.jobs[id].outcome = *o;
    fix.jobs[id].order = fix.done_count++;
}

static void on_answer(void *arg, uint64_t lease, uint32_t number, enum answer_kind kind, const void *bytes,
                      size_t size) {
    struct call *c = &fix.calls[number];

    assert_in_range(number, 1, CALLS - 1);
    assert_false(c->answered || fix.jobs[lease].done);
    if (kind == ANSWER_NEED && size) {
        fix.needs++;
        runner_function(fix.runner, lease, bytes, fix.function, fix.function_size, NULL);
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
    fix.recalled = number;
    fix.recalls++;
}

static void on_room(void *arg) {
    fix.room = true;
}

static void on_trouble(void *arg, const char *sentence) {
    snprintf(fix.trouble, sizeof(fix.trouble), "%s", sentence);
}

const struct runner_events runner_events = {.output = on_output,
                                            .done = on_done,
                                            .answer = on_answer,
                                            .trouble = on_trouble,
                                            .recalled = on_recalled,
                                            .room = on_room};

void *on_up(void *arg, struct remote *remote) {
    assert_in_range(fix.up, 0, 1);
    fix.remote[fix.up] = remote;
    if (fix.up == 0)
        remote_runner(remote, &fix.runner);
    return &fix.remote[fix.up++];
}

void on_changed(void *node, struct remote *remote) {
    assert_ptr_equal(*(struct remote **)node, remote);
    fix.changes++;
}

void on_gone(void *node, struct remote *remote, const char *reason) {
    int i = (struct remote **)node == &fix.remote[1];

    assert_ptr_equal(fix.remote[i], remote);
    fix.remote[i] = NULL;
    snprintf(fix.gone[i], sizeof(fix.gone[i]), "%s", reason);
}

void on_log(void *arg, const char *sentence) {
    if (arg && strstr(sentence, "has gone"))
        snprintf(fix.node_log, sizeof(fix.node_log), "%s", sentence);
    print_message("%s%s\n", arg ? "node: " : "", sentence);
}

void let_nodes_in(struct registry *f) {
    struct registry_key join;
    bool found;
    assert_int_equal(registry_first_key(f, "/nonexistent", &join, &found), 0);
    assert_int_equal(registry_set_keys(f, &join, 1), 0);
}

void make_registry(unsigned silence_ms) {
    static const struct registry_events events = {.up = on_up, .changed = on_changed, .gone = on_gone, .log = on_log};
    struct registry_config config = {.key_file = key_file("key", KEY_A, 0600),
                                     .listen = "127.0.0.1:0",
                                     .silence_ms = silence_ms,
                                     .runner = &runner_events};

    if (registry_create(&fix.registry, base, &config, &events, NULL, why, sizeof(why)))
        fail_msg("%s", why);
    let_nodes_in(fix.registry);
}

static void node_greeted(void *arg, void *tag, struct session *s, bool fresh) {
    struct node *n = arg;

    if (fresh)
        assert_int_not_equal(agent_client(n->agent, s), 0);
    n->clients += fresh;
}

static void node_failed(void *arg, void *tag, const char *reason) {
    struct node *n = arg;

    print_message("%s: %s\n", n->name, reason);
    redial_later(n->redial);
}

void node_connected(void *arg, struct tls_conn *conn) {
    struct node *n = arg;
    assert_int_equal(hub_greet(n->hub, conn, redial_address(n->redial), NULL), 0);
}

void node_dial_failed(void *arg, const char *reason) {
    print_message("%s\n", reason);
}

static void node_linked(void *arg, uint64_t client, bool up) {
    struct node *n = arg;

    n->links += up;
    if (!up)
        redial_now(n->redial);
}

static void node_left(void *arg, uint64_t client, bool for_good) {
    struct node *n = arg;

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
    agent_set_python(n->agent, pool_python(n->pool));
}

static void node_unable(void *arg) {
    fail_msg("the workers of %s cannot be started", ((struct node *)arg)->name);
}

void make_node(struct node *n, const char *name, unsigned silence_ms) {
    static const struct agent_events events = {.linked = node_linked,
                                               .left = node_left,
                                               .busy = node_busy,
                                               .python = node_python,
                                               .unable = node_unable,
                                               .log = on_log};
    static const struct hub_events hub_events = {.greeted = node_greeted, .failed = node_failed};
    static const struct redial_events redial_events = {.connected = node_connected, .failed = node_dial_failed};
    const char *worker = getenv("PPFS_WORKER");
    struct hub_config hub = {.side = TLS_NODE, .silence_ms = silence_ms, .node = node_of(KEY_A)};

    n->name = name;
    n->cpus = n->cpus ? n->cpus : SLOTS;
    struct agent_config agent = {.name = name,
                                 .dir = n->dir ? n->dir : dir,
                                 .cpus = n->cpus,
                                 .memory = MEMORY,
                                 .uids = {1, {{0, UINT32_MAX - 2}}}};
    struct pool_config pool = {.worker_path = worker ? worker : "./ppfs-worker", .workers = n->cpus};
    struct runner runner;
    n->tls = make_tls(TLS_NODE, KEY_A);
    assert_int_equal(hub_create(&n->hub, base, &hub, &hub_events, n), 0);
    assert_int_equal(agent_create(&n->agent, base, &agent, &events, n), 0);
    assert_int_equal(pool_create(&n->pool, base, &pool, &agent_runner_events, n->agent), 0);
    pool_runner(n->pool, &runner);
    agent_set_runner(n->agent, runner);
    dials_init(&n->dials);
    assert_int_equal(redial_create(&n->redial, base, n->tls, &n->dials,
                                   fix.via ? fix.via : registry_address(fix.registry), false, &redial_events, n),
                     0);
    redial_now(n->redial);
}

void end_node(struct node *n) {
    redial_destroy(n->redial);
    agent_destroy(n->agent);
    pool_destroy(n->pool);
    hub_destroy(n->hub);
    tls_destroy(n->tls);
    *n = (struct node){0};
}

static bool is_up(void *arg) {
    unsigned i = *(unsigned *)arg;
    return fix.remote[i] && remote_about(fix.remote[i])->python[0];
}

void wait_up(unsigned i) {
    turn_until(is_up, &i);
}

int setup(void **state) {
    unsetenv("VIRTUAL_ENV");
    memset(&fix, 0, sizeof(fix));
    setenv("TMPDIR", dir, 1);
    make_registry(0);
    return 0;
}

int teardown(void **state) {
    registry_destroy(fix.registry);
    for (int i = 0; i < 2; i++)
        end_node(&fix.node[i]);
    unsetenv("TMPDIR");
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* no process was left */
    assert_int_equal(errno, ECHILD);
    return 0;
}

void one_node(void) {
    make_node(&fix.node[0], "n1", 0);
    wait_up(0);
}

struct work work_of(uint64_t id, enum work_kind kind, const char *text) {
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

void begin(uint64_t id, enum work_kind kind, const char *text) {
    struct work w = work_of(id, kind, text);
    assert_int_equal(runner_start(fix.runner, &w), 0);
}

void begin_file(uint64_t id, enum work_kind kind, const char *file) {
    struct work w = work_of(id, kind, "");
    w.file = file;
    assert_int_equal(runner_start(fix.runner, &w), 0);
}

static bool is_done(void *arg) {
    return ((struct job *)arg)->done;
}

struct job *ended(uint64_t id) {
    turn_until(is_done, &fix.jobs[id]);
    return &fix.jobs[id];
}

void assert_end(const struct job *j, enum work_end end, const char *part) {
    if (j->outcome.end != end || (part && !strstr(j->outcome.why, part)))
        fail_msg("end %d, not %d: %s", j->outcome.end, end, j->outcome.why);
    assert_int_equal(j->outcome.attempt, 3);
}

bool has_output(void *arg) {
    return ((struct job *)arg)->size[OUTPUT_STDOUT] > 0;
}

bool flag(void *arg) {
    return *(bool *)arg;
}

bool is_gone(void *arg) {
    return fix.gone[*(unsigned *)arg][0];
}

const char sleeper[] = "import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(600)\n";

void json(uint32_t number, const char *format, unsigned a) {
    char text[256];

    snprintf(text, sizeof(text), format, a);
    assert_int_equal(runner_call(fix.runner, 1, number, CALL_JSON, text, strlen(text), NULL), 0);
}
