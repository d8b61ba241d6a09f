/* What the tests of peers share: one end, which listens or dials. */
#ifndef PPFS_PEERRIG_H
#define PPFS_PEERRIG_H
#include "net/address.h"
#include "tests/unit/netrig.h"

/* --- both ends --------------------------------------------------------------------------------------------------- */
struct end {
    struct tls *tls;
    struct peer_listener *listener;
    struct peer_dial *dial;
    struct tls_conn *conn; /* what was accepted or dialled last */
    int accepted, refused, dialled, failed;
    char address[ADDRESS_MAX], sentence[512];
    struct link *link;
    uint64_t frames, bytes, sum;
    int closed;
};

struct expected {
    struct end *end;
    uint64_t frames;
};

extern const struct peer_listener_events listener_events;
extern const struct link_events link_events;

void listen_as(struct end *e, enum tls_side side, const char *key, const char *address);
void dial_as(struct end *e, enum tls_side side, const char *key, const char *address);
void end_free(struct end *e);
bool dial_over(void *arg);
bool has_accepted(void *arg);
bool has_refused(void *arg);
/* Forgets that anybody was complained about: a listener of its own for each case would do the same. */
void listen_again(struct end *e, enum tls_side side, const char *key);
unsigned open_descriptors(void);
void on_closed(void *arg, int err);
void link_up(struct end *e);
bool has_frames(void *arg);
bool has_closed(void *arg);
void exchange(struct end *from, struct end *to, uint8_t *body);
#endif
