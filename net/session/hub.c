/* The hub greets peers with a key, and joins links to sessions. In its HELLO a ppfs signs the node's HELLO with its
 * nonce: a node obeys no other peer, not even one with the same key, and no replayed greeting, even if its network
 * process is taken over. A session goes on with its own key only, so no node gets another's session.
 *
 * Our RESUME must still be true when the other side's arrives, or the two ends would disagree about the session and its
 * position. So a ppfs lets only one connection of a hub at a time get that far, and ends a greeting whose RESUME is no
 * longer true. Until the greeting is over the session does not read its old link: later frames there are sent again. */
#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/address.h"
#include "net/digest.h"
#include "net/event.h"
#include "net/session/session_int.h"

enum { GREETINGS_MAX = 512, SESSIONS_MAX = 8192 };
/* Sizes of a HELLO: its common beginning, all of a node's, all of a ppfs's. */
enum { HELLO_SIZE = 32, ASKED_SIZE = HELLO_SIZE + KEY_NONCE, SIGNED_SIZE = HELLO_SIZE + KEY_SIGNATURE };
static const char magic[8] = "ppfsnode";
static const uint8_t none[SESSION_ID];

struct greeting {
    struct hub *hub;
    LIST_ENTRY(greeting) next;
    struct link *link;
    struct event *timer;
    void *tag;
    char address[ADDRESS_MAX];
    struct tls_proof proof;
    uint8_t nonce[KEY_NONCE]; /* the node's */
    bool resumed;             /* their HELLO has come and our RESUME is out; the next three are set */
    uint8_t peer[SESSION_ID];
    uint8_t said[SESSION_ID]; /* our session with the peer, none: zeros */
    uint8_t fresh[SESSION_ID];
};

struct hub {
    struct event_base *base;
    struct hub_config config;
    struct hub_events ev;
    void *arg;
    uint8_t id[SESSION_ID], shown[SESSION_ID];
    LIST_HEAD(, hub_entry) sessions;
    void *by_whom; /* the same as a tree, tsearch(3): peers choose their ids, so no hash */
    LIST_HEAD(, greeting) greetings;
};

/* --- shares ------------------------------------------------------------------------------------------------------ */
/* Counts of greetings or of sessions: all, those with one key, and of these those from one host (an origin of
 * address.h). */
struct crowd {
    unsigned all, key, host;
};

static void crowd_count(struct crowd *c, bool key, const char *a, const char *b) {
    c->all++;
    c->key += key;
    c->host += key && address_same_origin(a, b);
}

/* Whether there is a place for one more. One key gets as many places as it leaves free, and one host with it as many as
 * it leaves to others: so another key, or another host, finds a place however many keys were stolen. One key alone gets
 * half of all, one host a third. */
static bool crowd_admits(const struct crowd *c, unsigned most) {
    unsigned left = most - c->all;

    return c->key < left && c->host < left - c->key;
}

/* --- sessions ---------------------------------------------------------------------------------------------------- */
/* Another key makes another peer, whatever its id. */
static int compare(const void *a, const void *b) {
    const struct hub_entry *x = a, *y = b;
    int order = memcmp(x->peer, y->peer, SESSION_ID);

    return order ? order : memcmp(x->key, y->key, TLS_KEY_ID);
}

static struct session *hub_find(const struct hub *h, const uint8_t peer[SESSION_ID], const uint8_t key[TLS_KEY_ID]) {
    struct hub_entry wanted;

    memcpy(wanted.peer, peer, SESSION_ID);
    memcpy(wanted.key, key, TLS_KEY_ID);
    struct hub_entry **found = tfind(&wanted, &h->by_whom, compare);
    return found ? (*found)->session : NULL;
}

static bool hub_has_room(const struct hub *h, const uint8_t key[TLS_KEY_ID], const char *address) {
    struct crowd c = {0};
    const struct hub_entry *e;

    LIST_FOREACH(e, &h->sessions, next) {
        crowd_count(&c, !memcmp(e->key, key, TLS_KEY_ID), session_address(e->session), address);
    }
    return crowd_admits(&c, SESSIONS_MAX);
}

int hub_add(struct hub *h, struct hub_entry *e) {
    struct hub_entry **at = tsearch(e, &h->by_whom, compare);

    if (!at || *at != e)
        return at ? -EEXIST : -ENOMEM;
    LIST_INSERT_HEAD(&h->sessions, e, next);
    return 0;
}

void hub_remove(struct hub *h, struct hub_entry *e) {
    LIST_REMOVE(e, next);
    tdelete(e, &h->by_whom, compare);
}

