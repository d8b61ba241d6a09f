/* A session: a send queue, a count of what came, and the link it has at the moment.
 *
 * Frames carry no numbers on the wire: TCP and TLS keep them in order, so both sides count, and the counts are compared
 * whenever a link begins. A frame leaves the send queue when the other side has said that it received it; it says so
 * with every heartbeat and every ACK_EVERY bytes. The send queue feeds the link WINDOW bytes at a time, so that nothing
 * is held twice.
 *
 * Time is CLOCK_MONOTONIC, looked at once a heartbeat. What counts as silence is time in which this process was
 * looking: when a heartbeat is late because we were stopped, or our loop was, the other side is not blamed for it.
 *
 * Every callback may destroy the session, so a call of one is the last thing that a function does with it. */
#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/clock.h"
#include "net/event.h"
#include "net/session/send_queue.h"
#include "net/address.h"
#include "net/session/session_int.h"
#include "net/states.h"

#define STAMP_NS UINT64_C(10000000000) /* a PONG later than that never comes */

enum { BYTES_A_MS = 512 * 1024, WAY_MS_MAX = 100 };
enum { WINDOW = 256 * 1024, ACK_EVERY = 256 * 1024, ANSWER_MAX = 2 * WINDOW };

enum session_state { UNLINKED, LINKED, LOST };
static const struct states session_states = {
    "session",
    (const struct state[]){[UNLINKED] = {"unlinked", 1 << LINKED | 1 << LOST},
                           [LINKED] = {"linked", 1 << UNLINKED | 1 << LINKED /* by a newer link */ | 1 << LOST},
                           [LOST] = {"lost", 0}},
    3};

struct session {
    enum session_state state;
    struct hub *hub;
    struct hub_entry entry; /* whose it is */
    uint8_t shown[SESSION_ID], id[SESSION_ID];
    struct session_events ev;
    void *arg;

    struct send_queue out;
    size_t unsent; /* bytes in it that no link was given yet */
    bool full;     /* it was full: room() is due */
    unsigned corked;
    unsigned holds;    /* link_hold of its link while there are any */
    uint64_t received; /* frames since it began */
    size_t unacked;    /* bytes of them since the last acknowledgement */

    struct link *link; /* NULL: none now */
    char address[ADDRESS_MAX];
    struct event *beat;
    int64_t beat_ms, ticked, heard; /* milliseconds; the last heartbeat, the last bytes heard */
    uint64_t heard_bytes;           /* link_received then */
    uint64_t stamp;                 /* nanoseconds, of the PING that is measured; 0: none */
    uint64_t rtt;                   /* nanoseconds, smoothed */
    uint64_t answered;              /* nanoseconds, when the newest answered PING was sent */
};

/* Drops the link; session_attach sets another. Both ends trace a session under the same number. */
static void become(struct session *s, enum session_state to) {
    uint32_t number;

    memcpy(&number, s->id, sizeof(number));
    states_changed(&session_states, number, s->address, s->state, to);
    s->state = to;
    link_destroy(s->link);
    s->link = NULL;
}

/* Ends the link, and says why; the session goes on. */
static void session_unlink(struct session *s, const char *what) {
    char why[ADDRESS_MAX + 100];

    become(s, UNLINKED);
    snprintf(why, sizeof(why), "%s %s", s->address, what);
    if (s->ev.linked)
        s->ev.linked(s->arg, false, why);
}

/* --- out --------------------------------------------------------------------------------------------------------- */
static void release(const void *bytes, size_t size, void *block) {
    send_queue_release(block);
}

/* Gives the link the next frames, up to WINDOW bytes. Large ones stay in the send queue until they are encrypted. */
static int session_feed(struct session *s) {
    struct send_queue_run run;

    for (size_t fed = 0; fed < WINDOW && send_queue_next(&s->out, WINDOW - fed, &run); fed += run.size) {
        send_queue_keep(&run);
        int err = link_lend(s->link, run.bytes, run.size, release, run.block);
        if (err) {
            send_queue_release(run.block);
            return err;
        }
        send_queue_advance(&s->out, &run);
        s->unsent -= run.size;
    }
    return 0;
}

