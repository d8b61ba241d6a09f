/* A link: frames over a connected stream socket, bare or with TLS, inside a libevent loop, never blocking.
 * Sending tries the socket at once (no extra turn of the loop) and queues only what it does not take. Of what is queued
 * a turn writes some MiB at most. */
#ifndef PPFS_LINK_H
#define PPFS_LINK_H
#include <event2/event.h>
#include <stdbool.h>

#include "net/session/frame.h"

struct link;
struct shared_buffer;
struct tls_conn;

struct link_events {
    void (*frame)(void *arg, const struct frame *f); /* body valid during the call only */
    void (*closed)(void *arg, int err);              /* 0 end of file, else errno; called once, link_destroy it soon */
    void (*drained)(void *arg); /* may be NULL: what waited for the socket is out, link_pending is 0 */
};

/* Takes ownership of fd (made non-blocking). Returns 0 or -errno (fd is then closed). */
int link_create(struct link **out, struct event_base *base, int fd, const struct link_events *ev, void *arg);
/* The same over a connection whose handshake is done; takes ownership of it. */
int link_create_tls(struct link **out, struct event_base *base, struct tls_conn *conn, const struct link_events *ev,
                    void *arg);
/* Other events and another arg, from the next event on; also in a callback. */
void link_watch(struct link *l, const struct link_events *ev, void *arg);
void link_destroy(struct link *l); /* accepts NULL; may be called from within a callback */

/* Queues one frame; body is copied. 0 or -errno (-EPIPE when closed). Failure of the peer comes later as closed(). */
int link_send(struct link *l, uint8_t kind, uint64_t id, const void *body, uint32_t size);
/* The same, of a body that lies in that memory, which is held until the socket has it: a large one is not copied. */
int link_send_shared(struct link *l, uint8_t kind, uint64_t id, const void *body, uint32_t size,
                     struct shared_buffer *shared);
/* Queues a small frame that brings the file of that memory along: the peer has its descriptor by the time that it has
 * the frame, and gets several in their order. A bare link's alone. 0 or -errno; -EAGAIN: so many are queued. */
int link_send_file(struct link *l, uint8_t kind, uint64_t id, const void *body, uint32_t size,
                   struct shared_buffer *shared);
/* Queues whole frames, encoded, that stay where they are until free_cb is called with them: when they are no longer
 * needed, once, also when the link goes; perhaps before this returns. 0 or -errno: free_cb is not called. */
int link_lend(struct link *l, const void *frames, size_t size,
              void (*free_cb)(const void *frames, size_t size, void *arg), void *arg);
void link_cork(struct link *l);               /* gather frames ... */
void link_uncork(struct link *l);             /* ... and write them in one go */
size_t link_pending(const struct link *l);    /* bytes queued and not yet taken by the socket */
uint64_t link_received(const struct link *l); /* bytes read since it was created, whole frames or not */
uint64_t link_given(const struct link *l);    /* bytes of the frames that it was given to send since then */

/* Stops (true) or goes on (false) reading, so that a fast peer waits for us. */
void link_hold(struct link *l, bool hold);
/* Reads what the peer of a bare link has sent up to now, held or not, and hardly more; the callbacks come inside. */
void link_drain(struct link *l);
#endif