struct event_base *hub_base(const struct hub *h) {
    return h->base;
}

const struct hub_config *hub_config(const struct hub *h) {
    return &h->config;
}

const uint8_t *hub_id(const struct hub *h) {
    return h->id;
}

const uint8_t *hub_shown(const struct hub *h) {
    return h->shown;
}

int hub_id_shown(const uint8_t id[SESSION_ID], uint8_t shown[SESSION_ID]) {
    uint8_t hash[DIGEST_SIZE];
    int err = digest(id, SESSION_ID, hash);

    if (!err)
        memcpy(shown, hash, SESSION_ID);
    return err;
}

/* --- greetings --------------------------------------------------------------------------------------------------- */
/* The session that our RESUME named, if we still have it. */
static struct session *greeting_session(const struct greeting *g) {
    struct session *s = g->resumed ? hub_find(g->hub, g->peer, g->proof.key) : NULL;
    return s && !memcmp(session_id(s), g->said, SESSION_ID) ? s : NULL;
}

static void greeting_destroy(struct greeting *g) {
    struct session *s = greeting_session(g);

    if (s)
        session_hold(s, false);
    LIST_REMOVE(g, next);
    link_destroy(g->link);
    event_drop(g->timer);
    free(g);
}

static void greeting_fail(struct greeting *g, const char *what) {
    struct hub *h = g->hub;
    void *tag = g->tag;
    char why[ADDRESS_MAX + 200];

    snprintf(why, sizeof(why), "%s %s", g->address, what);
    greeting_destroy(g);
    h->ev.failed(h->arg, tag, why);
}

/* Another greeting with the same hub that has got as far as RESUME. */
static bool rival(const struct greeting *mine) {
    const struct greeting *g;

    LIST_FOREACH(g, &mine->hub->greetings, next)
        if (g != mine && g->resumed && !memcmp(g->peer, mine->peer, SESSION_ID) &&
            !memcmp(g->proof.key, mine->proof.key, TLS_KEY_ID))
            return true;
    return false;
}

/* The claim that the ppfs of this greeting signs. */
static struct key_greeting greeting_claim(const struct greeting *g) {
    struct hub *h = g->hub;
    struct key_greeting claim;
    bool ppfs = h->config.side == TLS_PPFS;

    memcpy(claim.binding, g->proof.binding, TLS_BINDING);
    memcpy(claim.nonce, g->nonce, KEY_NONCE);
    memcpy(claim.ppfs, ppfs ? h->id : g->peer, SESSION_ID);
    memcpy(claim.node, ppfs ? g->peer : h->id, SESSION_ID);
    return claim;
}

static int say_hello(struct greeting *g, const void *rest, uint32_t size) {
    uint8_t hello[SIGNED_SIZE] = {0};
    uint32_t version = htole32(SESSION_VERSION);

    memcpy(hello, magic, sizeof(magic));
    memcpy(hello + sizeof(magic), &version, sizeof(version));
    memcpy(hello + HELLO_SIZE - SESSION_ID, g->hub->id, SESSION_ID);
    memcpy(hello + HELLO_SIZE, rest, size);
    return link_send(g->link, SESSION_HELLO, 0, hello, HELLO_SIZE + size);
}

/* To a node that has asked for it. */
static int say_signed(struct greeting *g) {
    struct key_greeting claim = greeting_claim(g);
    uint8_t signature[KEY_SIGNATURE];
    int err = mount_key_sign(g->hub->config.mount, &claim, signature);

    return err ? err : say_hello(g, signature, sizeof(signature));
}

/* Checks the other side's HELLO. A ppfs proves more than its key, before a node obeys it in anything. */
static bool proves_itself(struct greeting *g, const struct frame *f) {
    const struct hub_config *c = &g->hub->config;

    memcpy(g->peer, f->body + HELLO_SIZE - SESSION_ID, SESSION_ID);
    if (c->side == TLS_PPFS && f->size == ASKED_SIZE) {
        memcpy(g->nonce, f->body + HELLO_SIZE, KEY_NONCE);
        return true;
    }
    struct key_greeting claim = greeting_claim(g);
    return c->side == TLS_NODE && f->size == SIGNED_SIZE && node_key_verify(c->node, &claim, f->body + HELLO_SIZE);
}

