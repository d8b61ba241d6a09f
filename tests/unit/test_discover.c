/* Discovery by real multicast: IPv4 on the loopback interface, IPv6 on any other, where there is one. */
#include <endian.h>
#include <net/if.h>

#include "net/address.h"
#include "net/peer/discover.h"
#include "net/untrusted/discover_socket.h"
#include "tests/unit/netrig.h"

enum { PACKET = 104, SIGNED = 72 };

struct side {
    struct tls *tls;
    struct discover *d;
    uint8_t id[SESSION_ID];
    int found, refused;
    char address[ADDRESS_MAX], sentence[512];
    uint8_t found_id[SESSION_ID];
    bool two_ids;
};

static char place4[64], place6[64];
static uint16_t port;

static void on_found(void *arg, const char *address, const uint8_t id[SESSION_ID]) {
    struct side *x = arg;
    x->two_ids |= x->found && memcmp(x->found_id, id, SESSION_ID);
    x->found++;
    snprintf(x->address, sizeof(x->address), "%s", address);
    memcpy(x->found_id, id, SESSION_ID);
}

static void on_refused(void *arg, const char *sentence) {
    struct side *x = arg;
    x->refused++;
    snprintf(x->sentence, sizeof(x->sentence), "%s", sentence);
}

static const struct discover_events events = {.found = on_found, .refused = on_refused};

static void start(struct side *x, enum tls_side part, const char *key, const char *where) {
    *x = (struct side){.tls = make_tls(part, key)};
    tls_random(x->id, SESSION_ID);
    if (discover_create(&x->d, base, x->tls, where, x->id, part == TLS_NODE ? 4711 : 0, &events, x, why, sizeof(why)))
        fail_msg("%s", why);
}

static void stop(struct side *x) {
    discover_destroy(x->d);
    tls_destroy(x->tls);
}

static bool was_found(void *arg) {
    return ((struct side *)arg)->found;
}

static bool was_refused(void *arg) {
    return ((struct side *)arg)->refused;
}

/* A port nobody else on this machine discovers at. */
static int places(void **state) {
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t size = sizeof(at);
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    if (rig_setup(state) || bind(fd, (struct sockaddr *)&at, sizeof(at)) ||
        getsockname(fd, (struct sockaddr *)&at, &size))
        return -1;
    close(fd);
    port = ntohs(at.sin_port);
    snprintf(place4, sizeof(place4), "%s%%lo:%d", DISCOVER_GROUP4, port);
    snprintf(place6, sizeof(place6), "[%s]:%d", DISCOVER_GROUP6, port);
    return 0;
}

/* Whether some interface takes multicast by IPv6; loopback interfaces do not. */
static bool has_ipv6(void) {
    struct sockaddr_in6 to = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    struct if_nameindex *all = if_nameindex();
    int fd = socket(AF_INET6, SOCK_DGRAM, 0);
    bool has = false;
    inet_pton(AF_INET6, DISCOVER_GROUP6, &to.sin6_addr);
    for (struct if_nameindex *i = all; fd >= 0 && i && i->if_index; i++) {
        int index = (int)i->if_index;
        has |= !setsockopt(fd, IPPROTO_IPV6, IPV6_MULTICAST_IF, &index, sizeof(index)) &&
               sendto(fd, "", 0, 0, (struct sockaddr *)&to, sizeof(to)) == 0;
    }
    if (fd >= 0)
        close(fd);
    if_freenameindex(all);
    return has;
}

static void places_are_checked(void **state) {
    const char *good[] = {"",
                          "239.1.2.3",
                          "%eth0",
                          ":1",
                          "239.1.2.3%eth0:65535",
                          "[ff12::1]",
                          "[ff12::1%eth0]:7",
                          "[ff12::1]%eth0:7",
                          "%eth0:7",
                          "224.0.0.1:9"};
    const char *bad[] = {"10.0.0.1",
                         "[::1]",
                         "[fe80::1]",
                         "ff12::1",
                         "239.1.2.3:",
                         ":0",
                         ":65536",
                         ":x",
                         ":1x",
                         "%",
                         "%:1",
                         "[ff12::1",
                         "[]",
                         "239.1.2.3%aninterfacenamethatislong",
                         "[ff12::1%a]%b",
                         "name",
                         "239.1.2.3 "};
    for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++)
        if (discover_check(good[i], why, sizeof(why)))
            fail_msg("%s", why);
    assert_int_equal(discover_check(NULL, why, sizeof(why)), 0);
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
        if (discover_check(bad[i], why, sizeof(why)) != -EINVAL)
            fail_msg("%s was taken for a place", bad[i]);
    struct tls *t = make_tls(TLS_PPFS, KEY_A);
    struct discover *d;
    uint8_t id[SESSION_ID] = {1};
    assert_int_equal(discover_create(&d, base, t, "%nosuch0", id, 0, &events, NULL, why, sizeof(why)), -ENODEV);
    assert_non_null(strstr(why, "nosuch0"));
    tls_destroy(t);
}

