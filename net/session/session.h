/* Sessions: frames both ways between a ppfs and a node, in order, each exactly once, over links that come and go.
 *
 * A process has one hub. Connections with the key (peer.h) are given to it; it greets the other hub and finds out
 * whether both still have the session that they had, or begins a new one. There is one session between two processes,
 * whoever dials and however often: a newer link takes the place of an older one. Frames are kept until the other side
 * has them.
 *
 * A link on which nothing came for silence_ms is closed. A session that heard nothing for timeout_ms, or whose other
 * side no longer knows it, is lost: it never comes back, and nothing that was sent in it can arrive later in another
 * one. */
#ifndef PPFS_SESSION_H
#define PPFS_SESSION_H
#include <event2/event.h>

#include "net/session/frame.h"
#include "net/tls/key.h"

#define SESSION_ID 16u
#define SESSION_KIND_MAX 239u          /* the kinds above are the session's own */
#define SESSION_PENDING_MAX (8u << 20) /* bytes, and 512 KiB for each ms of round trip, up to 58 MiB: session_full */

struct hub;
struct session;

struct hub_config {
    enum tls_side side;
    unsigned silence_ms; /* 0: 5000 */
    unsigned timeout_ms; /* 0: as silence_ms; at least that */
    /* The key with which a ppfs signs, or by which a node knows its ppfs; outlive the hub. */
    const struct mount_key *mount;
    const struct node_key *node;
};

struct hub_events {
    /* The connection given with tag now carries s. fresh: it is new; call session_watch before returning. Otherwise it
     * is one that this process has, and the owner of s has just been told linked(true). */
    void (*greeted)(void *arg, void *tag, struct session *s, bool fresh);
    /* The connection given with tag is closed: one sentence. */
    void (*failed)(void *arg, void *tag, const char *why);
};

struct session_events {
    void (*frame)(void *arg, const struct frame *f); /* body valid during the call only; may destroy the session */
    /* Its link went, for why (dial again), or another came: the session goes on. */
    void (*linked)(void *arg, bool up, const char *why);
    void (*room)(void *arg);                  /* it was full and is half empty */
    void (*sent)(void *arg);                  /* the link has taken all that waited (session_unsent); or NULL */
    void (*lost)(void *arg, const char *why); /* once; session_destroy it soon */
};

int hub_create(struct hub **out, struct event_base *base, const struct hub_config *config, const struct hub_events *ev,
               void *arg); /* 0 or -errno */
/* Accepts NULL; not from inside a callback. Its sessions must have been destroyed; open greetings end silently. */
void hub_destroy(struct hub *h);
const uint8_t *hub_id(const struct hub *h); /* SESSION_ID random bytes, the id of this process */
/* SESSION_ID bytes derived from hub_id, for discovery: whoever has the key for any node hears them, and must not be
 * able to greet as that hub. */
const uint8_t *hub_shown(const struct hub *h);

/* Takes conn (also on failure). greeted or failed comes once, later, with tag. 0, or -errno: -EBUSY when as many of
 * that key, or of that key and host, are being greeted as may be. */
int hub_greet(struct hub *h, struct tls_conn *conn, const char *address, void *tag);
/* The same for one that dialled us, without a tag; failed comes at once for an error, beginning with the address. */
void hub_accept(struct hub *h, struct tls_conn *conn, const char *address);
const char *hub_greet_error(int err);      /* the error in words, for a sentence */
void hub_forget(struct hub *h, void *tag); /* ends greetings with this tag, silently */

void session_watch(struct session *s, const struct session_events *ev, void *arg);
/* Ends it for both: the other side is told, where there is a link, and says lost. Accepts NULL; fine in every
 * callback. */
void session_destroy(struct session *s);

/* Queues one frame; body is copied. 0 or -ENOMEM, -EPIPE when lost, -EINVAL for a kind above SESSION_KIND_MAX. */
int session_send(struct session *s, uint8_t kind, uint64_t id, const void *body, uint32_t size);
void session_cork(struct session *s);            /* gather frames ... */
void session_uncork(struct session *s);          /* ... and write them in one go */
size_t session_pending(const struct session *s); /* bytes the other side is not known to have; 0: it has all */
bool session_full(struct session *s);            /* much is pending: senders stop until room() */
/* Bytes that wait for a link: all that a frame sent now has before it, the network apart. Senders of much that may wait
 * look here, so that urgent frames get through. */
size_t session_unsent(const struct session *s);

bool session_linked(const struct session *s);
const char *session_address(const struct session *s);       /* of its newest link */
const uint8_t *session_peer_shown(const struct session *s); /* hub_shown of the other side */
const uint8_t *session_key(const struct session *s);        /* TLS_KEY_ID bytes: the key that all its links had */
unsigned session_rtt(const struct session *s);              /* microseconds, smoothed; 0 when not known yet */
unsigned session_quiet(const struct session *s);      /* milliseconds since something was heard; steps of a heartbeat */
unsigned session_silence_ms(const struct session *s); /* as its hub was configured */
/* Sends a heartbeat at once, if it has a link; for session_answered. */
uint64_t session_probe(struct session *s);
/* Whether the peer has answered that or a later heartbeat, or has linked since. */
bool session_answered(const struct session *s, uint64_t probe);
uint64_t session_bytes(const struct session *s); /* received over the link that it has; 0: it has none */
bool session_silent(const struct session *s);    /* heartbeats were not answered, or there is no link */
#endif
