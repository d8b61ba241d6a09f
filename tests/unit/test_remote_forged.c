/* Nodes and ppfs that say what makes no sense: each forged message ends its session. */
#include "tests/unit/noderig.h"
#include "worker/remote/remote_internal.h"

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
    {true, MESSAGE_OUTPUT, 5, "x", 1},
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

/* What a ppfs may not say; before it, work 1 is a script that runs, work 2 a lease, and 4 one of whose call 5 a piece
 * has come. */
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
        REMOTE_TEST(two_nodes_of_one_name),
        REMOTE_TEST(a_node_that_returns_has_its_name),
        REMOTE_TEST(a_payload_waits_for_the_disk_of_its_node),
        REMOTE_TEST(nonsense_of_a_node_ends_it),
        REMOTE_TEST(nonsense_of_a_ppfs_ends_it),
    };

    return cmocka_run_group_tests(tests, rig_setup, rig_teardown);
}
