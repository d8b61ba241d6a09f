
#include "tests/unit/netrig.h"

struct event_base *base;

char dir[] = "/tmp/ppfs-net-XXXXXX";

char why[512];

double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void on_tick(evutil_socket_t fd, short what, void *arg) {
}

void turn_until_(bool (*done)(void *arg), void *arg, const char *name) {
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

char *key_file(const char *name, const char *bytes, mode_t mode) {
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

const struct mount_key *mount_of(const char *key) {
    static struct mount_key *kept[2];
    struct mount_key **m = &kept[key[25] == '1'];
    if (!*m && mount_key_read(m, key_file("key", key, 0600), why, sizeof(why)))
        fail_msg("%s", why);
    return *m;
}

const struct node_key *node_of(const char *key) {
    static struct node_key kept[2];
    struct node_key *n = &kept[key[25] == '1'];
    uint8_t secret[KEY_SECRET];
    assert_int_equal(mount_key_join(mount_of(key), secret), 0);
    mount_key_node(mount_of(key), KEY_ANY, secret, n);
    return n;
}

struct tls *make_tls(enum tls_side side, const char *key) {
    struct tls *t = NULL;
    struct tls_key join;
    if (tls_create(&t, side, mount_key_find(mount_of(key)), why, sizeof(why)))
        fail_msg("%s", why);
    assert_int_equal(node_key_tls(node_of(key)->secret, &join), 0);
    assert_int_equal(tls_add_key(t, &join), 0);
    return t;
}

int connect_to(const char *address) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(strrchr(address, ':') + 1))};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
    return fd;
}

int listen_on(char address[64]) {
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

int rig_setup(void **state) {
    signal(SIGPIPE, SIG_DFL); /* a library that raises it would end the test */
    if (!mkdtemp(dir))
        return -1;
    if (HELLO_BEGIN[8] != SESSION_VERSION)
        fail_msg("the version in HELLO_BEGIN is not that of session_int.h");
    base = event_base_new();
    return base ? 0 : -1;
}

int rig_teardown(void **state) {
    char command[200];
    event_base_free(base);
    snprintf(command, sizeof(command), "rm -rf %s", dir);
    return system(command);
}
