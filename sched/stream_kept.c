/* Answers that are not committed yet: after a commit that failed a stream is read anew, and what had been answered is
 * not run again, but answered from here. Each call has its number in the stream's input, and none is sent before that
 * is committed, so the number means the same call when it is read again. */
#include "sched/stream_int.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define KEPT_MAX (64u << 20)    /* bytes of one stream ... */
#define KEPT_ONE_MAX (1u << 20) /* ... and of an answer; calls with more than that run again */

struct kept {
    TAILQ_ENTRY(kept) next;
    uint64_t number;
    enum kept_kind kind;
    size_t size;
    char bytes[];
};

struct kept_set { /* of a stream that is not in memory */
    LIST_ENTRY(kept_set) next;
    uint64_t stream;
    size_t bytes; /* of answers that came since then */
    bool fresh;   /* it left memory in this turn: what it has goes with this turn's commit */
    struct kept_list list;
};

/* False: there is no room; then that call runs again. */
static bool add(struct kept_list *list, size_t *total, uint64_t number, enum kept_kind kind, const void *bytes,
                size_t size) {
    struct kept *k = size <= KEPT_ONE_MAX && *total + size <= KEPT_MAX ? malloc(sizeof *k + size) : NULL;
    if (!k)
        return false;
    k->number = number;
    k->kind = kind;
    k->size = size;
    if (size)
        memcpy(k->bytes, bytes, size);
    *total += size;
    TAILQ_INSERT_TAIL(list, k, next);
    return true;
}

void stream_keep(struct stream *st, uint64_t number, enum kept_kind kind, const void *bytes, size_t size) {
    add(&st->kept, &st->kept_bytes, number, kind, bytes, size);
}

static void empty(struct kept_list *list) {
    for (struct kept *k; (k = TAILQ_FIRST(list));) {
        TAILQ_REMOVE(list, k, next);
        free(k);
    }
}

void stream_kept_committed(struct stream *st) {
    if (st->flight || st->large.first || st->out.size)
        return; /* they are on the way */
    empty(&st->kept);
    st->kept_bytes = 0;
}

/* --- while it is not in memory ----------------------------------------------------------------------------------- */

static void drop(struct kept_set *set) {
    LIST_REMOVE(set, next);
    empty(&set->list);
    free(set);
}

static struct kept_set *set_of(struct sched *s, uint64_t stream) {
    struct kept_set *set;
    LIST_FOREACH(set, &s->kept, next)
        if (set->stream == stream)
            return set;
    return NULL;
}

static struct kept_set *new_set(struct sched *s, uint64_t stream, bool fresh) {
    struct kept_set *set = malloc(sizeof *set);
    if (!set)
        return NULL;
    *set = (struct kept_set){.stream = stream, .fresh = fresh};
    TAILQ_INIT(&set->list);
    LIST_INSERT_HEAD(&s->kept, set, next);
    return set;
}

bool stream_keep_away(struct sched *s, uint64_t stream, uint64_t number, enum kept_kind kind, const void *bytes,
                      size_t size) {
    struct stream *st = stream_find(s, stream);
    struct kept_set *set = st ? NULL : set_of(s, stream);
    if (st) {
        stream_mark(st);
        return add(&st->replay, &st->kept_bytes, number, kind, bytes, size);
    }
    if (!set)
        set = new_set(s, stream, false);
    return set && add(&set->list, &set->bytes, number, kind, bytes, size);
}

void stream_kept_leave(struct stream *st) {
    struct sched *s = st->s;
    TAILQ_CONCAT(&st->kept, &st->replay, next);
    if (TAILQ_EMPTY(&st->kept))
        return;
    struct kept_set *set = new_set(s, st->id, true);
    if (set)
        TAILQ_CONCAT(&set->list, &st->kept, next);
    else
        empty(&st->kept);
}

void stream_kept_load(struct stream *st) {
    struct kept_set *set = set_of(st->s, st->id);
    TAILQ_INIT(&st->kept);
    TAILQ_INIT(&st->replay);
    if (!set)
        return;
    TAILQ_CONCAT(&st->replay, &set->list, next);
    drop(set);
}

void stream_kept_end(struct sched *s, uint64_t stream) {
    struct kept_set *set = set_of(s, stream);
    if (set)
        set->fresh = true;
}

void stream_kept_turned(struct sched *s, bool committed) {
    struct kept_set *set, *next;
    for (set = LIST_FIRST(&s->kept); set; set = next) {
        next = LIST_NEXT(set, next);
        if (set->fresh && committed)
            drop(set);
        else
            set->fresh = false;
    }
}

void stream_kept_free(struct sched *s) {
    while (!LIST_EMPTY(&s->kept))
        drop(LIST_FIRST(&s->kept));
}

/* --- answered from here ------------------------------------------------------------------------------------------ */

/* JSON: lines that wait for older ones. */
void stream_kept_gather(struct stream *st) {
    const struct call *c;
    if (st->codec == &codec_json)
        TAILQ_FOREACH(c, &st->calls, order)
            if (c->state == CALL_ANSWERED && c->answer.size)
                stream_keep(st, c->number, KEPT_LINE, c->answer.bytes, c->answer.size);
}

static bool ends_in(const struct kept *k, uint64_t number) {
    for (; k; k = TAILQ_NEXT(k, next))
        if (k->number == number && k->kind >= KEPT_VALUE)
            return true;
    return false;
}

static int say(struct stream *st, struct call *c, const struct kept *k) {
    switch (k->kind) {
    case KEPT_STDOUT: return st->codec->output(st, c, POOL_STDOUT, k->bytes, k->size);
    case KEPT_STDERR: return st->codec->output(st, c, POOL_STDERR, k->bytes, k->size);
    case KEPT_VALUE: return st->codec->answer(st, c, ANSWER_VALUE, k->bytes, k->size);
    case KEPT_ERROR: return st->codec->answer(st, c, ANSWER_ERROR, k->bytes, k->size);
    default: break;
    }
    int rc = buffer_add(&c->answer, k->bytes, k->size);
    return rc < 0 ? rc : stream_answered(st, c);
}

/* Those that the parser has reached. What a call printed that was not answered and does not go on is left out: it runs
 * again. */
int stream_kept_replay(struct stream *st) {
    int rc = 0;
    lease_claim(st);
    for (struct kept *k = TAILQ_FIRST(&st->replay), *next; k && rc == 0; k = next) {
        next = TAILQ_NEXT(k, next);
        if (k->number >= st->next_call)
            continue;
        struct call *c = stream_call(st, k->number);
        bool goes_on = c && c->state == CALL_SENT && k->kind <= KEPT_STDERR; /* nothing else was sent before this */
        bool wanted = goes_on || (c && c->state == CALL_PENDING && ends_in(k, k->number));
        TAILQ_REMOVE(&st->replay, k, next);
        if (wanted) {
            rc = say(st, c, k);
            if (k->kind != KEPT_LINE)
                stream_keep(st, k->number, k->kind, k->bytes, k->size);
        }
        free(k);
    }
    return rc;
}
