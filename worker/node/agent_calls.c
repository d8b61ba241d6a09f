/* Calls of leases, and the functions and values that they name (here both are called functions: bytes with a hash).
 *
 * What comes is passed on to the runner as it comes, a large call piece by piece. What the runner does not take yet
 * (its worker has too much ahead, or is not there) is held, and what follows it; it is tried again when an answer
 * comes, or some milliseconds later. A FINISH waits its turn, a function goes before calls. ppfs sends PAYLOAD_AHEAD
 * pieces of a work, and more as KEPT tells it that those were passed on: so much of a call is here at most.
 *
 * A function is asked for once for each user, whoever of his tasks needs it: the first one asks, the others wait for
 * the same answer. When the one that has asked ends, another asks again. Functions are put together and kept, the most
 * recently used ones, until the client goes; one larger than FUNCTIONS_MAX is passed on as a call is, and the next task
 * that waits for it asks. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "net/session/frame.h"
#include "worker/node/agent_parts.h"

enum { HASH = 32, FUNCTIONS_MAX = 64 * 1024 * 1024, FUNCTION_LEAST = 4096 };

static const char no_memory[] = "there is no memory for what it sends";

/* --- pieces ------------------------------------------------------------------------------------------------------ */
/* Whether that frame is the end of the one that comes, or of one by itself; then none comes any more. Its size is in
 * bounds. */
static bool is_end(struct task *t, const struct frame *m, uint32_t number) {
    size_t size = t->in_size + m->size;

    if (!t->lease || (t->in.any && number != t->in.number) || size > FRAME_WHOLE_MAX + (number ? 0 : HASH))
        return false;
    t->in = (struct half){0};
    t->in_size = 0;
    return true;
}

/* A piece has gone on: ppfs may send more. */
static void passed_on(struct task *t) {
    if (++t->kept - t->told < PAYLOAD_AHEAD / 4)
        return;
    client_post(t->client, MESSAGE_KEPT, message_id(t->ref, t->kept), NULL, 0);
    t->told = t->kept;
}

/* --- to the runner ----------------------------------------------------------------------------------------------- */
/* 0, or -errno as runner_call has it; -EAGAIN: the rest of another one goes first. */
static int give(struct task *t, enum message_kind kind, uint32_t number, const void *bytes, size_t size,
                struct shared_buffer *shared) {
    struct runner r = t->client->agent->runner;

    if (t->out_half.any && (kind == MESSAGE_FINISH || number != t->out_half.number))
        return -EAGAIN;
    switch (kind) {
    case MESSAGE_FINISH: return runner_finish(r, t->id);
    case MESSAGE_FUNCTION: return runner_function(r, t->id, NULL, bytes, size, shared);
    case MESSAGE_PIECE: return runner_piece(r, t->id, number, bytes, size, shared);
    default: return runner_call(r, t->id, number, (enum call_format)(kind - MESSAGE_CALL_JSON), bytes, size, shared);
    }
}

/* Whether what the runner has answered so is to be tried again. -ENOENT to a call: its lease waits for a worker to be
 * there, or is about to end. */
static bool again(enum message_kind kind, uint32_t number, int err) {
    return err == -ENOMEM || err == -EAGAIN || (err == -ENOENT && number && kind != MESSAGE_FINISH);
}

static void need(struct task *t);

/* Whether ppfs may be asked for what it wants. A call can reach its worker's link, and answer before it has that; asked
 * for an answered call, ppfs would let go of this node. */
static bool may_ask(const struct task *t) {
    return t->wants && t->want_number > t->answered;
}

/* Notes that the runner has that frame, or will never have it. */
static void given(struct task *t, enum message_kind kind, uint32_t number) {
    bool piece = kind == MESSAGE_PIECE, waited = t->out_half.any;

    t->out_half = (struct half){.any = piece, .number = piece ? number : 0};
    if (piece)
        passed_on(t);
    else if (waited && may_ask(t) && !t->asked)
        need(t);
}

/* The first held one that a function goes before: not the rest of a call of which the worker has a part. */
static struct held *behind_functions(const struct task *t) {
    struct held *h = TAILQ_FIRST(&t->held);

    while (h && h->kind != MESSAGE_FINISH && (!h->number || (t->out_half.any && h->number == t->out_half.number)))
        h = TAILQ_NEXT(h, next);
    return h;
}

static void hold(struct task *t, enum message_kind kind, uint32_t number, const void *bytes, size_t size,
                 struct shared_buffer *shared) {
    bool function = !number && kind != MESSAGE_FINISH;
    struct held *h = malloc(sizeof(*h) + (shared ? 0 : size)), *behind = function ? behind_functions(t) : NULL;

    if (!h) {
        client_break(t->client, no_memory);
        return;
    }
    *h = (struct held){.kind = kind, .number = number, .size = size, .bytes = bytes};
    if (shared)
        h->shared = shared_buffer_hold(shared);
    else
        h->bytes = size ? memcpy(h + 1, bytes, size) : NULL;
    if (behind)
        TAILQ_INSERT_BEFORE(behind, h, next);
    else
        TAILQ_INSERT_TAIL(&t->held, h, next);
    if (t->state == TASK_RUNNING)
        agent_retry(t->client->agent);
}

