/* What the tests of sessions share: a ppfs and a node, two hubs in one loop, over real TLS and a relay. */
#ifndef PPFS_SESSIONRIG_H
#define PPFS_SESSIONRIG_H
#include "net/session/session_int.h"
#include "tests/unit/relay.h"

/* --- one process ------------------------------------------------------------------------------------------------- */
struct side {
    enum tls_side part;
    struct tls *tls;
    struct hub *hub;
    struct peer_listener *listener;
    struct peer_dial *dial;
    struct event *redial;
    const char *dials;
    struct session *session;
    int fresh, resumed, failed, up, down, rooms, drained, lost, seen;
    char sentence[512];
    uint64_t sent, got, bytes; /* numbered frames */
    bool wrong;
};

extern const struct session_events session_events;
extern const struct peer_listener_events listener_events;
extern struct side ppfs, node;

void send_numbered(struct side *x, unsigned count);
void on_frame(void *arg, const struct frame *f);
void redial(struct side *x);
void side_start(struct side *x, enum tls_side part, unsigned silence_ms, unsigned timeout_ms);
void side_stop(struct side *x);
/* ppfs dials, through the relay; or the node does. */
void rig_start(bool node_dials, unsigned silence_ms, unsigned timeout_ms);
void rig_stop(void);
bool both_up(void *arg);
bool all_there(void *arg);
bool rtt_known(void *arg);
/* One is enough: to the other a new link may have come before it noticed. */
bool one_down(void *arg);
bool ppfs_lost(void *arg);
bool node_lost(void *arg);
bool both_anew(void *arg);
#endif
