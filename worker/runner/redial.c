#include "worker/runner/redial.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "net/address.h"
#include "net/clock.h"
#include "net/event.h"

enum { PAUSE_MIN_MS = 200, PAUSE_MAX_MS = 30000, AGAIN_MAX_MS = 1000, LASTED_MS = 1000 };

struct redial {
    struct event_base *base;
    const struct tls *tls;
    struct dials *dials;
    TAILQ_ENTRY(redial) next; /* where it waits */
    bool found, waits;
    struct redial_events ev;
    void *arg;
    struct peer_dial *dial; /* under way */
    struct event *timer;
    unsigned tries;
    int64_t there_ms; /* since when it is there, CLOCK_MONOTONIC; 0: it is not */
    char address[ADDRESS_MAX];
};

/* --- whose turn it is -------------------------------------------------------------------------------------------- */
void dials_init(struct dials *d) {
    *d = (struct dials){0};
    TAILQ_INIT(&d->waiting);
    TAILQ_INIT(&d->waiting_found);
}

static struct redials *queue_of(struct redial *r) {
    return r->found ? &r->dials->waiting_found : &r->dials->waiting;
}

static bool has_room(const struct redial *r) {
    const struct dials *d = r->dials;
    return d->under_way < DIALS_MAX && (!r->found || d->found < DIALS_FOUND_MAX);
}

static void stop_waiting(struct redial *r) {
    if (r->waits)
        TAILQ_REMOVE(queue_of(r), r, next);
    r->waits = false;
}

static void on_dialled(void *arg, struct tls_conn *conn, const char *why);

static void begin(struct redial *r) {
    if (peer_dial(&r->dial, r->base, r->tls, r->address, on_dialled, r)) {
        redial_later(r); /* no memory, no descriptors: another time */
        return;
    }
    r->dials->under_way++;
    r->dials->found += r->found;
}

/* Begins the oldest waiting dials, as far as there is room. */
static void begin_waiting(struct dials *d) {
    struct redials *const queues[] = {&d->waiting, &d->waiting_found};

    for (int i = 0; i < 2; i++)
        for (struct redial *r; (r = TAILQ_FIRST(queues[i])) && has_room(r);) {
            stop_waiting(r);
            begin(r);
        }
}

static void end(struct redial *r) {
    if (!r->dial)
        return;
    peer_dial_destroy(r->dial);
    r->dial = NULL;
    r->dials->under_way--;
    r->dials->found -= r->found;
    begin_waiting(r->dials);
}

/* --- when -------------------------------------------------------------------------------------------------------- */
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

    end(r);
    if (conn) {
        r->ev.connected(r->arg, conn);
        return;
    }
    redial_later(r);
    r->ev.failed(r->arg, why);
}

static void on_timer(evutil_socket_t fd, short what, void *arg) {
    redial_now(arg);
}

void redial_now(struct redial *r) {
    if (r->dial || r->waits)
        return;
    event_del(r->timer);
    if (has_room(r)) {
        begin(r);
        return;
    }
    r->waits = true;
    TAILQ_INSERT_TAIL(queue_of(r), r, next);
}

void redial_named(struct redial *r) {
    bool waited = r->waits;

    stop_waiting(r);
    r->dials->found -= r->dial && r->found;
    r->found = false;
    if (waited)
        redial_now(r);
}

static void dial_after(struct redial *r, uint32_t most_ms) {
    int64_t ms = event_pause_ms(r->tries++, PAUSE_MIN_MS, most_ms);
    uint32_t chance = 0;

    tls_random(&chance, sizeof(chance));
    event_add_ms(r->timer, ms + chance % (ms / 2));
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
    stop_waiting(r);
}

void redial_refused(struct redial *r) {
    r->there_ms = 0;
}

unsigned redial_tries(const struct redial *r) {
    return r->tries;
}

const char *redial_address(const struct redial *r) {
    return r->address;
}

int redial_create(struct redial **out, struct event_base *base, const struct tls *tls, struct dials *dials,
                  const char *address, bool found, const struct redial_events *ev, void *arg) {
    struct redial *r = calloc(1, sizeof(*r));

    if (!r)
        return -ENOMEM;
    *r = (struct redial){.base = base, .tls = tls, .dials = dials, .found = found, .ev = *ev, .arg = arg};
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
    stop_waiting(r);
    end(r);
    event_drop(r->timer);
    free(r);
}