static void session_pump(struct session *s) {
    int err = 0;

    while (!err && s->link && !s->corked && s->unsent && link_pending(s->link) < WINDOW) {
        link_cork(s->link);
        err = session_feed(s);
        link_uncork(s->link);
    } /* closed() tells of a broken link; without memory the next heartbeat tries again */
}

/* Sends a frame of the session itself; no answers for a peer that reads nothing, as they would pile up here. */
static void session_say(struct session *s, uint8_t kind, uint64_t stamp) {
    uint64_t body = htole64(stamp);

    if (!s->link || link_pending(s->link) > ANSWER_MAX)
        return;
    if (!link_send(s->link, kind, s->received, &body, kind == SESSION_ACK ? 0 : sizeof(body)))
        s->unacked = 0;
}

/* The most unacknowledged bytes: a fast network holds as many during a round trip. */
static size_t session_cap(const struct session *s) {
    uint64_t way_ms = s->rtt / 1000000u;
    return SESSION_PENDING_MAX + (size_t)(way_ms < WAY_MS_MAX ? way_ms : WAY_MS_MAX) * BYTES_A_MS;
}

bool session_full(struct session *s) {
    s->full |= s->out.bytes >= session_cap(s);
    return s->full;
}

/* The peer has the first number frames. */
static void session_acked(struct session *s, uint64_t number) {
    if (send_queue_ack(&s->out, number)) {
        session_unlink(s, "acknowledged what was never sent");
        return;
    }
    if (s->full && s->out.bytes < session_cap(s) / 2) {
        s->full = false;
        if (s->ev.room)
            s->ev.room(s->arg);
    }
}

int session_send(struct session *s, uint8_t kind, uint64_t id, const void *body, uint32_t size) {
    if (s->state == LOST)
        return -EPIPE;
    if (kind > SESSION_KIND_MAX || size > FRAME_BODY_MAX)
        return -EINVAL;
    int err = send_queue_add(&s->out, kind, id, body, size);
    if (err)
        return err;
    s->unsent += FRAME_HEADER + (size_t)size;
    session_full(s);
    session_pump(s);
    return 0;
}

void session_cork(struct session *s) {
    s->corked++;
}

void session_uncork(struct session *s) {
    if (s->corked && --s->corked == 0)
        session_pump(s);
}

size_t session_pending(const struct session *s) {
    return s->out.bytes;
}

size_t session_unsent(const struct session *s) {
    return s->unsent;
}

/* --- in ---------------------------------------------------------------------------------------------------------- */
static void session_pong(struct session *s, uint64_t stamp) {
    if (stamp > s->answered && stamp <= (uint64_t)clock_ns())
        s->answered = stamp;
    if (stamp && stamp == s->stamp) {
        uint64_t took = clock_ns() - stamp;
        s->rtt = s->rtt ? s->rtt - s->rtt / 8 + took / 8 : took;
        s->stamp = 0;
    }
}

static void on_frame(void *arg, const struct frame *f) {
    struct session *s = arg;
    uint64_t stamp = 0;

    if (f->kind <= SESSION_KIND_MAX) {
        s->received++;
        s->unacked += FRAME_HEADER + (size_t)f->size;
        if (s->unacked >= ACK_EVERY)
            session_say(s, SESSION_ACK, 0);
        s->ev.frame(s->arg, f);
        return;
    }
    if (f->size == sizeof(stamp))
        memcpy(&stamp, f->body, sizeof(stamp));
    if (f->kind == SESSION_PING && f->size == sizeof(stamp)) {
        session_say(s, SESSION_PONG, le64toh(stamp));
        session_acked(s, f->id);
    } else if (f->kind == SESSION_PONG && f->size == sizeof(stamp)) {
        session_pong(s, le64toh(stamp));
        session_acked(s, f->id);
    } else if (f->kind == SESSION_ACK && !f->size) {
        session_acked(s, f->id);
    } else if (f->kind == SESSION_BYE) {
        session_lose(s, "the other side has ended it");
    } else {
        session_unlink(s, "sent a frame that no session has");
    }
}