static void held_free(struct task *t, struct held *h) {
    TAILQ_REMOVE(&t->held, h, next);
    shared_buffer_release(h->shared);
    free(h);
}

/* Gives it to the runner, or holds it until that takes it. False: the runner says that it makes no sense. */
static bool pass_on(struct task *t, enum message_kind kind, uint32_t number, const void *bytes, size_t size,
                    struct shared_buffer *shared) {
    bool function = !number && kind != MESSAGE_FINISH;
    bool first = TAILQ_EMPTY(&t->held) || (function && behind_functions(t) == TAILQ_FIRST(&t->held));
    int err = -EAGAIN;

    if (t->state == TASK_ENDED)
        return true;
    if (t->state == TASK_RUNNING && first)
        err = give(t, kind, number, bytes, size, shared);
    if (again(kind, number, err))
        hold(t, kind, number, bytes, size, shared);
    else
        given(t, kind, number);
    return err != -EINVAL;
}

void calls_send_held(struct task *t) {
    struct held *h;

    while ((h = TAILQ_FIRST(&t->held)) && t->state == TASK_RUNNING) {
        enum message_kind kind = h->kind;
        uint32_t number = h->number;
        if (again(kind, number, give(t, kind, number, h->bytes, h->size, h->shared)))
            break;
        held_free(t, h);
        given(t, kind, number);
    }
}

/* --- calls ------------------------------------------------------------------------------------------------------- */
static bool function_piece(struct task *t, const struct frame *m);

bool calls_piece(struct task *t, const struct frame *m) {
    uint32_t number = (uint32_t)m->id;

    if (!t->lease || t->in_size + m->size > FRAME_WHOLE_MAX + HASH || ++t->came - t->told > PAYLOAD_AHEAD)
        return false;
    if (t->in.any ? number != t->in.number : number && number <= t->sent)
        return false;
    t->in = (struct half){.any = true, .number = number};
    t->in_size += m->size;
    return number ? pass_on(t, MESSAGE_PIECE, number, m->body, m->size, NULL) : function_piece(t, m);
}

bool calls_hear(struct task *t, const struct frame *m) {
    uint32_t number = (uint32_t)m->id;

    if (number <= t->sent || !is_end(t, m, number))
        return false;
    t->client->calls++;
    t->client->agent->calls++;
    t->sent = number;
    return pass_on(t, (enum message_kind)m->kind, number, m->body, m->size, NULL);
}

bool calls_finish(struct task *t) {
    if (!t->lease || t->in.any)
        return false;
    if (t->state == TASK_WAITING && TAILQ_EMPTY(&t->held)) {
        task_end(t, &(struct work_outcome){.attempt = t->work.attempt, .end = WORK_DONE});
        return true;
    }
    pass_on(t, MESSAGE_FINISH, 0, NULL, 0, NULL);
    return true;
}

/* Held calls from number on are dropped, but for the rest of one of which the runner has a part; so is no FINISH, and
 * no function. */
