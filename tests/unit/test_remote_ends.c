/* How it ends with a node: death, leaving, cuts, silence, and nonsense of either side. */
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/listener.h>

#include "tests/unit/noderig.h"
#include "worker/remote/remote_internal.h"

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
enum { PAIRS = 16 };
static struct relay {
    struct evconnlistener *listener;
    struct bufferevent *ends[PAIRS][2]; /* the node's, the registry's */
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
    if (what & (BEV_EVENT_EOF | BEV_EVENT_ERROR))
        cut_pair(arg);
}

static void on_relay_accept(struct evconnlistener *l, evutil_socket_t fd, struct sockaddr *from, int size, void *arg) {
    int i = 0;

    while (i < PAIRS && relay.ends[i][0])
        i++;
    if (relay.closed || i == PAIRS) {
        close(fd);
        return;
    }
    int other = connect_to(registry_address(fix.registry));
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
    registry_destroy(fix.registry);
    make_registry(1000);
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

/* What a small one has before it on a network that takes eight megabytes a second is what is in the network, not what
 * waits. */
static void small_results_pass_large_ones(void **state) {
    struct ev_token_bucket_cfg *slow =
        ev_token_bucket_cfg_new(160 * 1024, 160 * 1024, 160 * 1024, 160 * 1024, &(struct timeval){.tv_usec = 20000});

    for (int i = 0; i < PAIRS; i++)
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
    cut();
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
        cut();
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
    muffle();
    turn_until(both_have_lost, NULL);
    assert_end(&fix.jobs[1], WORK_LOST, "node n1 was lost");
    assert_int_equal(kill(atoi(fix.jobs[1].text[OUTPUT_STDOUT]), 0), -1);
    fix.up = 0;
    fix.remote[0] = NULL;
    relay.closed = false;
    cut();
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
    memset(&relay, 0, sizeof(relay));
    relay_open();
    one_node();
    begin(1, WORK_PYTHON, sleeper);
    turn_until(has_output, &fix.jobs[1]);
    relay.closed = true; /* as if the first had been killed: its connection ends, but not the lease */
    cut();
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
    evconnlistener_free(relay.listener);
}

/* --- nonsense ----------------------------------------------------------------------------------------------------- */
static struct rogue {
    struct tls *tls;
    struct hub *hub;
    struct session *session;
    struct peer_dial *dial;
    bool lost;
    unsigned starts, pieces; /* START and PAYLOAD frames that it was sent */
} rogue;

static void rogue_frame(void *arg, const struct frame *m) {
    rogue.starts += m->kind == MESSAGE_START;
    rogue.pieces += m->kind == MESSAGE_PAYLOAD;
}

static void rogue_linked(void *arg, bool up, const char *reason) {
}

static void rogue_room(void *arg) {
}

static void rogue_lost(void *arg, const char *reason) {
    session_destroy(rogue.session);
    rogue.session = NULL;
    rogue.lost = true;
}

static void rogue_greeted(void *arg, void *tag, struct session *s, bool fresh) {
    static const struct session_events events = {
        .frame = rogue_frame, .linked = rogue_linked, .room = rogue_room, .lost = rogue_lost};

    assert_true(fresh);
    session_watch(s, &events, NULL);
    rogue.session = s;
}

static void rogue_failed(void *arg, void *tag, const char *reason) {
    fail_msg("%s", reason);
}

static void rogue_dialled(void *arg, struct tls_conn *conn, const char *reason) {
    if (!conn)
        fail_msg("%s", reason);
    assert_int_equal(hub_greet(rogue.hub, conn, "rogue", NULL), 0);
}

static bool rogue_is_there(void *arg) {
    return rogue.session;
}

static void rogue_comes(enum tls_side side, const char *address) {
    static const struct hub_events events = {.greeted = rogue_greeted, .failed = rogue_failed};
    struct hub_config config = {.side = side, .mount = mount_of(KEY_A), .node = node_of(KEY_A)};

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

static void rogue_about_as(const char *name) {
    uint8_t bytes[NODE_ABOUT_MAX];
    struct node_about about = {.cpus = 1, .python = "3.11.2"};

    snprintf(about.name, sizeof(about.name), "%s", name);

    rogue_says(MESSAGE_ABOUT, 0, bytes, node_about_encode(&about, bytes));
}

static void rogue_about(void) {
    rogue_about_as("rogue");
}

/* What a node may not say, and whether it has said who it is before. */
static const struct nonsense {
    bool about;
    uint8_t kind;
    uint64_t id;
    const char *body;
    uint32_t size;
} nonsense[] = {
    {false, MESSAGE_DONE, 0, "", 0},
    {false, MESSAGE_ABOUT, 0, "", 0},
    {false, MESSAGE_ABOUT, 0, "\2\0\0\0\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1../x\0003.11", 30},
    {false, MESSAGE_ABOUT, 0, "\2\0\0\0\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1name\0003.11", 29}, /* not ended */
    {false, MESSAGE_ABOUT, 0, "\2\0\0\0\1\0\0\0\0\0\0\0\1\1\1\1", 16},                     /* cut in its memory */
    {false, MESSAGE_ABOUT, 0, "\1\0\0\0\1\0\0\0\0\0\0\0name\0003.11", 22},                 /* of version 1 */
    {false, MESSAGE_ABOUT, 0, "\3\0\0\0\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1name\0003.11", 30},
    {false, MESSAGE_ABOUT, 0, "\2\0\0\0\1\0\1\0\0\0\0\0\0\0\0\0\0\0\0\1name\0003.11", 30}, /* 65537 slots */
    {true, MESSAGE_ABOUT, 0, "\2\0\0\0\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1other\0003.11", 31},
    {true, MESSAGE_DONE, 0, "", 0},
    {true, MESSAGE_DONE, (uint64_t)1 << 32, "", 0}, /* no such work */
    {true, MESSAGE_OUTPUT, UINT64_MAX, "x", 1},
    {true, MESSAGE_OUTPUT, 4, "x", 1},
    {true, MESSAGE_VALUE, 1, "x", 1}, /* work 0 is no lease */
    {true, MESSAGE_RECALLED, 1, "", 0},
    {true, MESSAGE_KEPT, 1, "", 0}, /* work 0 has no payload */
    {true, MESSAGE_DONE, 0, "\3\0\0\0\1", 5},
    {true, MESSAGE_START, 0, "", 0},
    {true, 31, 0, "", 0},
    {true, 200, 0, "", 0},
};

static void nonsense_of_a_node_ends_it(void **state) {
    unsigned first = 0;

    for (size_t i = 0; i < sizeof(nonsense) / sizeof(*nonsense); i++) {
        const struct nonsense *n = &nonsense[i];
        fix.up = 0;
        fix.gone[0][0] = 0;
        fix.jobs[1] = (struct job){0};
        rogue_comes(TLS_NODE, registry_address(fix.registry));
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

static bool has_pieces(void *arg) {
    return rogue.pieces >= *(unsigned *)arg;
}

static bool has_starts(void *arg) {
    return rogue.starts >= *(unsigned *)arg;
}

/* A node whose disk takes nothing is sent so much of a payload and no more, and everything else at once. */
static void a_payload_waits_for_the_disk_of_its_node(void **state) {
    unsigned pieces = PAYLOAD_AHEAD, starts = 2;
    char path[128];

    snprintf(path, sizeof(path), "%s/sparse", dir);
    int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    assert_int_equal(ftruncate(fd, 2 * PAYLOAD_AHEAD * MESSAGE_CHUNK), 0);
    close(fd);
    rogue_comes(TLS_NODE, registry_address(fix.registry));
    rogue_about();
    wait_up(0);
    begin_file(1, WORK_PYTHON, path);
    turn_until(has_pieces, &pieces);
    begin(2, WORK_PYTHON, "");
    turn_until(has_starts, &starts);
    assert_int_equal(rogue.pieces, pieces);
    pieces += 10;
    starts++;
    rogue_says(MESSAGE_KEPT, 10, NULL, 0);
    turn_until(has_pieces, &pieces);
    begin(3, WORK_PYTHON, "");
    turn_until(has_starts, &starts);
    assert_int_equal(rogue.pieces, pieces);
    rogue_goes();
}

/* What a ppfs may not say; before it, work 1 is a script that runs, work 2 a lease, and 4 one of whose call 5 a piece has
 * come. */
static const struct nonsense nonsense_to_node[] = {
    {false, 0, 0, "", 0},
    {false, MESSAGE_START, 0, "", 0},
    {false, MESSAGE_START, 0, "\1\0\0\0\5\0\0\0", 8},
    {false, MESSAGE_START, (uint64_t)MESSAGE_REFS << 32, "good", 4},
    {false, MESSAGE_START, (uint64_t)1 << 32, "good", 4},     /* that ref is in use */
    {false, MESSAGE_START, (uint64_t)3 << 32 | 2, "good", 4}, /* neither with nor without a payload */
    {false, MESSAGE_START, (uint64_t)3 << 32 | 1, "good", 4}, /* a payload is to follow, but the work has one */
    {false, MESSAGE_PAYLOAD, (uint64_t)1 << 32, "x", 1},      /* it has no file */
    {false, MESSAGE_PIECE, (uint64_t)1 << 32, "x", 1},        /* it is no lease */
    {false, MESSAGE_CALL_JSON, (uint64_t)1 << 32 | 1, "{}", 2},
    {false, MESSAGE_CALL_JSON, (uint64_t)4 << 32 | 6, "{}", 2}, /* in the middle of call 5 */
    {false, MESSAGE_PIECE, (uint64_t)4 << 32 | 6, "x", 1},
    {false, MESSAGE_FUNCTION, (uint64_t)4 << 32, "0123456789abcdef0123456789abcdef", 32},
    {false, MESSAGE_FINISH, (uint64_t)4 << 32, "", 0},
    {false, MESSAGE_RECALL, (uint64_t)4 << 32 | 5, "", 0},
    {false, MESSAGE_PIECE, (uint64_t)4 << 32 | 4, "x", 1}, /* of one that was sent */
    {false, MESSAGE_PIECE, (uint64_t)4 << 32 | 5, "ahead", 5},
    {false, MESSAGE_CALL_JSON, (uint64_t)2 << 32, "{}", 2}, /* number 0 */
    {false, MESSAGE_FINISH, (uint64_t)1 << 32, "", 0},
    {false, MESSAGE_RECALL, (uint64_t)2 << 32, "", 0},
    {false, MESSAGE_FUNCTION, (uint64_t)2 << 32, "short", 5},
    {false, MESSAGE_HOLD, (uint64_t)1 << 32 | 7, "", 0},
    {false, MESSAGE_RESIZE, NODE_CPUS_MAX + 1, "", 0},
    {false, MESSAGE_HELLO, 0, "short", 5},
    {false, MESSAGE_ABOUT, 0, "", 0},
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
    rogue_says(MESSAGE_START, message_id(ref, 0), bytes, size);
    free(bytes);
}

static void nonsense_of_a_ppfs_ends_it(void **state) {
    static const struct peer_listener_events events = {.accepted = node_accepted, .refused = on_log};
    struct peer_listener *listener;
    struct work good = work_of(1, WORK_PYTHON, "");
    void *bytes;
    uint32_t size;

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
        rogue_starts(4, WORK_STREAM_JSON, ""); /* waits for a slot, in the middle of a call */
        rogue_says(MESSAGE_CALL_JSON, message_id(4, 4), "{}", 2);
        bool is_ahead = n->size == 5 && memcmp(n->body, "ahead", 5) == 0;
        for (int k = 0; k < (is_ahead ? PAYLOAD_AHEAD : 1); k++)
            rogue_says(MESSAGE_PIECE, message_id(4, 5), "{", 1);
        rogue_says(MESSAGE_HOLD, message_id(9, 7), "", 0); /* of one that has ended: no harm */
        bool is_good = n->size == 4 && memcmp(n->body, "good", 4) == 0;
        rogue_says(n->kind, n->id, is_good ? bytes : n->body, is_good ? size : n->size);
        turn_until(flag, &rogue.lost);
        turn_until(flag, &fix.node[0].left);
        while (agent_works(fix.node[0].agent) != 1) /* its work is killed */
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
    one_node();
    make_node(&fix.node[1], "n1", 0);
    wait_up(1);
    assert_string_equal(remote_name(fix.remote[1]), "n1-2");
    unsigned second = 1;
    end_node(&fix.node[1]);
    turn_until(is_gone, &second);
    fix.up = 1;
    fix.gone[1][0] = 0;
    make_node(&fix.node[1], "local", 0);
    wait_up(1);
    assert_string_equal(remote_name(fix.remote[1]), "local-2");
}

/* What it is called comes in the turn in which the node that had the name before is lost. */
static void a_node_that_returns_has_its_name(void **state) {
    unsigned first = 0;

    one_node();
    rogue_comes(TLS_NODE, registry_address(fix.registry));
    rogue_about_as("n1");
    usleep(50000); /* it has come */
    remote_fail(fix.remote[0], "it was lost");
    event_base_loop(base, EVLOOP_NONBLOCK);
    turn_until(is_gone, &first);
    wait_up(1);
    assert_string_equal(remote_name(fix.remote[1]), "n1");
    rogue_goes();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        REMOTE_TEST(a_node_that_dies_loses_its_work),
        REMOTE_TEST(a_node_tells_what_had_not_begun),
        REMOTE_TEST(a_node_gives_back_what_it_does_not_take),
        REMOTE_TEST(a_ppfs_that_dies_has_its_work_killed),
        REMOTE_TEST(a_node_is_let_go),
        REMOTE_TEST(a_node_says_goodbye),
        REMOTE_TEST(two_nodes_of_one_name),
        REMOTE_TEST(a_node_that_returns_has_its_name),
        REMOTE_TEST(a_successor_ends_what_its_predecessor_runs),
        REMOTE_TEST(a_payload_waits_for_the_disk_of_its_node),
        REMOTE_TEST(nonsense_of_a_node_ends_it),
        REMOTE_TEST(nonsense_of_a_ppfs_ends_it),
        cmocka_unit_test_setup_teardown(small_results_pass_large_ones, setup_relay, teardown_relay),
        cmocka_unit_test_setup_teardown(cuts_lose_and_double_nothing, setup_relay, teardown_relay),
        cmocka_unit_test_setup_teardown(silence_loses_the_work_and_kills_it, setup_relay, teardown_relay),
    };

    return cmocka_run_group_tests(tests, rig_setup, rig_teardown);
}
