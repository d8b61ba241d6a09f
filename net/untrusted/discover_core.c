/* A packet is PACKET bytes:
 *
 *   offset 0  "ppfsdisc"
 *          8  u8 version 1, u8 kind, u16 port (of an ANSWER), u32 zero
 *         16  u64 milliseconds since the epoch
 *         24  nonce, 16 bytes
 *         40  of an ANSWER: the nonce of the QUERY that it answers; else zeros
 *         56  hub_shown of who sends it, 16 bytes
 *         72  HMAC-SHA256 of all before, under the key for discovery
 *
 * all integers little endian. A ppfs sends QUERY to the group; a node sends HERE to the group when it has come, and an
 * ANSWER to who asked. A packet is looked at only when its signature is right; it counts only when its time is within
 * WINDOW_MS of ours and its nonce is new. The same packet comes once by each interface, so a nonce seen twice is
 * nothing to report. Nonces are kept for two windows, which is a table for more than a thousand machines; when it is
 * full, which only who has the key can bring about, nothing more is heard.
 *
 * Who has no key gets no answer, and neither does a copy of a query; but who shows such a copy within WINDOW_MS to a
 * node that has not seen it gets a signed answer from that node: he learns that it is there, and nothing else. Who has
 * a key may forge packets: they lead to a handshake or a greeting that fails. */
#include "net/untrusted/discover_core.h"

#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "net/address.h"
#include "net/clock.h"
#include "net/event.h"
#include "net/untrusted/discover_socket.h"

enum {
    PACKET = 104,
    SIGNED = 72,
    WINDOW_MS = 30000,
    NONCES = 16384, /* in sets, so that a nonce is looked for among a few: which set is for its first bytes to say */
    NONCE_SET = 32,
    QUERIES = 8,
    TURN = 64,
    REPORTED = 64,
    REPORT_MS = 500,
    OTHERS = 8 /* further addresses of one node, told later */
};
enum { QUERY = 1, ANSWER, HERE };
enum { PAUSE_MIN_MS = 1000, PAUSE_MAX_MS = 10000, NODE_PAUSE_MS = 10000, HASTE_MS = 100 };
static const char magic[8] = "ppfsdisc";

struct packet {
    uint8_t kind;
    uint16_t port;
    uint8_t nonce[SESSION_ID], answers[SESSION_ID], id[SESSION_ID];
};

struct discover_core {
    const struct tls *tls;
    struct discover_core_events ev;
    void *arg;
    struct discover_where where;
    uint8_t id[SESSION_ID];
    uint16_t port;
    int hear[2], talk[2]; /* -1: not this family */
    struct event *heard[2], *answered[2], *timer;
    int64_t pause_ms, asked_ms;           /* until the next QUERY; when the last was sent */
    uint8_t queries[QUERIES][SESSION_ID]; /* the nonces of our last ones */
    unsigned query;
    struct {
        uint8_t nonce[SESSION_ID];
        int64_t until_ms;
    } seen[NONCES];
    struct report {
        uint8_t id[SESSION_ID];
        int64_t until_ms;
        struct sockaddr_storage first, others[OTHERS]; /* its first address; the others are told after until_ms */
        unsigned count;                                /* of others */
    } reported[REPORTED];                              /* nodes found lately; a ring */
    struct event *late;                                /* some have others */
    unsigned report, round;
    struct refusals refusals;
};

static uint64_t wall_ms(void) {
    return (uint64_t)clock_wall_us() / 1000;
}

/* --- packets ----------------------------------------------------------------------------------------------------- */
static int encode(const struct discover_core *d, const struct packet *p, uint8_t out[PACKET]) {
    uint16_t port = htole16(p->port);
    uint64_t now = htole64(wall_ms());

    memset(out, 0, PACKET);
    memcpy(out, magic, sizeof(magic));
    out[8] = 1;
    out[9] = p->kind;
    memcpy(out + 10, &port, sizeof(port));
    memcpy(out + 16, &now, sizeof(now));
    memcpy(out + 24, p->nonce, SESSION_ID);
    memcpy(out + 40, p->answers, SESSION_ID);
    memcpy(out + 56, d->id, SESSION_ID);
    return tls_sign(d->tls, out, SIGNED, out + SIGNED);
}

static void refuse(struct discover_core *d, const struct sockaddr_storage *from, int reason) {
    struct origin who = address_origin(from);

    if (d->ev.refused && refusals_tell(&d->refusals, &who))
        d->ev.refused(d->arg, from, reason);
}