bool calls_recall(struct task *t, uint32_t number) {
    uint32_t limit = number;
    struct held *h, *next;

    if (!t->lease || !number || t->in.any)
        return false;
    for (h = TAILQ_FIRST(&t->held); h; h = next) {
        next = TAILQ_NEXT(h, next);
        if (h->number < number || (t->out_half.any && h->number == t->out_half.number))
            continue;
        if (h->kind == MESSAGE_PIECE)
            passed_on(t);
        held_free(t, h);
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

/* The size that it counts as, at least FUNCTION_LEAST, so that there are few enough to look through. */
static size_t charge(size_t size) {
    return sizeof(struct function) + size < FUNCTION_LEAST ? FUNCTION_LEAST : sizeof(struct function) + size;
}

static void drop_last(struct client *g) {
    struct function *f = TAILQ_LAST(&g->functions, function_list);

    TAILQ_REMOVE(&g->functions, f, next);
    g->function_bytes -= charge(f->size);
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
    g->function_bytes += charge(size);
    while (g->function_bytes > FUNCTIONS_MAX)
        drop_last(g);
}

void functions_free(struct client *g) {
    while (!TAILQ_EMPTY(&g->functions))
        drop_last(g);
}

/* Takes in a function that is whole in memory: whoever wants it is given it, and it is kept. */
static bool function_whole(struct task *t, const uint8_t *bytes, size_t size, struct shared_buffer *shared) {
    struct client *g = t->client;

    if (size < HASH)
        return false;
    if (size > HASH)
        keep(g, t->work.uid, bytes, size - HASH);
    for (uint32_t i = 0; i < g->task_room; i++) {
        struct task *other = g->tasks[i];
        if (!other || !other->wants || other->work.uid != t->work.uid || memcmp(other->want, bytes, HASH) != 0)
            continue;
        other->asked = false;
        if (other->out_half.any)
            continue; /* given() looks for it again */
        other->wants = false;
        if (other->state == TASK_RUNNING)
            runner_function(g->agent->runner, other->id, bytes, bytes + HASH, size - HASH, shared);
    }
    return true;
}

/* Adds to the part of the function that has come. False without memory. */
static bool function_add(struct task *t, const struct frame *m) {
    size_t want = t->function_size + m->size, room = t->function_room ? t->function_room : FRAME_BODY_MAX;

    while (room < want)
        room *= 2;
    if (room > t->function_room) {
        uint8_t *bigger = realloc(t->function, room);
        if (!bigger)
            return false;
        t->function = bigger;
        t->function_room = room;
    }
    if (m->size)
        memcpy(t->function + t->function_size, m->body, m->size);
    t->function_size = want;
    return true;
}

/* The bytes that have come of it in pieces, held by the caller; NULL without memory. */
static struct shared_buffer *function_take(struct task *t) {
    struct shared_buffer *shared = shared_buffer_new(t->function);

    if (!shared)
        return NULL;
    t->function = NULL;
    t->function_size = t->function_room = 0;
    return shared;
}

static bool function_piece(struct task *t, const struct frame *m) {
    size_t size = t->function_size;

    if (t->state == TASK_ENDED || t->passes)
        return pass_on(t, MESSAGE_PIECE, 0, m->body, m->size, NULL);
    if (size + m->size <= FUNCTIONS_MAX + HASH) {
        if (function_add(t, m))
            passed_on(t);
        else
            client_break(t->client, no_memory);
        return true;
    }
    if (!t->wants || memcmp(t->function, t->want, HASH) != 0)
        return false;
    struct shared_buffer *shared = function_take(t);
    if (!shared) {
        client_break(t->client, no_memory);
        return true;
    }
    t->passes = true;
    t->kept--; /* all of it was told before, and goes on as one */
    pass_on(t, MESSAGE_PIECE, 0, shared->memory, size, shared);
    shared_buffer_release(shared);
    return pass_on(t, MESSAGE_PIECE, 0, m->body, m->size, NULL);
}

static struct task *who_wants(struct client *g, const struct task *t, bool asked);
static void ask(struct task *t);

bool calls_function(struct task *t, const struct frame *m) {
    if (!is_end(t, m, 0))
        return false;
    if (t->passes) {
        struct task *other = who_wants(t->client, t, false);
        t->passes = t->wants = t->asked = false;
        if (other)
            ask(other);
        return pass_on(t, MESSAGE_FUNCTION, 0, m->body, m->size, NULL);
    }
    if (!t->function_size)
        return function_whole(t, m->body, m->size, NULL);
    size_t size = t->function_size + m->size;
    struct shared_buffer *shared = function_add(t, m) ? function_take(t) : NULL;
    if (!shared) {
        client_break(t->client, no_memory);
        return true;
    }
    bool sane = function_whole(t, shared->memory, size, shared);
    shared_buffer_release(shared);
    return sane;
}

/* Another task of the same user that wants the same: one that has asked for it, or one that may. */
static struct task *who_wants(struct client *g, const struct task *t, bool asked) {
    for (uint32_t i = 0; i < g->task_room; i++) {
        struct task *other = g->tasks[i];
        if (other && other != t && (asked ? other->asked : !other->asked && may_ask(other)) &&
            other->work.uid == t->work.uid && memcmp(other->want, t->want, HASH) == 0)
            return other;
    }
    return NULL;
}

static void ask(struct task *t) {
    t->asked = true;
    out_send(t, MESSAGE_NEED, MESSAGE_NEED, t->want_number, t->want, HASH);
}

/* Gives it the function that it wants, if that is here; otherwise asks for it, if nobody has. */
static void need(struct task *t) {
    struct function *f = cached(t->client, t->work.uid, t->want);

    if (f && t->out_half.any)
        return; /* given() comes back here */
    if (f) {
        t->wants = false;
        runner_function(t->client->agent->runner, t->id, t->want, f->bytes, f->size, NULL);
    } else if (!who_wants(t->client, t, true)) {
        ask(t);
    }
}

void calls_need(struct task *t, uint32_t number, const uint8_t hash[HASH]) {
    t->wants = true;
    t->want_number = number;
    memcpy(t->want, hash, HASH);
    need(t);
}

void calls_end(struct task *t) {
    struct task *other = t->wants && t->asked && t->client ? who_wants(t->client, t, false) : NULL;
    struct held *h;

    t->wants = t->asked = t->passes = false;
    if (other)
        ask(other);
    while ((h = TAILQ_FIRST(&t->held)))
        held_free(t, h);
    free(t->function);
    t->function = NULL;
    t->function_size = t->function_room = 0;
}
