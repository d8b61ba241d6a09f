/* Calls of leases, and the functions and values that they name (here both are called functions: bytes with a hash).
 *
 * A call that the runner does not take yet (its worker has too many ahead, or is not there) is held, and those after
 * it; they are tried again when an answer comes, or some milliseconds later. A FINISH waits its turn among them.
 *
 * A function is asked for once for each user, whoever of his tasks needs it: the first one asks, the others wait for
 * the same answer. When the one that has asked ends, another asks again. Functions are kept, the most recently used
 * ones, until the client goes. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "net/session/frame.h"
#include "worker/node/agent_parts.h"

enum { HASH = 32, FUNCTIONS_MAX = 64 * 1024 * 1024 };

static const char no_memory[] = "there is no memory for what it sends";

/* --- the body of a frame that came in pieces -----------------------------------------------------------------------
 * */
bool calls_piece(struct task *t, const struct frame *m) {
    size_t want = t->piece_size + m->size;

    if (!t->lease || want > FRAME_WHOLE_MAX + HASH)
        return false;
    if (want > t->piece_room) {
        size_t room = t->piece_room ? t->piece_room : FRAME_BODY_MAX;
        while (room < want)
            room *= 2;
        uint8_t *bigger = realloc(t->pieces, room);
        if (!bigger) {
            client_break(t->client, no_memory);
            return true;
        }
        t->pieces = bigger;
        t->piece_room = room;
    }
    if (m->size)
        memcpy(t->pieces + t->piece_size, m->body, m->size);
    t->piece_size = want;
    return true;
}

/* The whole body of m, with the pieces before it: in m itself, or in *shared, which is to be let go. */
static bool whole(struct task *t, const struct frame *m, const uint8_t **bytes, size_t *size,
                  struct shared_buffer **shared) {
    *shared = NULL;
    *bytes = m->body;
    *size = m->size;
    if (!t->piece_size)
        return true;
    if (!calls_piece(t, m))
        return false;
    *shared = shared_buffer_new(t->pieces);
    if (!*shared)
        return false;
    *bytes = t->pieces;
    *size = t->piece_size;
    t->pieces = NULL;
    t->piece_size = t->piece_room = 0;
    return true;
}

/* --- calls ------------------------------------------------------------------------------------------------------- */
static void hold(struct task *t, uint32_t number, enum call_format format, const void *bytes, size_t size,
                 struct shared_buffer *shared) {
    struct held *h = malloc(sizeof(*h) + (shared ? 0 : size));

    if (!h) {
        client_break(t->client, no_memory);
        return;
    }
    *h = (struct held){.number = number, .format = format, .size = size, .bytes = bytes};
    if (shared)
        h->shared = shared_buffer_hold(shared);
    else
        h->bytes = size ? memcpy(h + 1, bytes, size) : NULL;
    TAILQ_INSERT_TAIL(&t->held, h, next);
    if (t->state == TASK_RUNNING)
        agent_retry(t->client->agent);
}

static void held_free(struct held *h) {
    shared_buffer_release(h->shared);
    free(h);
}

/* What the runner says to a call or a finish: whether it is to be tried again. -ENOENT of a running lease: it waits for
 * a worker to be there, or is about to end. */
static bool again(int err) {
    return err == -ENOMEM || err == -ENOENT || err == -EAGAIN;
}

bool calls_hear(struct task *t, const struct frame *m) {
    enum call_format format = (enum call_format)(m->kind - MESSAGE_CALL_JSON);
    struct agent *s = t->client->agent;
    const uint8_t *bytes;
    struct shared_buffer *shared;
    size_t size;
    int err = -EAGAIN;

    if (!t->lease || (uint32_t)m->id <= t->sent || !whole(t, m, &bytes, &size, &shared))
        return false;
    t->client->calls++;
    s->calls++;
    t->sent = (uint32_t)m->id;
    if (t->state == TASK_RUNNING && TAILQ_EMPTY(&t->held))
        err = runner_call(s->runner, t->id, (uint32_t)m->id, format, bytes, size, shared);
    if (again(err) && t->state != TASK_ENDED)
        hold(t, (uint32_t)m->id, format, bytes, size, shared);
    shared_buffer_release(shared);
    return err != -EINVAL;
}

bool calls_finish(struct task *t) {
    struct agent *s = t->client->agent;

    if (!t->lease)
        return false;
    if (t->state == TASK_WAITING && TAILQ_EMPTY(&t->held)) {
        task_end(t, &(struct work_outcome){.attempt = t->work.attempt, .end = WORK_DONE});
        return true;
    }
    int err = t->state == TASK_RUNNING && TAILQ_EMPTY(&t->held) ? runner_finish(s->runner, t->id) : -EAGAIN;
    if (t->state != TASK_ENDED && (err == -EAGAIN || err == -ENOMEM))
        hold(t, 0, CALL_JSON, NULL, 0, NULL);
    return true;
}