/* Whether a nonce is new; remembers it. */
static bool is_new(struct discover_core *d, const uint8_t nonce[SESSION_ID]) {
    int64_t now = clock_ms();
    int first = (nonce[0] << 8 | nonce[1]) % (NONCES / NONCE_SET) * NONCE_SET, place = -1;

    for (int i = first; i < first + NONCE_SET; i++) {
        if (d->seen[i].until_ms <= now)
            place = i;
        else if (!memcmp(d->seen[i].nonce, nonce, SESSION_ID))
            return false;
    }
    if (place < 0)
        return false;
    memcpy(d->seen[place].nonce, nonce, SESSION_ID);
    d->seen[place].until_ms = now + 2 * WINDOW_MS + 1000;
    return true;
}

/* Decodes a packet that counts. The signature is checked before anything but the magic. */
static bool decode(struct discover_core *d, const uint8_t *bytes, size_t size, const struct sockaddr_storage *from,
                   struct packet *out) {
    uint64_t sent;
    uint16_t port;

    if (size != PACKET || memcmp(bytes, magic, sizeof(magic)))
        return false; /* somebody else's */
    if (!tls_verify(d->tls, bytes, SIGNED, bytes + SIGNED)) {
        refuse(d, from, DISCOVER_FOREIGN);
        return false;
    }
    memcpy(&sent, bytes + 16, sizeof(sent));
    int64_t off = (int64_t)(le64toh(sent) - wall_ms());
    if (off > WINDOW_MS || off < -WINDOW_MS) {
        refuse(d, from, DISCOVER_CLOCK);
        return false;
    }
    if (bytes[8] != 1 || !is_new(d, bytes + 24))
        return false;
    memcpy(&port, bytes + 10, sizeof(port));
    *out = (struct packet){.kind = bytes[9], .port = le16toh(port)};
    memcpy(out->nonce, bytes + 24, SESSION_ID);
    memcpy(out->answers, bytes + 40, SESSION_ID);
    memcpy(out->id, bytes + 56, SESSION_ID);
    return true;
}

/* --- sending ----------------------------------------------------------------------------------------------------- */
/* Sends to the group of each family, with a nonce of its own, so that nodes answer in both; the families take turns in
 * being first. */
static void say(struct discover_core *d, uint8_t kind) {
    struct packet p = {.kind = kind};
    uint8_t bytes[PACKET];
    unsigned first = d->round++ % 2;

    for (unsigned k = 0; k < 2; k++) {
        int i = (int)((first + k) % 2);
        if (d->talk[i] < 0 || tls_random(p.nonce, SESSION_ID) || encode(d, &p, bytes))
            continue;
        memcpy(d->queries[d->query++ % QUERIES], p.nonce, SESSION_ID);
        discover_send(&d->where, i, d->talk[i], bytes, PACKET);
    }
}

static void answer(struct discover_core *d, int i, const struct packet *query, const struct sockaddr_storage *to) {
    struct packet p = {.kind = ANSWER, .port = d->port};
    socklen_t size = i ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
    uint8_t bytes[PACKET];

    memcpy(p.answers, query->nonce, SESSION_ID);
    if (!tls_random(p.nonce, SESSION_ID) && !encode(d, &p, bytes))
        sendto(d->talk[i], bytes, PACKET, MSG_DONTWAIT | MSG_NOSIGNAL, (const struct sockaddr *)to, size);
}

static void on_timer(evutil_socket_t fd, short what, void *arg) {
    struct discover_core *d = arg;
    uint16_t chance = 0;

    for (int i = 0; i < 2; i++)
        if (d->hear[i] >= 0)
            discover_join(&d->where, i, d->hear[i]);
    if (tls_side(d->tls) == TLS_NODE) {
        if (!d->asked_ms) /* the first time */
            say(d, HERE);
        d->asked_ms = 1;
        event_add_ms(d->timer, NODE_PAUSE_MS);
        return;
    }
    say(d, QUERY);
    d->asked_ms = clock_ms();
    tls_random(&chance, sizeof(chance));
    event_add_ms(d->timer, d->pause_ms * (90 + chance % 20) / 100);
    d->pause_ms = d->pause_ms * 2 > PAUSE_MAX_MS ? PAUSE_MAX_MS : d->pause_ms * 2;
}

/* --- receiving --------------------------------------------------------------------------------------------------- */
static bool is_ours(const struct discover_core *d, const uint8_t nonce[SESSION_ID]) {
    for (unsigned i = 0; i < QUERIES && i < d->query; i++)
        if (!memcmp(d->queries[i], nonce, SESSION_ID))
            return true;
    return false;
}

static void tell_others(struct discover_core *d, struct report *r) {
    for (unsigned i = 0; i < r->count; i++)
        d->ev.found(d->arg, &r->others[i], r->id);
    r->count = 0;
}

static void on_late(evutil_socket_t fd, short what, void *arg) {
    struct discover_core *d = arg;

    for (int i = 0; i < REPORTED; i++)
        tell_others(d, &d->reported[i]);
}

/* A node answers from several addresses. The first is told at once, the others a little later: whoever has a key can
 * answer in its name, so the first may be wrong. */
