/* What the tests of net/ share: a loop with a deadline, key files, peers on loopback. Header only: each test is one
 * file. */
#ifndef PPFS_NETRIG_H
#define PPFS_NETRIG_H
#include <arpa/inet.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "net/tls/key.h"
#include "net/session/link.h"
#include "net/session/session_int.h"
#include "net/peer/peer.h"

enum { DEADLINE_S = 60 }; /* ends a hang; nothing is expected to take that long */

static struct event_base *base;
static char dir[] = "/tmp/ppfs-net-XXXXXX";
static char why[512];

static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void on_tick(evutil_socket_t fd, short what, void *arg) {
}

/* Turns the loop until done(arg); fails the test after DEADLINE_S, naming what was awaited. */
static __attribute__((unused)) void turn_until_(bool (*done)(void *arg), void *arg, const char *name) {
    double limit = now_s() + DEADLINE_S;
    struct event *tick = event_new(base, -1, EV_PERSIST, on_tick, NULL);
    struct timeval often = {0, 20 * 1000};
    event_add(tick, &often);
    while (!done(arg)) {
        if (now_s() > limit)
            fail_msg("%s: not in %d s", name, DEADLINE_S);
        event_base_loop(base, EVLOOP_ONCE);
    }
    event_free(tick);
}
#define turn_until(done, arg) turn_until_(done, arg, #done)

static inline char *key_file(const char *name, const char *bytes, mode_t mode) {
    static char path[4][128];
    static unsigned next;
    char *p = path[next++ % 4];
    snprintf(p, sizeof(path[0]), "%s/%s", dir, name);
    int fd = open(p, O_CREAT | O_TRUNC | O_WRONLY, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, strlen(bytes)), strlen(bytes));
    fchmod(fd, mode);
    close(fd);
    return p;
}

/* How a HELLO begins: SESSION_VERSION stands behind the name. */
#define HELLO_BEGIN "ppfsnode\4"

#define KEY_A "ppfs mount key 1\nsecret: 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\n"
#define KEY_B "ppfs mount key 1\nsecret: 1123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\n"

/* The mount with that secret; kept until the end. */
static inline const struct mount_key *mount_of(const char *key) {
    static struct mount_key *kept[2];
    struct mount_key **m = &kept[key[25] == '1'];
    if (!*m && mount_key_read(m, key_file("key", key, 0600), why, sizeof(why)))
        fail_msg("%s", why);
    return *m;
}

/* The key that it has for any number of nodes. */
static inline const struct node_key *node_of(const char *key) {
    static struct node_key kept[2];
    struct node_key *n = &kept[key[25] == '1'];
    uint8_t secret[KEY_SECRET];
    assert_int_equal(mount_key_join(mount_of(key), secret), 0);
    mount_key_node(mount_of(key), KEY_ANY, secret, n);
    return n;
}

static inline struct tls *make_tls(enum tls_side side, const char *key) {
    struct tls *t = NULL;
    struct tls_key join;
    if (tls_create(&t, side, mount_key_find(mount_of(key)), why, sizeof(why)))
        fail_msg("%s", why);
    assert_int_equal(node_key_tls(node_of(key)->secret, &join), 0);
    assert_int_equal(tls_add_key(t, &join), 0);
    return t;
}

static inline int connect_to(const char *address) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(strrchr(address, ':') + 1))};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
    return fd;
}

/* A bare listening socket; its address in text. */
static inline int listen_on(char address[64]) {
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t size = sizeof(at);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
    assert_int_equal(listen(fd, 64), 0);
    getsockname(fd, (struct sockaddr *)&at, &size);
    snprintf(address, 64, "127.0.0.1:%d", ntohs(at.sin_port));
    return fd;
}

static int rig_setup(void **state) {
    signal(SIGPIPE, SIG_DFL); /* a library that raises it would end the test */
    if (!mkdtemp(dir))
        return -1;
    if (HELLO_BEGIN[8] != SESSION_VERSION)
        fail_msg("the version in HELLO_BEGIN is not that of session_int.h");
    base = event_base_new();
    return base ? 0 : -1;
}

static int rig_teardown(void **state) {
    char command[200];
    event_base_free(base);
    snprintf(command, sizeof(command), "rm -rf %s", dir);
    return system(command);
}
#endif