/* The address is one of this machine's, which depends on what interfaces it has. */
static void find_each_other(const char *place) {
    struct side ppfs, node, late;
    start(&node, TLS_NODE, KEY_A, place);
    start(&ppfs, TLS_PPFS, KEY_A, place);
    turn_until(was_found, &ppfs);
    assert_string_equal(strrchr(ppfs.address, ':'), ":4711");
    assert_int_equal(peer_check_address(ppfs.address, true, why, sizeof(why)), 0);
    assert_int_equal(ppfs.address[0] == '[', place[0] == '[');
    assert_memory_equal(ppfs.found_id, node.id, SESSION_ID);
    stop(&node);
    start(&late, TLS_NODE, KEY_A, place); /* says that it has come */
    ppfs.found = 0;
    turn_until(was_found, &ppfs);
    assert_memory_equal(ppfs.found_id, late.id, SESSION_ID);
    assert_int_equal(late.found, 0);
    stop(&late);
    stop(&ppfs);
}

static void a_node_is_found_by_ipv4(void **state) {
    find_each_other(place4);
}

static void a_node_is_found_by_ipv6(void **state) {
    if (!has_ipv6())
        skip();
    find_each_other(place6);
}

static void another_key_gets_no_answer(void **state) {
    struct side ppfs, node, other;
    start(&other, TLS_NODE, KEY_B, place4);
    start(&ppfs, TLS_PPFS, KEY_A, place4);
    turn_until(was_refused, &other);
    assert_non_null(strstr(other.sentence, "another key"));
    start(&node, TLS_NODE, KEY_A, place4);
    turn_until(was_found, &ppfs);
    assert_false(ppfs.two_ids);
    assert_memory_equal(ppfs.found_id, node.id, SESSION_ID);
    stop(&ppfs);
    stop(&node);
    stop(&other);
}

/* --- packets of our own ------------------------------------------------------------------------------------------ */
static int sender(void) {
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    struct ip_mreqn lo = {.imr_ifindex = (int)if_nametoindex("lo")};
    assert_int_equal(setsockopt(fd, IPPROTO_IP, IP_MULTICAST_IF, &lo, sizeof(lo)), 0);
    return fd;
}

static void send_packet(int fd, const uint8_t *bytes, size_t size) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    inet_pton(AF_INET, DISCOVER_GROUP4, &to.sin_addr);
    assert_int_equal(sendto(fd, bytes, size, 0, (struct sockaddr *)&to, sizeof(to)), (ssize_t)size);
}

/* A packet that is right, off seconds away from now. */
static void make_packet(const struct tls *t, uint8_t out[PACKET], uint8_t kind, int off) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    uint64_t ms = htole64((uint64_t)((int64_t)now.tv_sec + off) * 1000 + (uint64_t)now.tv_nsec / 1000000);
    memset(out, 0, PACKET);
    memcpy(out, "ppfsdisc\1", 9);
    out[9] = kind;
    out[10] = 1;
    memcpy(out + 16, &ms, 8);
    tls_random(out + 24, 16);
    assert_int_equal(tls_sign(t, out, SIGNED, out + SIGNED), 0);
}

static int answers(int fd) {
    uint8_t bytes[200];
    int n = 0;
    while (recv(fd, bytes, sizeof(bytes), 0) == PACKET)
        n++;
    return n;
}

static bool has_answer(void *arg) {
    uint8_t byte;
    return recv(*(int *)arg, &byte, 1, MSG_PEEK) > 0;
}

/* Sends a right query and waits for its answer: whatever was sent before has been looked at by then. */
static void after_a_right_one(struct side *node, int stranger) {
    uint8_t right[PACKET];
    int fd = sender();
    make_packet(node->tls, right, 1, 0);
    send_packet(fd, right, PACKET);
    turn_until(has_answer, &fd);
    assert_int_equal(answers(fd), 1);
    assert_int_equal(answers(stranger), 0);
    close(fd);
}

static void who_has_no_key_and_echoes_get_no_answer(void **state) {
    struct side node;
    struct tls *other = make_tls(TLS_PPFS, KEY_B);
    uint8_t bytes[PACKET + 8], right[PACKET];
    int fd = sender();
    start(&node, TLS_NODE, KEY_A, place4);
    make_packet(node.tls, right, 1, 0);
    send_packet(fd, right, PACKET);
    turn_until(has_answer, &fd);
    assert_int_equal(answers(fd), 1);
    send_packet(fd, right, PACKET); /* the same again */
    after_a_right_one(&node, fd);
    assert_int_equal(node.refused, 0);
    make_packet(node.tls, bytes, 1, 0);
    for (size_t at = 0; at < PACKET; at += 5) { /* a bit of any byte */
        bytes[at] ^= 4;
        send_packet(fd, bytes, PACKET);
        bytes[at] ^= 4;
    }
    for (size_t size = 0; size < PACKET; size += 13)
        send_packet(fd, bytes, size);
    send_packet(fd, bytes, PACKET + 8);
    make_packet(other, bytes, 1, 0);
    send_packet(fd, bytes, PACKET);
    after_a_right_one(&node, fd);
    assert_int_equal(node.refused, 1); /* one source, one minute */
    for (uint8_t kind = 0; kind < 6; kind++)
        if (kind != 1) {
            make_packet(node.tls, bytes, kind, 0);
            send_packet(fd, bytes, PACKET);
        }
    after_a_right_one(&node, fd);
    close(fd);
    stop(&node);
    tls_destroy(other);
}