static void on_closed(void *arg, int err) {
    struct session *s = arg;
    char what[100];

    snprintf(what, sizeof(what), "is cut off: %s", strerror(err));
    switch (err) {
    case 0: session_unlink(s, "closed the connection"); break;
    case EPROTO: session_unlink(s, "sent what is no frame"); break;
    case EBADMSG: session_unlink(s, "is cut off: what came was changed on its way"); break;
    case EOWNERDEAD: session_unlink(s, "is cut off: the network process here died"); break;
    default: session_unlink(s, what);
    }
}

static void on_drained(void *arg) {
    struct session *s = arg;

    session_pump(s);
    if (!s->unsent && s->ev.sent)
        s->ev.sent(s->arg);
}

static const struct link_events link_events = {.frame = on_frame, .closed = on_closed, .drained = on_drained};

/* --- time -------------------------------------------------------------------------------------------------------- */
/* Who has heard the other side knows that it is there, and asks only what was not acknowledged yet. A node is silent
 * for one heartbeat, a ppfs for two, so that in a session at rest the node alone asks, every second heartbeat: a ppfs
 * has many of them. While we do not read, what came may be old, and the peer waits for a sign of life. */
static bool must_ask(const struct session *s, int64_t now) {
    int64_t rest = s->beat_ms * (hub_config(s->hub)->side == TLS_PPFS ? 3 : 1) / 2;
    return !s->rtt || s->holds || s->out.bytes || now - s->heard >= rest;
}

static void on_beat(evutil_socket_t fd, short what, void *arg) {
    struct session *s = arg;
    const struct hub_config *config = hub_config(s->hub);
    int64_t now = clock_ms(), late = now - s->ticked - s->beat_ms;

    if (late > s->beat_ms)
        s->heard = s->heard + late < now ? s->heard + late : now; /* a link may have come since */
    s->ticked = now;
    if (s->link && (s->holds || link_received(s->link) != s->heard_bytes)) {
        s->heard_bytes = link_received(s->link);
        s->heard = now;
    }
    int64_t quiet = now - s->heard;
    if (quiet > config->timeout_ms) {
        char why[64];
        snprintf(why, sizeof(why), "nothing was heard of it for %.3g s", (double)config->timeout_ms / 1e3);
        session_lose(s, why);
    } else if (s->link && quiet > config->silence_ms) {
        session_unlink(s, "has fallen silent");
    } else if (s->link && must_ask(s, now)) {
        uint64_t stamp = clock_ns();
        if (!s->stamp || stamp - s->stamp >= STAMP_NS)
            s->stamp = stamp;
        session_say(s, SESSION_PING, stamp);
        if (s->unsent) /* if the link takes all of it now, it tells nothing itself */
            on_drained(s);
    }
}

unsigned session_quiet(const struct session *s) {
    if (s->link && link_received(s->link) != s->heard_bytes)
        return 0;
    return (unsigned)(clock_ms() - s->heard);
}

uint64_t session_bytes(const struct session *s) {
    return s->link ? link_received(s->link) : 0;
}

uint64_t session_probe(struct session *s) {
    uint64_t now = clock_ns();

    session_say(s, SESSION_PING, now);
    return now;
}

bool session_answered(const struct session *s, uint64_t probe) {
    return s->answered >= probe;
}

bool session_silent(const struct session *s) {
    return !s->link || session_quiet(s) > 3 * s->beat_ms;
}

unsigned session_silence_ms(const struct session *s) {
    return hub_config(s->hub)->silence_ms;
}

