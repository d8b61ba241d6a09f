/* A relay between two ends in one loop (netrig.h), over loopback, which a test cuts, freezes and tampers with. */
#ifndef PPFS_TEST_RELAY_H
#define PPFS_TEST_RELAY_H
#include <event2/bufferevent.h>
#include <event2/listener.h>

#include "tests/unit/netrig.h"

enum { RELAY_PAIRS = 64 };

extern struct relay {
    struct evconnlistener *listener;
    char address[64]; /* to be dialled */
    const char *to;
    struct bufferevent *ends[RELAY_PAIRS][2]; /* the dialler's side, the other; NULL: free */
    int accepted;
    size_t passed; /* bytes */
    bool closed;   /* it takes nobody in */
    bool tampers;  /* it changes the next byte that it can */
} relay;

/* to: stays valid meanwhile. room: bytes that a socket of it holds, 0: as usual. */
void relay_start(const char *to, int room);
void relay_cut(void); /* ends all connections */
/* Lets nothing through any more on the connections there are: a cable that is pulled. one_way: only to the dialler. */
void relay_freeze(bool one_way);
void relay_stop(void);
#endif