void calls_send_held(struct task *t) {
    struct agent *s = t->client->agent;

    struct held *h;

    while ((h = TAILQ_FIRST(&t->held)) && t->state == TASK_RUNNING) {
        int err = h->number ? runner_call(s->runner, t->id, h->number, h->format, h->bytes, h->size, h->shared)
                            : runner_finish(s->runner, t->id);
        if (err == -ENOMEM || (h->number && again(err)))
            break;
        TAILQ_REMOVE(&t->held, h, next);
        held_free(h);
    }
}

/* Held calls from number on are dropped, a FINISH stays; the rest is the runner's. */
bool calls_recall(struct task *t, uint32_t number) {
    uint32_t limit = number;
    struct held *h, *next;

    if (!t->lease || !number)
        return false;
    for (h = TAILQ_FIRST(&t->held); h; h = next) {
        next = TAILQ_NEXT(h, next);
        if (h->number < number)
            continue;
        TAILQ_REMOVE(&t->held, h, next);
        held_free(h);
    }
    if (t->state == TASK_RUNNING)
        limit = runner_recall(t->client->agent->runner, t->id, number);
    if (limit && limit - 1 < t->sent)
        t->sent = limit - 1;
    if (t->state != TASK_ENDED)
        out_send(t, MESSAGE_RECALLED, MESSAGE_RECALLED, limit, NULL, 0);
    return true;
}

/* --- functions --------------------------------------------------------------------------------------------------- */
static struct function *cached(struct client *g, uid_t user, const uint8_t hash[HASH]) {
    struct function *f;

    TAILQ_FOREACH(f, &g->functions, next)
        if (f->user == user && memcmp(f->hash, hash, HASH) == 0) {
            TAILQ_REMOVE(&g->functions, f, next);
            TAILQ_INSERT_HEAD(&g->functions, f, next);
            return f;
        }
    return NULL;
}

static void drop_last(struct client *g) {
    struct function *f = TAILQ_LAST(&g->functions, function_list);

    TAILQ_REMOVE(&g->functions, f, next);
    g->function_bytes -= f->size;
    free(f);
}

static void keep(struct client *g, uid_t user, const uint8_t *hash, size_t size) {
    struct function *f = size <= FUNCTIONS_MAX && !cached(g, user, hash) ? malloc(sizeof(*f) + size) : NULL;

    if (!f)
        return; /* it is asked for again */
    *f = (struct function){.user = user, .size = size};
    memcpy(f->hash, hash, HASH);
    memcpy(f->bytes, hash + HASH, size);
    TAILQ_INSERT_HEAD(&g->functions, f, next);
    g->function_bytes += size;
    while (g->function_bytes > FUNCTIONS_MAX)
        drop_last(g);
}

void functions_free(struct client *g) {
    while (!TAILQ_EMPTY(&g->functions))
        drop_last(g);
}

bool calls_function(struct task *t, const struct frame *m) {
    struct client *g = t->client;
    const uint8_t *bytes;
    struct shared_buffer *shared;
    size_t size;

    if (!t->lease || !whole(t, m, &bytes, &size, &shared))
        return false;
    bool sane = size >= HASH;
    if (sane && size > HASH)
        keep(g, t->work.uid, bytes, size - HASH);
    for (uint32_t i = 0; sane && i < g->task_room; i++) {
        struct task *other = g->tasks[i];
        if (!other || !other->wants || other->work.uid != t->work.uid || memcmp(other->want, bytes, HASH) != 0)
            continue;
        other->wants = other->asked = false;
        if (other->state == TASK_RUNNING)
            runner_function(g->agent->runner, other->id, bytes, bytes + HASH, size - HASH, shared);
    }
    shared_buffer_release(shared);
    return sane;
}

/* Another task of the same user that wants the same; asked: that has asked for it. */
static struct task *who_wants(struct client *g, const struct task *t, bool asked) {
    for (uint32_t i = 0; i < g->task_room; i++) {
        struct task *other = g->tasks[i];
        if (other && other != t && other->wants && other->asked == asked && other->work.uid == t->work.uid &&
            memcmp(other->want, t->want, HASH) == 0)
            return other;
    }
    return NULL;
}

static void ask(struct task *t) {
    t->asked = true;
    out_send(t, MESSAGE_NEED, MESSAGE_NEED, t->want_number, t->want, HASH);
}

void calls_need(struct task *t, uint32_t number, const uint8_t hash[HASH]) {
    struct function *f = cached(t->client, t->work.uid, hash);

    if (f) {
        runner_function(t->client->agent->runner, t->id, hash, f->bytes, f->size, NULL);
        return;
    }
    t->wants = true;
    t->want_number = number;
    memcpy(t->want, hash, HASH);
    if (!who_wants(t->client, t, true))
        ask(t);
}

void calls_end(struct task *t) {
    struct task *other = t->wants && t->asked && t->client ? who_wants(t->client, t, false) : NULL;

    struct held *h;

    t->wants = t->asked = false;
    if (other)
        ask(other);
    while ((h = TAILQ_FIRST(&t->held))) {
        TAILQ_REMOVE(&t->held, h, next);
        held_free(h);
    }
    free(t->pieces);
    t->pieces = NULL;
    t->piece_size = t->piece_room = 0;
}