static void on_hello(struct greeting *g, const struct frame *f) {
    struct hub *h = g->hub;
    char what[120];
    uint32_t version;
    uint8_t body[2 * SESSION_ID];

    if (f->id || f->size < HELLO_SIZE || memcmp(f->body, magic, sizeof(magic))) {
        greeting_fail(g, "does not greet as a ppfs or ppfs-node does");
        return;
    }
    memcpy(&version, f->body + sizeof(magic), sizeof(version));
    if (le32toh(version) != SESSION_VERSION) {
        snprintf(what, sizeof(what),
                 "speaks version %u of the protocol and we speak version %u: install the same ppfs on both",
                 le32toh(version), SESSION_VERSION);
        if (h->config.side == TLS_PPFS)
            say_hello(g, none, 0); /* so that it can say the same */
        greeting_fail(g, what);
        return;
    }
    if (!proves_itself(g, f)) {
        greeting_fail(g, h->config.side == TLS_NODE
                             ? "has not the secret of the mount that made our key: it may have stolen a "
                               "node's key (if its mount got a new secret, give this node a new key)"
                             : "does not greet as a ppfs-node does");
        return;
    }
    if (h->config.side == TLS_PPFS && rival(g)) {
        greeting_fail(g, "is being greeted already");
        return;
    }
    struct session *s = hub_find(h, g->peer, g->proof.key);
    memcpy(g->said, s ? session_id(s) : none, SESSION_ID);
    if (h->config.side == TLS_PPFS && tls_random(g->fresh, SESSION_ID)) {
        greeting_fail(g, "cannot be greeted: no random bytes here");
        return;
    }
    if (h->config.side == TLS_PPFS && say_signed(g)) {
        greeting_fail(g, "cannot be greeted: out of memory");
        return;
    }
    memcpy(body, g->said, SESSION_ID);
    memcpy(body + SESSION_ID, g->fresh, SESSION_ID);
    g->resumed = true;
    if (s)
        session_hold(s, true);
    link_send(g->link, SESSION_RESUME, s ? session_received(s) : 0, body, sizeof(body));
}

/* Both go on with their session. */
static void greeting_resume(struct greeting *g, struct session *s, uint64_t received) {
    struct hub *h = g->hub;
    struct link *link = g->link;
    void *tag = g->tag;
    uint8_t peer[SESSION_ID], key[TLS_KEY_ID];

    memcpy(peer, g->peer, SESSION_ID);
    memcpy(key, g->proof.key, TLS_KEY_ID);
    g->link = NULL;
    if (session_attach(s, link, g->address, received)) {
        greeting_fail(g, "remembers another past of the session");
        return;
    }
    greeting_destroy(g);
    session_tell_linked(s);
    if (hub_find(h, peer, key) == s)
        h->ev.greeted(h->arg, tag, s, false);
    else
        h->ev.failed(h->arg, tag, "the session was let go");
}

/* Both begin a new session, with an id chosen by the ppfs. */
static void greeting_begin(struct greeting *g, const uint8_t id[SESSION_ID]) {
    struct hub *h = g->hub;
    struct session *s;
    struct link *link = g->link;
    void *tag = g->tag;

    if (!hub_has_room(h, g->proof.key, g->address)) {
        greeting_fail(g, "is one too many: from its address, or with its key, there are as many as may be");
        return;
    }
    if (session_create(&s, h, g->peer, id, g->proof.key)) {
        greeting_fail(g, "cannot be taken in: out of memory");
        return;
    }
    g->link = NULL;
    session_attach(s, link, g->address, 0);
    greeting_destroy(g);
    h->ev.greeted(h->arg, tag, s, true);
}

static void on_resume(struct greeting *g, const struct frame *f) {
    struct hub *h = g->hub;
    bool ppfs = h->config.side == TLS_PPFS;
    struct session *s = hub_find(h, g->peer, g->proof.key);

    if (f->size != 2 * SESSION_ID) {
        greeting_fail(g, "does not greet as a ppfs or ppfs-node does");
        return;
    }
    if (memcmp(s ? session_id(s) : none, g->said, SESSION_ID)) {
        greeting_fail(g, "was greeted on another connection meanwhile");
        return;
    }
    if (s && !memcmp(f->body, g->said, SESSION_ID)) {
        greeting_resume(g, s, f->id);
        return;
    }
    uint8_t id[SESSION_ID];
    memcpy(id, ppfs ? g->fresh : f->body + SESSION_ID, SESSION_ID);
    if (!memcmp(id, none, SESSION_ID)) {
        greeting_fail(g, "offers no session");
        return;
    }
    if (s) { /* lost() may do anything, also destroy this greeting: look for it again */
        uint8_t peer[SESSION_ID], key[TLS_KEY_ID];
        memcpy(peer, g->peer, SESSION_ID);
        memcpy(key, g->proof.key, TLS_KEY_ID);
        session_lose(s, "the other side no longer knows it");
        struct greeting *still = LIST_FIRST(&h->greetings);
        while (still && still != g)
            still = LIST_NEXT(still, next);
        if (!still || hub_find(h, peer, key))
            return;
    }
    greeting_begin(g, id);
}

