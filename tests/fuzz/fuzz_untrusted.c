/* What arrives before the handshake is done, from somebody without the key: bytes at a port that listens, bytes from a
 * port that was dialled, somebody in the middle who changes bytes of two that have different keys (neither may take the
 * other in) or of two that have the same one, and packets of discovery, which get no answer unless they are signed.
 *
 * The first byte of an input says which. With libFuzzer (configure --enable-fuzzing): tests/fuzz/fuzz_untrusted
 * DIRECTORY. Without it (make check) it has a main of its own: some samples and 2,000 inputs by a fixed chance; or the
 * files named. */
#include <arpa/inet.h>
#include <assert.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "net/peer/discover.h"
#include "net/untrusted/discover_socket.h"
#include "net/untrusted/handshake.h"
#include "net/tls/key.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { TO_LISTENER, TO_DIALLER, BETWEEN_UNTRUSTED, BETWEEN_FRIENDS, PACKET_UNSIGNED, PACKET_SIGNED, WAYS };
enum { PACKET = 104, SIGNED = 72 };

static struct event_base *base;
static struct tls *ppfs, *node, *stranger;
static uint16_t port;

static struct tls *make_tls(enum tls_side side, uint8_t secret) {
    uint8_t bytes[KEY_SECRET];
    struct tls_key key;
    char why[512];
    struct tls *t;

    memset(bytes, secret, sizeof(bytes));
    assert(!tls_create(&t, side, bytes, why, sizeof(why)) && !node_key_tls(bytes, &key) && !tls_add_key(t, &key));
    return t;
}

static void begin(void) {
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t size = sizeof(at);
    int fd = socket(AF_INET, SOCK_DGRAM, 0);

    base = event_base_new();
    ppfs = make_tls(TLS_PPFS, 'a');
    node = make_tls(TLS_NODE, 'a');
    stranger = make_tls(TLS_PPFS, 'b');
    assert(!bind(fd, (struct sockaddr *)&at, sizeof(at)) && !getsockname(fd, (struct sockaddr *)&at, &size));
    port = ntohs(at.sin_port);
    close(fd);
}

/* --- handshakes --------------------------------------------------------------------------------------------------- */
struct end {
    struct handshake *h;
    int wire; /* the other end of its socket */
    bool over, in;
    size_t moved; /* bytes it has sent */
};

static void on_shaken(void *arg, struct tls_conn *conn, int err) {
    struct end *e = arg;

    assert(!conn == (err != 0) && *handshake_reason(err));
    e->over = true;
    e->in = conn;
    tls_conn_destroy(conn);
    handshake_destroy(e->h);
    e->h = NULL;
}

static void end_start(struct end *e, const struct tls *t, bool dialled) {
    int ends[2];

    *e = (struct end){0};
    assert(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends));
    e->wire = ends[1];
    assert(!handshake_create(&e->h, base, t, ends[0], dialled, on_shaken, e));
}

static void end_stop(struct end *e) {
    handshake_destroy(e->h);
    close(e->wire);
}

static void alone(const struct tls *t, bool dialled, const uint8_t *data, size_t size) {
    struct end e;

    end_start(&e, t, dialled);
    for (size_t cut = size / 3, at = 0; at <= size; at += cut + 1) {
        if (!e.over)
            send(e.wire, data + at, size - at < cut ? size - at : cut, MSG_NOSIGNAL | MSG_DONTWAIT);
        event_base_loop(base, EVLOOP_NONBLOCK);
    }
    shutdown(e.wire, SHUT_WR);
    for (int i = 0; i < 3; i++)
        event_base_loop(base, EVLOOP_NONBLOCK);
    assert(e.over && !e.in);
    end_stop(&e);
}

/* Carries what from has sent to to, changed: three bytes of the input say where (and which way) and how. A change of 0
 * is an end of the connection there. False: ended. */
static bool carry(struct end *from, struct end *to, bool up, const uint8_t *data, size_t size) {
    uint8_t bytes[16384];
    ssize_t n = recv(from->wire, bytes, sizeof(bytes), MSG_DONTWAIT);

    if (n <= 0)
        return true;
    for (size_t i = 0; i + 3 <= size; i += 3) {
        size_t at = (data[i] & 0x7fu) << 8 | data[i + 1];
        if ((data[i] >> 7) != up || at < from->moved || at >= from->moved + (size_t)n)
            continue;
        if (!data[i + 2])
            return false;
        bytes[at - from->moved] ^= data[i + 2];
    }
    from->moved += (size_t)n;
    return send(to->wire, bytes, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT) == n;
}

static void between(const struct tls *dials, const uint8_t *data, size_t size, bool may) {
    struct end dialler, listener;
    bool on = true;

    end_start(&dialler, dials, true);
    end_start(&listener, node, false);
    for (int i = 0; i < 8 && on; i++) {
        event_base_loop(base, EVLOOP_NONBLOCK);
        on = carry(&dialler, &listener, true, data, size) && carry(&listener, &dialler, false, data, size);
    }
    assert(may || (!dialler.in && !listener.in));
    assert(size >= 3 || !may || (dialler.in && listener.in));
    end_stop(&dialler);
    end_stop(&listener);
    event_base_loop(base, EVLOOP_NONBLOCK);
}

