/* Shared by hub.c and session.c: the protocol of two hubs, and functions of a session for its hub.
 *
 *   kind         id                        body
 *   240 HELLO    0                         "ppfsnode", u32 version, u32 zero, hub id (16), then
 *                                          from a node: nonce (32); from a ppfs: signature (64)
 *   241 RESUME   frames received           session id (16; zeros: none with you), from a ppfs: the id of a new one (16)
 *   242 PING     frames received           u64 stamp, the sender's own; zero: not to be measured
 *   243 PONG     frames received           the stamp of the PING
 *   244 ACK      frames received           -
 *   245 BYE      0                         -
 *
 * The node says HELLO, the ppfs answers it with its own, which signs the nonce. Both answer HELLO with RESUME, and
 * begin when they have the other's RESUME: where both named the same session it goes on, and each sends again what the
 * other has not received; else both forget what they had and begin the new one. */
#ifndef PPFS_SESSION_INT_H
#define PPFS_SESSION_INT_H
#include <sys/queue.h>

#include "net/session/link.h"
#include "net/session/session.h"

#define SESSION_VERSION 5u
enum { SESSION_HELLO = 240, SESSION_RESUME, SESSION_PING, SESSION_PONG, SESSION_ACK, SESSION_BYE };
enum { SESSION_SILENCE_MS = 5000, SESSION_BEAT_MS = 1000 };

/* A session without a link, with the peer of that key. 0 or -ENOMEM. */
int session_create(struct session **out, struct hub *h, const uint8_t peer[SESSION_ID], const uint8_t id[SESSION_ID],
                   const uint8_t key[TLS_KEY_ID]);
/* Replaces its link by a greeted one, which is taken. received: frames that the peer has. 0, or -EPROTO: that cannot
 * be; the link is closed then, and nothing else has changed. */
int session_attach(struct session *s, struct link *link, const char *address, uint64_t received);
void session_tell_linked(struct session *s);           /* linked(true) */
void session_lose(struct session *s, const char *why); /* lost(); s may be gone afterwards */
/* Counts up or down; the session is read while the count is 0. The peer waits, and its silence does not count. */
void session_hold(struct session *s, bool hold);
const uint8_t *session_id(const struct session *s);
uint64_t session_received(const struct session *s); /* frames */

/* The hub_shown for that hub_id. 0 or -ENOTSUP. */
int hub_id_shown(const uint8_t id[SESSION_ID], uint8_t shown[SESSION_ID]);
struct event_base *hub_base(const struct hub *h);
const struct hub_config *hub_config(const struct hub *h); /* silence_ms and timeout_ms are set */
/* The sessions of a hub: what session.c calls when one begins and ends. */
struct hub_entry {
    LIST_ENTRY(hub_entry) next;
    uint8_t peer[SESSION_ID], key[TLS_KEY_ID];
    struct session *session;
};
int hub_add(struct hub *h, struct hub_entry *e); /* 0, -ENOMEM, -EEXIST: there is one with that peer and key */
void hub_remove(struct hub *h, struct hub_entry *e);
#endif
