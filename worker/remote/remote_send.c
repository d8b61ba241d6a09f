/* Sending to a node. Frames gather until flush, or until the loop comes round.
 *
 * Calls and functions that do not fit into one frame go a few pieces of one work's a turn, of one work after the other,
 * while the session takes them and no more than PAYLOAD_AHEAD pieces of each wait for the node's worker. What else is
 * said of that work waits behind, in order; what is said of others does not. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "net/session/session.h"
#include "worker/remote/remote_parts.h"

enum { PIECES_A_TURN = 4, HEAD_MAX = 32, UNSENT_MAX = 256 * 1024, NEED_PENDING_MAX = 64 << 20 };

const char remote_no_memory[] = "this machine has no memory for what is sent to it";

struct large { /* a frame that waits */
    STAILQ_ENTRY(large) next;
    enum message_kind kind;
    uint32_t number, head_size; /* head_size: 0 once it is sent */
    uint8_t head[HEAD_MAX];
    const uint8_t *at; /* what is left of its body */
    size_t left;
    struct shared_buffer *shared; /* owns it */
};

struct sending { /* of one work */
    TAILQ_ENTRY(sending) turn;
    uint32_t ref;
    size_t size;        /* bytes of all bodies */
    unsigned functions; /* of frames */
    STAILQ_HEAD(, large) frames;
};

uint32_t remote_ref(const struct remote *f, const struct entry *e) {
    return (uint32_t)(e - f->entries);
}

void remote_soon(struct remote *f) {
    static const struct timeval now = {0};
    event_add(f->later, &now);
}

bool remote_full(struct remote *f) {
    return session_full(f->session);
}

/* Payloads wait, so that what is small gets through. */
bool remote_busy(struct remote *f) {
    return remote_full(f) || session_unsent(f->session) >= UNSENT_MAX;
}

void remote_fail(struct remote *f, const char *why) {
    if (f->failed)
        return;
    f->failed = strdup(why);
    session_destroy(f->session);
    f->session = NULL;
    remote_soon(f);
}

void remote_flush(void *self) {
    struct remote *f = self;

    event_del(f->flush);
    if (f->corked && f->session)
        session_uncork(f->session);
    f->corked = false;
    if (remote_waits(f) && f->session && !remote_busy(f)) /* no event comes if the network took all of it at once */
        remote_soon(f);
}

/* 0 or -ENOMEM, -EPIPE: nothing was sent. */
int remote_post(struct remote *f, enum message_kind kind, uint64_t id, const void *body, uint32_t size) {
    if (!f->session)
        return -EPIPE;
    if (!f->corked) {
        session_cork(f->session);
        f->corked = true;
        event_active(f->flush, EV_TIMEOUT, 0);
    }
    return session_send(f->session, (uint8_t)kind, id, body, size);
}

/* The same, where the work cannot go on without it. */
void remote_must_post(struct remote *f, enum message_kind kind, uint64_t id, const void *body, uint32_t size) {
    if (remote_post(f, kind, id, body, size) == -ENOMEM)
        remote_fail(f, remote_no_memory);
}

/* --- large ones ------------------------------------------------------------------------------------------------- */
bool remote_waits(const struct remote *f) {
    return f->files || !TAILQ_EMPTY(&f->large);
}

bool remote_has_enough(const struct entry *e) {
    return e->sending && e->sending->size >= SESSION_PENDING_MAX;
}

/* More than calls and payloads ever leave in a session (session_full), with a small function for each work. */
bool remote_may_need(const struct remote *f, const struct entry *e) {
    size_t most = NEED_PENDING_MAX + (size_t)f->used * 2 * MESSAGE_CHUNK;
    return !e->needs && !(e->sending && e->sending->functions) && session_pending(f->session) < most;
}

static void large_free(struct large *g) {
    if (!g)
        return;
    shared_buffer_release(g->shared);
    free(g);
}

void remote_send_none(struct remote *f, struct entry *e) {
    struct sending *s = e->sending;
    struct large *g;

    if (!s)
        return;
    while ((g = STAILQ_FIRST(&s->frames))) {
        STAILQ_REMOVE_HEAD(&s->frames, next);
        large_free(g);
    }
    TAILQ_REMOVE(&f->large, s, turn);
    free(s);
    e->sending = NULL;
    f->large_gone = true;
    if (f->session)
        remote_soon(f);
}

