/* Messages between a process and its network process (proxy.h), over a SOCK_SEQPACKET socket pair: of one size, with
 * descriptors. What does not go at once waits, in order. Nothing calls back from inside proxy_wire_send. */
#ifndef PPFS_PROXY_WIRE_H
#define PPFS_PROXY_WIRE_H
#include <event2/event.h>
#include <stdbool.h>
#include <sys/socket.h>

#include "net/io.h"
#include "net/untrusted/discover_socket.h"
#include "net/session/session.h"

#define PROXY_FDS IO_FDS

enum proxy_kind {
    /* to the network process; id is chosen by who sends */
    PROXY_START = 1, /* the first: side, and key.psk is the key for discovery */
    PROXY_KEY,       /* key: one more that connections may have */
    PROXY_NO_KEY,    /* key.id: not any more */
    PROXY_LISTEN,    /* id, a listening socket: accept there */
    PROXY_SHAKE,     /* id, flag: dialled; a connected or connecting socket: do the handshake */
    PROXY_DISCOVER,  /* id, where, hub, port; hear and talk of those families that are used */
    PROXY_END,       /* id: let the listener, handshake or discovery of that id be */
    PROXY_PING,
    /* from it */
    PROXY_READY,   /* flag: how it runs, JAIL_...; err: why not all of it */
    PROXY_KNOWN,   /* id of a listener, link, address, proof, the link's socket: somebody with a key */
    PROXY_REFUSED, /* id of a listener or of a discovery, address, err */
    PROXY_SHAKEN,  /* id, err; 0: link, proof, the link's socket */
    PROXY_FATE,    /* link, err: why it ends; then its socket is closed */
    PROXY_FOUND,   /* id, address, hub: a node listens there */
    PROXY_PONG
};

struct proxy_message {
    uint32_t kind, id, link, flag;
    int32_t err; /* 0 or -errno */
    uint32_t port;
    struct sockaddr_storage address;
    struct tls_proof proof;
    struct tls_key key;
    struct discover_where where;
    uint8_t hub[SESSION_ID];
};

struct proxy_wire;
struct proxy_wire_events {
    /* May not destroy the wire. It sets descriptors that it takes to -1; the others are closed. False: the message
     * makes no sense, and closed() follows. */
    bool (*message)(void *arg, const struct proxy_message *m, int fds[PROXY_FDS]);
    void (*closed)(void *arg); /* once; proxy_wire_destroy it soon, also from inside */
};

/* Takes fd, also on failure. 0 or -errno. */
int proxy_wire_create(struct proxy_wire **out, struct event_base *base, int fd, const struct proxy_wire_events *ev,
                      void *arg);
void proxy_wire_destroy(struct proxy_wire *w); /* accepts NULL */
/* fds: up to PROXY_FDS, which stay the caller's. 0 or -errno (-EPIPE: it is closed). */
int proxy_wire_send(struct proxy_wire *w, const struct proxy_message *m, const int *fds, unsigned fd_count);
bool proxy_wire_ended(const struct proxy_wire *w); /* the other side has closed it; closed() has come or will */
/* Reads messages, and finds the first untold one of that kind about that link. */
const struct proxy_message *proxy_wire_find(struct proxy_wire *w, enum proxy_kind kind, uint32_t link);
#endif