static bool was_found_twice(void *arg) {
    return ((struct side *)arg)->found > 1;
}

/* Who has the key for any node answers before it, in its name. */
static void a_forged_answer_hides_no_node(void **state) {
    struct side ppfs;
    struct discover_where where;
    uint8_t query[PACKET + 1], forged[PACKET], right[PACKET];
    struct sockaddr_in from;
    socklen_t size = sizeof(from);
    assert_int_equal(discover_parse(&where, place4, why, sizeof(why)), 0);
    int hear = discover_hear(&where, 0), fd = sender();
    discover_join(&where, 0, hear);
    start(&ppfs, TLS_PPFS, KEY_A, place4);
    turn_until(has_answer, &hear);
    assert_int_equal(recvfrom(hear, query, sizeof(query), 0, (struct sockaddr *)&from, &size), PACKET);
    make_packet(ppfs.tls, forged, 2, 0);
    memcpy(forged + 40, query + 24, SESSION_ID);
    memset(forged + 56, 7, SESSION_ID); /* whose name */
    memcpy(right, forged, PACKET);
    right[11] = 0x20; /* another port */
    tls_random(right + 24, SESSION_ID);
    for (int i = 0; i < 4; i++) {
        uint8_t *bytes = i % 2 ? right : forged;
        bytes[24] ^= (uint8_t)i;
        assert_int_equal(tls_sign(ppfs.tls, bytes, SIGNED, bytes + SIGNED), 0);
        assert_int_equal(sendto(fd, bytes, PACKET, 0, (struct sockaddr *)&from, size), PACKET);
    }
    turn_until(was_found, &ppfs);
    assert_string_equal(strrchr(ppfs.address, ':'), ":1");
    turn_until(was_found_twice, &ppfs);
    assert_string_equal(strrchr(ppfs.address, ':'), ":8193");
    assert_int_equal(ppfs.found, 2);
    assert_false(ppfs.two_ids);
    close(fd);
    close(hear);
    stop(&ppfs);
}

/* As much as some hundred machines say in a minute. */
static void many_are_heard(void **state) {
    enum { MANY = 4000, AT_ONCE = 100 };
    struct side node;
    uint8_t bytes[PACKET];
    int fd = sender(), got = 0;
    start(&node, TLS_NODE, KEY_A, place4);
    for (int sent = 0; sent < MANY; sent += AT_ONCE) {
        for (int i = 0; i < AT_ONCE; i++) {
            make_packet(node.tls, bytes, 1, 0);
            send_packet(fd, bytes, PACKET);
        }
        for (int turns = 0; got < sent + AT_ONCE && turns < 50; turns++) {
            event_base_loop(base, EVLOOP_NONBLOCK);
            got += answers(fd);
        }
    }
    assert_int_equal(got, MANY);
    close(fd);
    stop(&node);
}

static void a_clock_that_is_off_gets_no_answer(void **state) {
    for (int off = -40; off <= 40; off += 80) {
        struct side node;
        uint8_t bytes[PACKET];
        int fd = sender();
        start(&node, TLS_NODE, KEY_A, place4);
        make_packet(node.tls, bytes, 1, off);
        send_packet(fd, bytes, PACKET);
        turn_until(was_refused, &node);
        assert_non_null(strstr(node.sentence, "clock"));
        after_a_right_one(&node, fd);
        make_packet(node.tls, bytes, 1, off / 2);
        send_packet(fd, bytes, PACKET);
        turn_until(has_answer, &fd);
        close(fd);
        stop(&node);
    }
}

static void an_answer_to_nobodys_question_is_not_believed(void **state) {
    struct side ppfs, node;
    uint8_t bytes[PACKET];
    int fd = sender();
    start(&ppfs, TLS_PPFS, KEY_A, place4);
    event_base_loop(base, EVLOOP_ONCE);
    make_packet(ppfs.tls, bytes, 2, 0); /* right but for the nonce of a question */
    send_packet(fd, bytes, PACKET);
    start(&node, TLS_NODE, KEY_A, place4);
    turn_until(was_found, &ppfs);
    assert_false(ppfs.two_ids);
    assert_memory_equal(ppfs.found_id, node.id, SESSION_ID);
    close(fd);
    stop(&ppfs);
    stop(&node);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(places_are_checked),
        cmocka_unit_test(a_node_is_found_by_ipv4),
        cmocka_unit_test(a_node_is_found_by_ipv6),
        cmocka_unit_test(another_key_gets_no_answer),
        cmocka_unit_test(who_has_no_key_and_echoes_get_no_answer),
        cmocka_unit_test(many_are_heard),
        cmocka_unit_test(a_clock_that_is_off_gets_no_answer),
        cmocka_unit_test(an_answer_to_nobodys_question_is_not_believed),
        cmocka_unit_test(a_forged_answer_hides_no_node),
    };
    return cmocka_run_group_tests(tests, places, rig_teardown);
}