static void report(struct discover_core *d, const struct sockaddr_storage *at, const uint8_t id[SESSION_ID]) {
    static const struct timeval pause = {.tv_usec = REPORT_MS * 1000};
    int64_t now = clock_ms();
    struct report *r;

    for (int i = 0; i < REPORTED; i++) {
        r = &d->reported[i];
        if (r->until_ms <= now || memcmp(r->id, id, SESSION_ID))
            continue;
        bool told = !memcmp(&r->first, at, sizeof(*at));
        for (unsigned k = 0; k < r->count; k++)
            told |= !memcmp(&r->others[k], at, sizeof(*at));
        if (!told && r->count < OTHERS)
            r->others[r->count++] = *at;
        if (!event_pending(d->late, EV_TIMEOUT, NULL))
            event_add(d->late, &pause);
        return;
    }
    r = &d->reported[d->report++ % REPORTED];
    tell_others(d, r);
    *r = (struct report){.until_ms = now + REPORT_MS, .first = *at};
    memcpy(r->id, id, SESSION_ID);
    d->ev.found(d->arg, at, id);
}

static void on_packet(struct discover_core *d, int i, const struct packet *p, const struct sockaddr_storage *from) {
    bool ppfs = tls_side(d->tls) == TLS_PPFS;

    if (!ppfs && p->kind == QUERY)
        answer(d, i, p, from);
    if (ppfs && p->kind == HERE) {
        int64_t since = clock_ms() - d->asked_ms;
        d->pause_ms = PAUSE_MIN_MS;
        event_add_ms(d->timer, since > HASTE_MS ? 0 : HASTE_MS - since);
    }
    if (ppfs && p->kind == ANSWER && p->port && is_ours(d, p->answers)) {
        struct sockaddr_storage at = *from;
        if (i)
            ((struct sockaddr_in6 *)&at)->sin6_port = htobe16(p->port);
        else
            ((struct sockaddr_in *)&at)->sin_port = htobe16(p->port);
        report(d, &at, p->id);
    }
}

static void on_readable(evutil_socket_t fd, short what, void *arg) {
    struct discover_core *d = arg;

    for (int turn = 0; turn < TURN; turn++) {
        uint8_t bytes[PACKET + 1];
        struct sockaddr_storage from = {0};
        socklen_t size = sizeof(from);
        struct packet p;
        ssize_t n = recvfrom(fd, bytes, sizeof(bytes), MSG_DONTWAIT, (struct sockaddr *)&from, &size);
        if (n < 0)
            return;
        if (decode(d, bytes, (size_t)n, &from, &p))
            on_packet(d, from.ss_family == AF_INET6, &p, &from);
    }
}

/* --- life -------------------------------------------------------------------------------------------------------- */
int discover_core_create(struct discover_core **out, struct event_base *base, const struct tls *tls,
                         const struct discover_where *where, const int sockets[DISCOVER_SOCKETS],
                         const uint8_t id[SESSION_ID], uint16_t port, const struct discover_core_events *ev,
                         void *arg) {
    struct discover_core *d = calloc(1, sizeof(*d));
    bool whole = true;

    if (!d) {
        discover_close(sockets);
        return -ENOMEM;
    }
    d->tls = tls; /* one by one: it is too large for a copy on the stack */
    d->ev = *ev;
    d->arg = arg;
    d->where = *where;
    d->port = port;
    d->pause_ms = PAUSE_MIN_MS;
    memcpy(d->id, id, SESSION_ID);
    for (int i = 0; i < 2; i++) {
        d->hear[i] = sockets[2 * i];
        d->talk[i] = sockets[2 * i + 1];
        if (d->hear[i] < 0)
            continue;
        d->heard[i] = event_new(base, d->hear[i], EV_READ | EV_PERSIST, on_readable, d);
        d->answered[i] = event_new(base, d->talk[i], EV_READ | EV_PERSIST, on_readable, d);
        whole &= d->heard[i] && d->answered[i] && !event_add(d->heard[i], NULL) && !event_add(d->answered[i], NULL);
    }
    d->timer = evtimer_new(base, on_timer, d);
    d->late = evtimer_new(base, on_late, d);
    if (!whole || !d->timer || !d->late) {
        discover_core_destroy(d);
        return -ENOMEM;
    }
    event_add_ms(d->timer, 0);
    *out = d;
    return 0;
}

void discover_core_destroy(struct discover_core *d) {
    if (!d)
        return;
    for (int i = 0; i < 2; i++) {
        event_drop(d->heard[i]);
        event_drop(d->answered[i]);
        if (d->hear[i] >= 0)
            close(d->hear[i]);
        if (d->talk[i] >= 0)
            close(d->talk[i]);
    }
    event_drop(d->timer);
    event_drop(d->late);
    free(d);
}
