#include "tests/unit/relay.h"

#include <event2/buffer.h>

struct relay relay;

static void close_pair(struct bufferevent **pair) {
    for (int end = 0; end < 2; end++)
        if (pair[end])
            bufferevent_free(pair[end]);
    pair[0] = pair[1] = NULL;
}

static void on_read(struct bufferevent *from, void *arg) {
    struct bufferevent **pair = arg;
    struct evbuffer *in = bufferevent_get_input(from);
    if (relay.tampers)
        evbuffer_pullup(in, -1)[evbuffer_get_length(in) - 1] ^= 1;
    relay.tampers = false;
    relay.passed += evbuffer_get_length(in);
    bufferevent_write_buffer(pair[from == pair[0]], in);
}

static void on_end(struct bufferevent *end, short what, void *arg) {
    struct bufferevent **pair = arg, *other = pair[end == pair[0]];
    if (!(what & (BEV_EVENT_EOF | BEV_EVENT_ERROR)))
        return;
    evbuffer_unfreeze(bufferevent_get_output(other), 1);
    evbuffer_write(bufferevent_get_output(other), bufferevent_getfd(other)); /* what came just before the end */
    close_pair(pair);
}

static void on_accept(struct evconnlistener *l, evutil_socket_t fd, struct sockaddr *from, int size, void *arg) {
    int i = 0;
    while (i < RELAY_PAIRS && relay.ends[i][0])
        i++;
    if (relay.closed) {
        close(fd);
        return;
    }
    assert_true(i < RELAY_PAIRS);
    int to = connect_to(relay.to);
    evutil_make_socket_nonblocking(to);
    for (int end = 0; end < 2; end++) {
        relay.ends[i][end] = bufferevent_socket_new(base, end ? to : fd, BEV_OPT_CLOSE_ON_FREE);
        bufferevent_setcb(relay.ends[i][end], on_read, NULL, on_end, relay.ends[i]);
        bufferevent_enable(relay.ends[i][end], EV_READ | EV_WRITE);
    }
    relay.accepted++;
}

void relay_start(const char *to, int room) {
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t size = sizeof(at);
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    relay = (struct relay){.to = to};
    signal(SIGPIPE, SIG_IGN); /* the relay's own writes to what was cut; test_peer sees that ours raise none */
    relay.listener =
        evconnlistener_new_bind(base, on_accept, NULL, LEV_OPT_CLOSE_ON_FREE, 64, (struct sockaddr *)&at, sizeof(at));
    assert_non_null(relay.listener);
    int fd = evconnlistener_get_fd(relay.listener);
    if (room) /* inherited */
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room));
    getsockname(fd, (struct sockaddr *)&at, &size);
    snprintf(relay.address, sizeof(relay.address), "127.0.0.1:%d", ntohs(at.sin_port));
}

void relay_cut(void) {
    for (int i = 0; i < RELAY_PAIRS; i++)
        close_pair(relay.ends[i]);
}

void relay_freeze(bool one_way) {
    for (int i = 0; i < RELAY_PAIRS; i++)
        for (int end = one_way; end < 2; end++)
            if (relay.ends[i][end])
                bufferevent_disable(relay.ends[i][end], EV_READ);
}

void relay_stop(void) {
    relay_cut();
    if (relay.listener)
        evconnlistener_free(relay.listener);
    relay.listener = NULL;
}
