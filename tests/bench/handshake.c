/* How long a node's connection takes: connect, TLS 1.3 with the shared key, and the greeting of a session, between two
 * processes on loopback. Prints a line each: milliseconds, median and 99th of 100 of many. handshake [COUNT] */
#include <event2/event.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "net/address.h"
#include "net/peer/peer.h"
#include "net/session/session.h"

static struct event_base *base;
static struct tls *tls;
static struct hub *hub;
static struct peer_dial *dial;
static const char *address;
static char text[ADDRESS_MAX], why[512];
static double began, *shaken, *greeted;
static int count = 1000, done;

static double now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static void die(const char *what) {
    fprintf(stderr, "handshake: %s\n", what);
    exit(1);
}

static void on_dialled(void *arg, struct tls_conn *conn, const char *sentence) {
    if (!conn)
        die(sentence);
    shaken[done] = now_ms() - began;
    peer_dial_destroy(dial);
    hub_greet(hub, conn, address, NULL);
}

static void next(void) {
    began = now_ms();
    if (peer_dial(&dial, base, tls, address, on_dialled, NULL))
        die("no memory");
}

static void on_greeted(void *arg, void *tag, struct session *s, bool fresh) {
    if (!fresh)
        die("a session that should have ended goes on");
    greeted[done] = now_ms() - began;
    session_destroy(s);
    if (++done == count)
        event_base_loopbreak(base);
    else
        next();
}

static void on_failed(void *arg, void *tag, const char *sentence) {
    die(sentence);
}

/* --- the other process ------------------------------------------------------------------------------------------- */
static void on_lost(void *arg, const char *sentence) {
    session_destroy(*(struct session **)arg);
    free(arg);
}

static void on_frame(void *arg, const struct frame *f) {
}

static void on_client(void *arg, void *tag, struct session *s, bool fresh) {
    static const struct session_events events = {.frame = on_frame, .lost = on_lost};
    struct session **kept = malloc(sizeof(*kept));
    if (!fresh || !kept)
        _exit(1);
    *kept = s;
    session_watch(s, &events, kept);
}

static void on_accepted(void *arg, struct tls_conn *conn, const char *from) {
    hub_greet(hub, conn, from, NULL);
}

static void on_ignored(void *arg, void *tag, const char *sentence) {
}

static void start(enum tls_side side, const char *key, const struct hub_events *events) {
    static struct node_key node;
    static struct mount_key *mount;
    uint8_t secret[KEY_SECRET];
    struct tls_key join;
    if (mount_key_read(&mount, key, why, sizeof(why)) || mount_key_join(mount, secret) || node_key_tls(secret, &join))
        die(why);
    mount_key_node(mount, KEY_ANY, secret, &node);
    struct hub_config config = {.side = side, .mount = mount, .node = &node};
    base = event_base_new();
    if (!base || tls_create(&tls, side, node.find, why, sizeof(why)) || tls_add_key(tls, &join) ||
        hub_create(&hub, base, &config, events, NULL))
        die(why);
}

static void agent(const char *key, int out) {
    static const struct hub_events events = {.greeted = on_client, .failed = on_ignored};
    static const struct peer_listener_events listens = {.accepted = on_accepted};
    struct peer_listener *l;
    start(TLS_NODE, key, &events);
    if (peer_listen(&l, base, tls, "127.0.0.1:0", &listens, NULL, why, sizeof(why)))
        die(why);
    if (write(out, peer_listener_address(l), strlen(peer_listener_address(l))) > 0)
        event_base_dispatch(base);
    _exit(0);
}

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void print(const char *what, double *ms) {
    qsort(ms, (size_t)count, sizeof(*ms), by_size);
    printf("%-32s %8.3f ms  %8.3f ms\n", what, ms[count / 2], ms[count * 99 / 100]);
}

int main(int argc, char **argv) {
    static const struct hub_events events = {.greeted = on_greeted, .failed = on_failed};
    char key[] = "/tmp/ppfs-handshake-XXXXXX";
    int pipes[2];
    count = argc > 1 ? atoi(argv[1]) : count;
    shaken = calloc((size_t)count, sizeof(*shaken));
    greeted = calloc((size_t)count, sizeof(*greeted));
    if (count < 1 || !shaken || !greeted || mkdtemp(key) == NULL || rmdir(key) || mount_key_make(key) || pipe(pipes))
        die("cannot make a key in /tmp");
    pid_t pid = fork();
    if (pid == 0)
        agent(key, pipes[1]);
    close(pipes[1]);
    if (pid < 0 || read(pipes[0], text, sizeof(text) - 1) <= 0)
        die("the other process did not start");
    address = text;
    start(TLS_PPFS, key, &events);
    next();
    event_base_dispatch(base);
    kill(pid, SIGKILL);
    unlink(key);
    print("connect and handshake", shaken);
    print("and the greeting of a session", greeted);
    return 0;
}