static struct sending *sending_of(struct remote *f, struct entry *e) {
    if (!e->sending && (e->sending = malloc(sizeof(*e->sending)))) {
        e->sending->ref = remote_ref(f, e);
        e->sending->size = 0;
        e->sending->functions = 0;
        STAILQ_INIT(&e->sending->frames);
        TAILQ_INSERT_TAIL(&f->large, e->sending, turn);
    }
    return e->sending;
}

/* Shares or copies the body. 0 or -ENOMEM. */
static int large_take(struct large *g, const void *bytes, size_t size, struct shared_buffer *shared) {
    g->at = bytes;
    g->left = size;
    if (!size)
        return 0;
    if (shared) {
        g->shared = shared_buffer_hold(shared);
        return 0;
    }
    uint8_t *mine = malloc(size);
    g->shared = mine ? shared_buffer_new(mine) : NULL;
    if (!g->shared) {
        free(mine);
        return -ENOMEM;
    }
    g->at = memcpy(mine, bytes, size);
    return 0;
}

static int wait_for_turn(struct remote *f, struct entry *e, const struct large *frame, const void *bytes, size_t size,
                         struct shared_buffer *shared) {
    struct large *g = malloc(sizeof(*g));

    if (!g)
        return -ENOMEM;
    *g = *frame;
    if (large_take(g, bytes, size, shared) || !sending_of(f, e)) {
        large_free(g);
        return -ENOMEM;
    }
    e->sending->size += size;
    e->sending->functions += g->kind == MESSAGE_FUNCTION;
    STAILQ_INSERT_TAIL(&e->sending->frames, g, next);
    remote_soon(f);
    return 0;
}

int remote_send(struct remote *f, struct entry *e, enum message_kind kind, uint32_t number, const void *head,
                uint32_t head_size, const void *bytes, size_t size, struct shared_buffer *shared) {
    struct large frame = {.kind = kind, .number = number, .head_size = head_size};
    uint8_t whole[HEAD_MAX + MESSAGE_CHUNK];

    if (!f->session)
        return -EPIPE;
    if (e->sending || head_size + size > sizeof(whole)) {
        if (head_size)
            memcpy(frame.head, head, head_size);
        return wait_for_turn(f, e, &frame, bytes, size, shared);
    }
    if (!head_size)
        return remote_post(f, kind, message_id(remote_ref(f, e), number), bytes, (uint32_t)size);
    memcpy(whole, head, head_size);
    if (size)
        memcpy(whole + head_size, bytes, size);
    return remote_post(f, kind, message_id(remote_ref(f, e), number), whole, head_size + (uint32_t)size);
}

/* Sends the next piece; true: that was the last. */
static bool send_piece(struct remote *f, uint32_t ref, struct large *g) {
    uint64_t id = message_id(ref, g->number);

    if (!g->head_size && g->left <= MESSAGE_CHUNK) {
        remote_must_post(f, g->kind, id, g->at, (uint32_t)g->left);
        return true;
    }
    f->entries[ref].pieces++;
    if (g->head_size) {
        remote_must_post(f, MESSAGE_PIECE, id, g->head, g->head_size);
        g->head_size = 0;
        return false;
    }
    remote_must_post(f, MESSAGE_PIECE, id, g->at, MESSAGE_CHUNK);
    g->at += MESSAGE_CHUNK;
    g->left -= MESSAGE_CHUNK;
    return false;
}

static bool may_send(const struct remote *f, const struct sending *s) {
    return f->entries[s->ref].pieces - f->entries[s->ref].kept < PAYLOAD_AHEAD;
}

/* The first one in turn with room for a piece at the node; NULL: none. */
static struct sending *next_large(const struct remote *f) {
    struct sending *s;

    TAILQ_FOREACH(s, &f->large, turn)
        if (may_send(f, s))
            return s;
    return NULL;
}

bool remote_may_send(const struct remote *f) {
    return next_large(f) != NULL;
}

void remote_send_some(struct remote *f) {
    struct sending *s = next_large(f);

    for (int i = 0; s && f->session && i < PIECES_A_TURN && may_send(f, s); i++) {
        struct large *g = STAILQ_FIRST(&s->frames);
        if (!send_piece(f, s->ref, g))
            continue;
        STAILQ_REMOVE_HEAD(&s->frames, next);
        s->functions -= g->kind == MESSAGE_FUNCTION;
        large_free(g);
        if (STAILQ_EMPTY(&s->frames)) {
            remote_send_none(f, &f->entries[s->ref]);
            return;
        }
    }
    if (s) { /* its next turn comes last */
        TAILQ_REMOVE(&f->large, s, turn);
        TAILQ_INSERT_TAIL(&f->large, s, turn);
    }
}