/* --- discovery ---------------------------------------------------------------------------------------------------- */
static void on_found(void *arg, const char *address, const uint8_t id[SESSION_ID]) {
    abort(); /* a node looks for nobody */
}

static void on_refused(void *arg, const char *sentence) {
    assert(*sentence);
}

static void packet(const uint8_t *data, size_t size, bool sign) {
    static const struct discover_events events = {.found = on_found, .refused = on_refused};
    static const uint8_t id[SESSION_ID] = {1};
    static struct discover *d;
    static unsigned used;
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct ip_mreqn lo = {.imr_ifindex = (int)if_nametoindex("lo")};
    uint8_t bytes[PACKET * 2] = {0};
    char where[64], why[512];

    snprintf(where, sizeof(where), "%s%%lo:%d", DISCOVER_GROUP4, port);
    if (used++ % 500 == 0) { /* its table of nonces is full after a thousand */
        discover_destroy(d);
        assert(!discover_create(&d, base, node, where, id, 1, &events, NULL, why, sizeof(why)));
        event_base_loop(base, EVLOOP_NONBLOCK);
    }
    size = size < sizeof(bytes) ? size : sizeof(bytes);
    if (size)
        memcpy(bytes, data, size);
    if (sign) {
        struct timespec now;
        clock_gettime(CLOCK_REALTIME, &now);
        uint64_t ms = (uint64_t)now.tv_sec * 1000 + bytes[16] * 200u;
        size = PACKET;
        memcpy(bytes, "ppfsdisc\1", 9);
        memcpy(bytes + 16, &ms, sizeof(ms));
        tls_random(bytes + 24, 16);
        assert(!tls_sign(ppfs, bytes, SIGNED, bytes + SIGNED));
    }
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    inet_pton(AF_INET, DISCOVER_GROUP4, &to.sin_addr);
    assert(!setsockopt(fd, IPPROTO_IP, IP_MULTICAST_IF, &lo, sizeof(lo)));
    assert(sendto(fd, bytes, size, 0, (struct sockaddr *)&to, sizeof(to)) == (ssize_t)size);
    for (int i = 0; i < 2; i++)
        event_base_loop(base, EVLOOP_NONBLOCK);
    ssize_t answer = recv(fd, bytes, sizeof(bytes), 0);
    assert(answer < 0 || (sign && answer == PACKET));
    close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (!base)
        begin();
    if (!size)
        return 0;
    unsigned way = *data++ % WAYS;
    size--;
    switch (way) {
    case TO_LISTENER: alone(node, false, data, size); break;
    case TO_DIALLER: alone(ppfs, true, data, size); break;
    case BETWEEN_UNTRUSTED: between(stranger, data, size, false); break;
    case BETWEEN_FRIENDS: between(ppfs, data, size, true); break;
    default: packet(data, size, way == PACKET_SIGNED);
    }
    return 0;
}

#ifdef PPFS_SAMPLES
#include "tests/fuzz/samples.h"

static const struct {
    const char *bytes;
    size_t size;
} samples[] = {
#define S(text)                                                                                                        \
    { text, sizeof(text) - 1 }
    S("\0GET / HTTP/1.0\r\n\r\n"),
    S("\0\26\3\1\0\5\1\0\0\1\3"), /* the beginning of a ClientHello */
    S("\1\25\3\3\0\2\2\50"),      /* an alert */
    S("\1\26\3\3\0\4\2\0\0\0"),   /* an empty ServerHello */
    S("\2"),                      /* different keys, and nothing changed */
    S("\2\200\60\1\0\40\1"),
    S("\3"),           /* the same key: they take each other in */
    S("\3\200\100\0"), /* cut off in the ClientHello */
    S("\3\0\100\0"),   /* in the ServerHello */
    S("\4ppfsdisc\1\1\0\0\0\0\0\0"),
    S("\5ppfsdisc\1\1\0\0\0\0\0\0"), /* a QUERY: an answer */
    S("\5ppfsdisc\1\2\1\1\0\0\0\0"),
    S("\5ppfsdisc\2\3\0\0\0\0\0\0"),
};

int main(int argc, char **argv) {
    size_t count = sizeof(samples) / sizeof(*samples);
    uint8_t bytes[256];

    if (argc > 1)
        return run_samples(argc - 1, argv + 1);
    for (size_t i = 0; i < count; i++) {
        LLVMFuzzerTestOneInput((const uint8_t *)samples[i].bytes, samples[i].size);
        printf("ok %zu - sample %zu\n", i + 1, i);
    }
    srandom(1);
    for (int i = 0; i < 2000; i++) {
        size_t size = 1 + (size_t)random() % 60;
        for (size_t k = 0; k < size; k++)
            bytes[k] = (uint8_t)random();
        for (size_t k = 1; k < size; k += 3) /* where it counts: a handshake has some hundred bytes each way */
            bytes[k] &= 0x80;
        LLVMFuzzerTestOneInput(bytes, size);
    }
    printf("ok %zu - 2000 inputs by chance\n1..%zu\n", count + 1, count + 1);
    event_base_free(base);
    return 0;
}
#endif
