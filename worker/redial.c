#include "worker/redial.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/address.h"
#include "net/clock.h"

enum { PAUSE_MIN_MS = 200, PAUSE_MAX_MS = 30000, AGAIN_MAX_MS = 1000, LASTED_MS = 1000 };

struct redial {
    struct event_base *base;
    const struct tls *tls;
    struct redial_events ev;
    void *arg;
    struct peer_dial *dial; /* under way */
    struct event *timer;
    unsigned tries;
    int64_t there_ms; /* since when it is there, CLOCK_MONOTONIC; 0: it is not */
    char address[ADDRESS_MAX];
};

/* It is there no more. Whether it was for long enough that the next try is the first again. */
static bool has_lasted(struct redial *r) {
    bool lasted = r->there_ms && clock_ms() - r->there_ms >= LASTED_MS;

    r->there_ms = 0;
    if (lasted)
        r->tries = 0;
    return lasted;
}

static void on_dialled(void *arg, struct tls_conn *conn, const char *why) {
    struct redial *r = arg;

    peer_dial_destroy(r->dial);
    r->dial = NULL;
    if (conn) {
        r->ev.connected(r->arg, conn);
        return;
    }
    redial_later(r);
    r->ev.failed(r->arg, why);
}

static void on_timer(evutil_socket_t fd, short what, void *arg) {
    (void)fd;
    (void)what;
    redial_now(arg);
}

void redial_now(struct redial *r) {
    if (r->dial)
        return;
    event_del(r->timer);
    if (peer_dial(&r->dial, r->base, r->tls, r->address, on_dialled, r))
        redial_later(r); /* no memory, no descriptors: another time */
}

static void dial_after(struct redial *r, uint32_t most_ms) {
    uint32_t chance = 0, ms = PAUSE_MIN_MS;

    for (unsigned i = 0; i < r->tries && ms < most_ms; i++)
        ms *= 2;
    r->tries++;
    if (ms > most_ms)
        ms = most_ms;
    if (tls_random(&chance, sizeof(chance)) == 0)
        ms += chance % (ms / 2);
    struct timeval pause = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
    event_add(r->timer, &pause);
}

void redial_later(struct redial *r) {
    has_lasted(r);
    dial_after(r, PAUSE_MAX_MS);
}

void redial_again(struct redial *r) {
    if (has_lasted(r))
        redial_now(r);
    else
        dial_after(r, AGAIN_MAX_MS);
}

void redial_calm(struct redial *r) {
    r->there_ms = clock_ms();
    event_del(r->timer);
}

unsigned redial_tries(const struct redial *r) {
    return r->tries;
}

const char *redial_address(const struct redial *r) {
    return r->address;
}

int redial_create(struct redial **out, struct event_base *base, const struct tls *tls, const char *address,
                  const struct redial_events *ev, void *arg) {
    struct redial *r = calloc(1, sizeof(*r));

    if (!r)
        return -ENOMEM;
    *r = (struct redial){.base = base, .tls = tls, .ev = *ev, .arg = arg};
    snprintf(r->address, sizeof(r->address), "%s", address);
    r->timer = evtimer_new(base, on_timer, r);
    if (!r->timer) {
        redial_destroy(r);
        return -ENOMEM;
    }
    *out = r;
    return 0;
}

void redial_destroy(struct redial *r) {
    if (!r)
        return;
    peer_dial_destroy(r->dial);
    if (r->timer)
        event_free(r->timer);
    free(r);
}
