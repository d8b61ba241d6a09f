/* An address that is dialled until somebody with the key answers, with pauses that grow: 0.2 s, doubled up to 30 s,
 * each by chance up to half longer, so that a hundred nodes do not knock at the same moment. Who has a connection
 * decides when to dial again. */
#ifndef PPFS_REDIAL_H
#define PPFS_REDIAL_H
#include <sys/queue.h>

#include "net/peer/peer.h"

struct redial;

/* The dials of one process: DIALS_MAX are under way at once, and DIALS_FOUND_MAX of these to addresses that only
 * discovery has named, for who has a key can forge as many as he likes. The rest wait in order, those found last. */
#define DIALS_MAX 256u
#define DIALS_FOUND_MAX 128u
TAILQ_HEAD(redials, redial);
struct dials {
    struct redials waiting, waiting_found;
    unsigned under_way, found;
};
void dials_init(struct dials *d);

/* Called from the loop, never from inside a redial_* call; both may destroy it. */
struct redial_events {
    void (*connected)(void *arg, struct tls_conn *conn); /* takes conn; nothing more is dialled until it is told to */
    void (*failed)(void *arg, const char *why);          /* one sentence; the next try is under way */
};

/* address: as peer_check_address has it; found: discovery has named it. tls and dials must outlive it. Dials nothing
 * yet. 0 or -ENOMEM. */
int redial_create(struct redial **out, struct event_base *base, const struct tls *tls, struct dials *dials,
                  const char *address, bool found, const struct redial_events *ev, void *arg);
void redial_destroy(struct redial *r); /* accepts NULL */
const char *redial_address(const struct redial *r);
void redial_named(struct redial *r);   /* it was found, and somebody has named it since */
void redial_now(struct redial *r);     /* at once, or when others make room for it; unless it is under way */
void redial_later(struct redial *r);   /* after a pause, a longer one each time */
void redial_calm(struct redial *r);    /* it is there: once that has lasted a second, pauses are short again */
void redial_refused(struct redial *r); /* who is there does not want us now: the pauses go on growing */
/* The link that it made has gone, and what it carried waits: at once; but after a pause, of a second at most, where it
 * did not last, else what breaks every connection would keep both ends busy with nothing else. */
void redial_again(struct redial *r);
unsigned redial_tries(const struct redial *r); /* pauses since it was there */
#endif
