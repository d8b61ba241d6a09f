/* Shared by proxy.c and proxy_hear.c. */
#ifndef PPFS_PROXY_PARTS_H
#define PPFS_PROXY_PARTS_H
#include <sys/queue.h>

#include "net/address.h"
#include "net/printable.h"
#include "net/proxy/proxy_int.h"
#include "net/proxy/proxy_wire.h"

enum { PROXY_FATES = 64 /* ends of connections whose ends of file were not read yet */ };

struct proxy_listener {
    LIST_ENTRY(proxy_listener) next;
    struct proxy *p;
    uint32_t id;
    int fd;
    struct acceptor_events ev;
    void *arg;
    struct refusals refusals;
};

struct proxy_discovery {
    LIST_ENTRY(proxy_discovery) next;
    struct proxy *p;
    uint32_t id;
    int sockets[DISCOVER_SOCKETS];
    struct discover_where where;
    uint8_t hub[SESSION_ID];
    uint16_t port;
    struct discover_core_events ev;
    void *arg;
    struct refusals refusals;
    unsigned found; /* in this minute */
    int64_t minute;
};

struct proxy_shake {
    LIST_ENTRY(proxy_shake) next;
    struct proxy *p; /* NULL: it is over */
    uint32_t id;
    handshake_cb *done;
    void *arg;
};

struct proxy {
    struct event_base *base;
    struct tls *tls;
    const char *program;
    struct proxy_events ev;
    void *arg;
    pid_t pid;               /* 0: it does not run */
    struct proxy_wire *wire; /* NULL: the same */
    int64_t started_ms;
    unsigned failures, unanswered;
    bool complained;
    struct event *retry, *beat;
    uint32_t last_id;
    LIST_HEAD(, proxy_listener) listeners;
    LIST_HEAD(, proxy_discovery) discoveries;
    LIST_HEAD(, proxy_shake) shakes;
    struct {
        uint32_t link;
        int err;
    } fates[PROXY_FATES]; /* a ring */
    unsigned fate;
};

#define proxy_say(p, ...) sentence_tell((p)->ev.log, (p)->arg, __VA_ARGS__)
/* What the network process says, checked. False: that is no message of its. */
bool proxy_hear(void *arg, const struct proxy_message *m, int fds[PROXY_FDS]);
#endif