unsigned session_rtt(const struct session *s) {
    return s->rtt ? (unsigned)(s->rtt / 1000u) + 1 : 0;
}

/* --- life -------------------------------------------------------------------------------------------------------- */
int session_create(struct session **out, struct hub *h, const uint8_t peer[SESSION_ID], const uint8_t id[SESSION_ID],
                   const uint8_t key[TLS_KEY_ID]) {
    struct session *s = calloc(1, sizeof(*s));
    unsigned beat_ms = hub_config(h)->silence_ms / 5;

    if (!s)
        return -ENOMEM;
    *s = (struct session){.hub = h};
    s->beat_ms = beat_ms > SESSION_BEAT_MS ? SESSION_BEAT_MS : beat_ms;
    if (!s->beat_ms)
        s->beat_ms = 1;
    s->beat = event_new(hub_base(h), -1, EV_PERSIST, on_beat, s);
    s->entry.session = s;
    memcpy(s->entry.peer, peer, SESSION_ID);
    memcpy(s->entry.key, key, TLS_KEY_ID);
    memcpy(s->id, id, SESSION_ID);
    s->ticked = s->heard = clock_ms();
    if (!s->beat || hub_id_shown(peer, s->shown) || event_add_ms(s->beat, s->beat_ms) || hub_add(h, &s->entry)) {
        event_drop(s->beat);
        free(s);
        return -ENOMEM;
    }
    *out = s;
    return 0;
}

int session_attach(struct session *s, struct link *link, const char *address, uint64_t received) {
    if (send_queue_ack(&s->out, received)) {
        link_destroy(link);
        return -EPROTO;
    }
    snprintf(s->address, sizeof(s->address), "%s", address);
    become(s, LINKED);
    s->link = link;
    link_watch(link, &link_events, s);
    if (s->holds)
        link_hold(link, true);
    s->heard = clock_ms();
    s->heard_bytes = link_received(link);
    s->unacked = 0; /* the greeting has acknowledged all */
    s->stamp = 0;
    s->answered = clock_ns();
    send_queue_rewind(&s->out);
    s->unsent = s->out.bytes;
    /* The round trip is measured at once. EV_READ, because EV_TIMEOUT would delay all later heartbeats by one. */
    event_active(s->beat, EV_READ, 0);
    return 0;
}

void session_tell_linked(struct session *s) {
    session_pump(s);
    if (s->ev.linked)
        s->ev.linked(s->arg, true, NULL);
}

void session_lose(struct session *s, const char *why) {
    become(s, LOST);
    hub_remove(s->hub, &s->entry);
    event_del(s->beat);
    send_queue_clear(&s->out);
    s->unsent = 0;
    if (s->ev.lost)
        s->ev.lost(s->arg, why);
}

void session_watch(struct session *s, const struct session_events *ev, void *arg) {
    s->ev = *ev;
    s->arg = arg;
}

void session_destroy(struct session *s) {
    if (!s)
        return;
    if (s->link)
        link_send(s->link, SESSION_BYE, 0, NULL, 0);
    if (s->state != LOST) {
        become(s, LOST);
        hub_remove(s->hub, &s->entry);
    }
    event_free(s->beat);
    send_queue_clear(&s->out);
    free(s);
}

void session_hold(struct session *s, bool hold) {
    if (hold)
        s->holds++;
    else if (s->holds)
        s->holds--;
    if (s->link)
        link_hold(s->link, s->holds > 0);
}

bool session_linked(const struct session *s) {
    return s->link;
}

const char *session_address(const struct session *s) {
    return s->address;
}

const uint8_t *session_peer_shown(const struct session *s) {
    return s->shown;
}

const uint8_t *session_key(const struct session *s) {
    return s->entry.key;
}

const uint8_t *session_id(const struct session *s) {
    return s->id;
}

uint64_t session_received(const struct session *s) {
    return s->received;
}