static void on_frame(void *arg, const struct frame *f) {
    struct greeting *g = arg;

    if (f->kind == SESSION_HELLO && !g->resumed)
        on_hello(g, f);
    else if (f->kind == SESSION_RESUME && g->resumed)
        on_resume(g, f);
    else
        greeting_fail(g, "does not greet as a ppfs or ppfs-node does");
}

static void on_closed(void *arg, int err) {
    greeting_fail(arg, err == EPROTO ? "sent what is no frame" : "closed the connection while being greeted");
}

static void on_timer(evutil_socket_t fd, short what, void *arg) {
    greeting_fail(arg, "has not greeted in 5 seconds");
}

static bool may_greet(const struct hub *h, const struct tls_proof *proof, const char *address) {
    struct crowd c = {0};
    const struct greeting *g;

    LIST_FOREACH(g, &h->greetings, next)
        crowd_count(&c, !memcmp(g->proof.key, proof->key, TLS_KEY_ID), g->address, address);
    return crowd_admits(&c, GREETINGS_MAX);
}

int hub_greet(struct hub *h, struct tls_conn *conn, const char *address, void *tag) {
    static const struct link_events events = {.frame = on_frame, .closed = on_closed};
    struct tls_proof proof;

    tls_conn_proof(conn, &proof);
    bool room = may_greet(h, &proof, address);
    struct greeting *g = room ? calloc(1, sizeof(*g)) : NULL;
    if (!g) {
        tls_conn_destroy(conn);
        return room ? -ENOMEM : -EBUSY;
    }
    *g = (struct greeting){.hub = h, .tag = tag, .proof = proof};
    LIST_INSERT_HEAD(&h->greetings, g, next);
    snprintf(g->address, sizeof(g->address), "%s", address);
    int err = link_create_tls(&g->link, h->base, conn, &events, g);
    if (err) {
        g->link = NULL;
        goto out;
    }
    g->timer = evtimer_new(h->base, on_timer, g);
    err = g->timer && !event_add_ms(g->timer, TLS_HANDSHAKE_MS) ? 0 : -ENOMEM;
    if (!err && h->config.side == TLS_NODE)
        err = tls_random(g->nonce, KEY_NONCE);
    if (!err && h->config.side == TLS_NODE)
        err = say_hello(g, g->nonce, KEY_NONCE);
    if (!err)
        return 0;
out:
    greeting_destroy(g);
    return err;
}

void hub_accept(struct hub *h, struct tls_conn *conn, const char *address) {
    char why[400];
    int err = hub_greet(h, conn, address, NULL);

    if (!err)
        return;
    snprintf(why, sizeof(why), "%.200s cannot be greeted: %s", address, hub_greet_error(err));
    h->ev.failed(h->arg, NULL, why);
}

const char *hub_greet_error(int err) {
    return err == -EBUSY ? "as many of its address, or with its key, are being greeted as may be" : strerror(-err);
}

void hub_forget(struct hub *h, void *tag) {
    for (struct greeting *g = LIST_FIRST(&h->greetings), *next; g; g = next) {
        next = LIST_NEXT(g, next);
        if (g->tag == tag)
            greeting_destroy(g);
    }
}

/* --- life -------------------------------------------------------------------------------------------------------- */
int hub_create(struct hub **out, struct event_base *base, const struct hub_config *config, const struct hub_events *ev,
               void *arg) {
    struct hub *h = calloc(1, sizeof(*h));

    if (!h)
        return -ENOMEM;
    *h = (struct hub){.base = base, .config = *config, .ev = *ev, .arg = arg};
    if (!h->config.silence_ms)
        h->config.silence_ms = SESSION_SILENCE_MS;
    if (h->config.timeout_ms < h->config.silence_ms)
        h->config.timeout_ms = h->config.silence_ms;
    int err = tls_random(h->id, SESSION_ID);
    if (!err)
        err = hub_id_shown(h->id, h->shown);
    if (err) {
        free(h);
        return err;
    }
    *out = h;
    return 0;
}

void hub_destroy(struct hub *h) {
    if (!h)
        return;
    assert(LIST_EMPTY(&h->sessions));
    while (!LIST_EMPTY(&h->greetings))
        greeting_destroy(LIST_FIRST(&h->greetings));
    free(h);
}
