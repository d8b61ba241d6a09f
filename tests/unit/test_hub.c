/* How many a hub greets and has at once: who has stolen a key of a node, or some, takes no place from those with
 * others. The connections are bare, as the network process hands them over. */
#include "net/session/session.h"
#include "net/tls/tls_int.h"
#include "tests/unit/netrig.h"

enum { GREETINGS = 512, SESSIONS = 8192 };

static struct hub *hub;
static struct session *sessions[SESSIONS];
static int greeted[GREETINGS]; /* their ends of connections */
static unsigned begun, failed, greetings, lost;

static void on_greeted(void *arg, void *tag, struct session *s, bool fresh) {
    static const struct session_events events = {0};
    assert_true(fresh);
    session_watch(s, &events, NULL);
    sessions[begun++] = s;
}

static void on_lost(void *arg, const char *sentence) {
    lost++;
}

static void on_failed(void *arg, void *tag, const char *sentence) {
    snprintf(why, sizeof(why), "%s", sentence);
    failed++;
}

static void start(void) {
    static const struct hub_events events = {.greeted = on_greeted, .failed = on_failed};
    struct hub_config config = {.side = TLS_PPFS, .silence_ms = 3600 * 1000, .mount = mount_of(KEY_A)};
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    begun = failed = greetings = lost = 0;
    assert_int_equal(hub_create(&hub, base, &config, &events, NULL), 0);
}

static void stop(void) {
    for (unsigned i = 0; i < begun; i++)
        session_destroy(sessions[i]);
    hub_destroy(hub);
    for (unsigned i = 0; i < greetings; i++)
        close(greeted[i]);
}

/* Somebody with that key has come from that address. 0 or -errno. */
static int come(unsigned key, const char *address, int *theirs) {
    struct tls_proof proof = {0};
    struct tls_conn *conn;
    int ends[2];
    memcpy(proof.key, &key, sizeof(key));
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends), 0);
    assert_int_equal(tls_conn_bare(&conn, ends[0], &proof, NULL, NULL, 0), 0);
    *theirs = ends[1];
    int err = hub_greet(hub, conn, address, hub);
    if (err)
        close(ends[1]);
    return err;
}

/* As many as are let in, with one key and from one host. */
static unsigned greet_all(unsigned key, const char *host) {
    char address[64];
    unsigned count = 0;
    int theirs, err;
    for (;; count++) {
        snprintf(address, sizeof(address), "%s:%u", host, 1000 + count);
        if ((err = come(key, address, &theirs)))
            break;
        greeted[greetings++] = theirs;
    }
    assert_int_equal(err, -EBUSY);
    return count;
}

static void a_key_and_an_address_have_a_share_of_greetings(void **state) {
    unsigned all = 0;
    start();
    unsigned one_host = greet_all(1, "192.0.2.1"); /* a stolen key */
    assert_in_range(one_host, GREETINGS / 4, GREETINGS / 2);
    assert_in_range(greet_all(1, "192.0.2.2"), 8, GREETINGS); /* others who have the same */
    assert_in_range(greet_all(1, "[2001:db8::1]"), 8, GREETINGS);
    for (unsigned key = 2; key < 5; key++) /* three more stolen ones, each from wherever he likes */
        for (unsigned host = 0; host < 200; host++) {
            char text[32];
            snprintf(text, sizeof(text), "198.51.100.%u", host);
            all += greet_all(key, text);
        }
    assert_in_range(all, 1, GREETINGS);
    assert_in_range(greet_all(7, "192.0.2.1"), 1, GREETINGS); /* and still there is a place for who has his own */
    stop();
}

/* One machine may have all addresses of a /64. */
static void addresses_of_one_network_are_one_host(void **state) {
    char host[64];
    unsigned count = 0;
    start();
    for (unsigned i = 0; i < GREETINGS; i++) {
        snprintf(host, sizeof(host), i % 2 ? "[2001:db8::%x]" : "[2001:db8:0:0:%x::1]", i + 1);
        count += greet_all(1, host);
    }
    assert_in_range(count, GREETINGS / 4, GREETINGS / 2 - 64);
    assert_in_range(greet_all(1, "[2001:db8:0:1::1]"), 8, GREETINGS);
    assert_in_range(greet_all(1, "192.0.2.1"), 8, GREETINGS);
    stop();
}

static bool one_more(void *arg) {
    return begun + failed > *(unsigned *)arg;
}

/* A node with that id, which has no session yet. Its end of the connection. */
static int begin(unsigned key, const char *address, const uint8_t id[SESSION_ID]) {
    uint8_t bytes[FRAME_HEADER + 64 + FRAME_HEADER + 32] = {0};
    unsigned before = begun + failed;
    int theirs;
    assert_int_equal(come(key, address, &theirs), 0);
    frame_encode(bytes, 240, 0, 64);
    memcpy(bytes + FRAME_HEADER, HELLO_BEGIN, 9);
    memcpy(bytes + FRAME_HEADER + 16, id, SESSION_ID);
    frame_encode(bytes + FRAME_HEADER + 64, 241, 0, 32);
    assert_int_equal(write(theirs, bytes, sizeof(bytes)), sizeof(bytes));
    turn_until(one_more, &before);
    return theirs;
}

/* As many as get a session; they need not stay. */
static unsigned begin_all(unsigned key, const char *host, unsigned most) {
    static uint32_t hubs;
    char address[64];
    unsigned count = 0, before_failed = failed;
    for (; count < most && failed == before_failed; count += failed == before_failed) {
        uint8_t id[SESSION_ID] = {0};
        memcpy(id, &(uint32_t){++hubs}, 4);
        snprintf(address, sizeof(address), "%s:%u", host, 1000 + count);
        close(begin(key, address, id));
    }
    return count;
}

static void a_key_and_an_address_have_a_share_of_sessions(void **state) {
    start();
    assert_in_range(begin_all(1, "192.0.2.1", SESSIONS), SESSIONS / 4, SESSIONS / 2);
    assert_non_null(strstr(why, "one too many"));
    assert_int_equal(begin_all(1, "192.0.2.2", 100), 100);
    assert_int_equal(begin_all(2, "192.0.2.1", 1000), 1000);
    stop();
}

/* Who greets with the id of another, and has the same key, ends the other's session; so nobody else may know it. */
static void what_discovery_shows_of_a_node_ends_no_session_of_it(void **state) {
    static const struct session_events events = {.lost = on_lost};
    uint8_t id[SESSION_ID] = {1};
    start();
    greeted[greetings++] = begin(1, "192.0.2.1:1", id);
    session_watch(sessions[0], &events, NULL);
    assert_memory_not_equal(session_peer_shown(sessions[0]), id, SESSION_ID);
    greeted[greetings++] = begin(1, "192.0.2.2:1", session_peer_shown(sessions[0]));
    assert_int_equal(begun, 2);
    assert_int_equal(lost, 0);
    assert_memory_not_equal(hub_shown(hub), hub_id(hub), SESSION_ID);
    stop();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_key_and_an_address_have_a_share_of_greetings),
        cmocka_unit_test(addresses_of_one_network_are_one_host),
        cmocka_unit_test(a_key_and_an_address_have_a_share_of_sessions),
        cmocka_unit_test(what_discovery_shows_of_a_node_ends_no_session_of_it),
    };
    return cmocka_run_group_tests(tests, rig_setup, rig_teardown);
}
