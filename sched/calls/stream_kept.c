/* Answers that are not committed yet: after a commit that failed a stream is read anew, and what had been answered is
 * not run again, but answered from here. Each call has its number in the stream's input, and none is sent before that
 * is committed, so the number means the same call when it is read again. */
#include "sched/calls/state.h"

#include <stdlib.h>
#include <string.h>

struct kept {
    TAILQ_ENTRY(kept) next;
    size_t *account; /* counts it and size */
    uint64_t number;
    enum kept_kind kind;
    uint64_t stage;       /* while it is on the way to the log */
    struct pieces pieces; /* before bytes */
    size_t size;
    char bytes[];
};

struct kept_set { /* of a stream that is not in memory */
    LIST_ENTRY(kept_set) next;
    uint64_t stream;
    bool fresh; /* its stream left memory in this turn: dropped with this turn's commit */
    struct kept_list list;
};

static size_t bytes_of(const struct kept *k) {
    return k->size + k->pieces.answer.size + k->pieces.frames.size;
}

/* NULL without memory: then that call runs again after a commit that fails. */
static struct kept *add(struct user *u, struct kept_list *list, uint64_t number, enum kept_kind kind, const void *bytes,
                        size_t size, struct pieces *p) {
    struct kept *k = malloc(sizeof *k + size);
    if (!k) {
        if (p)
            pieces_free(p);
        return NULL;
    }
    *k = (struct kept){.account = &u->answers, .number = number, .kind = kind, .size = size};
    u->answers += sizeof *k + size;
    if (p) {
        k->pieces = *p;
        *p = (struct pieces){0};
    }
    if (size)
        memcpy(k->bytes, bytes, size);
    TAILQ_INSERT_TAIL(list, k, next);
    return k;
}

static void free_kept(struct kept *k) {
    pieces_free(&k->pieces);
    *k->account -= sizeof *k + k->size;
    free(k);
}

static void empty(struct kept_list *list) {
    for (struct kept *k; (k = TAILQ_FIRST(list));) {
        TAILQ_REMOVE(list, k, next);
        free_kept(k);
    }
}

/* The output of JSON calls is in the log with its turn, whatever else is under way. */
void stream_keep(struct stream *st, uint64_t number, enum kept_kind kind, const void *bytes, size_t size,
                 struct pieces *p) {
    bool printed = kind <= KEPT_STDERR;
    struct kept *k = add(st->user, printed ? &st->printed : &st->kept, number, kind, bytes, size, p);
    if (!k || printed)
        return;
    k->stage = st->stage;
    st->kept_bytes += bytes_of(k);
}

void stream_kept_logged(struct stream *st, uint64_t stage) {
    st->logged = stage + 1;
}

static void was_committed(struct stream *st) {
    struct kept *k;
    empty(&st->printed);
    while ((k = TAILQ_FIRST(&st->kept)) && k->stage < st->logged) {
        TAILQ_REMOVE(&st->kept, k, next);
        st->kept_bytes -= bytes_of(k);
        free_kept(k);
    }
}

/* --- while it is not in memory ----------------------------------------------------------------------------------- */

static void drop(struct kept_set *set) {
    LIST_REMOVE(set, next);
    empty(&set->list);
    free(set);
}

static struct kept_set *set_of(struct sched *s, uint64_t stream) {
    struct kept_set *set;
    LIST_FOREACH(set, &s->calls->kept, next)
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
    LIST_INSERT_HEAD(&s->calls->kept, set, next);
    return set;
}

bool stream_keep_away(struct user *u, uint64_t stream, uint64_t number, enum kept_kind kind, const void *bytes,
                      size_t size, struct pieces *p) {
    struct sched *s = u->s;
    struct stream *st = stream_find(s, stream);
    struct kept_set *set = st ? NULL : set_of(s, stream);
    if (st) {
        stream_mark(st);
        return add(u, &st->replay, number, kind, bytes, size, p);
    }
    if (!set)
        set = new_set(s, stream, false);
    return set && add(u, &set->list, number, kind, bytes, size, p);
}

void stream_kept_leave(struct stream *st) {
    struct sched *s = st->s;
    struct kept_list all = TAILQ_HEAD_INITIALIZER(all);
    TAILQ_CONCAT(&all, &st->printed, next);
    TAILQ_CONCAT(&all, &st->kept, next);
    TAILQ_CONCAT(&all, &st->replay, next);
    st->kept_bytes = 0;
    if (TAILQ_EMPTY(&all))
        return;
    struct kept_set *set = new_set(s, st->id, true);
    if (set)
        TAILQ_CONCAT(&set->list, &all, next);
    else
        empty(&all);
}

void stream_kept_load(struct stream *st) {
    struct kept_set *set = set_of(st->s, st->id);
    TAILQ_INIT(&st->kept);
    TAILQ_INIT(&st->printed);
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
    struct stream *st;
    if (committed)
        LIST_FOREACH(st, &s->calls->all, all)
            was_committed(st);
    for (set = LIST_FIRST(&s->calls->kept); set; set = next) {
        next = LIST_NEXT(set, next);
        if (set->fresh && committed)
            drop(set);
        else
            set->fresh = false;
    }
}

void stream_kept_free(struct sched *s) {
    while (!LIST_EMPTY(&s->calls->kept))
        drop(LIST_FIRST(&s->calls->kept));
}

/* --- answered from here ------------------------------------------------------------------------------------------ */

/* JSON: lines that wait for older ones. */
void stream_kept_gather(struct stream *st) {
    struct call *c;
    if (stream_is_json(st))
        TAILQ_FOREACH(c, &st->calls, order)
            if (c->state == CALL_ANSWERED && c->pieces.answer.size)
                stream_keep(st, c->number, KEPT_WHOLE, NULL, 0, &c->pieces);
}

bool stream_kept_ended(const struct stream *st, uint64_t number) {
    const struct kept *k;
    TAILQ_FOREACH(k, &st->replay, next)
        if (k->number == number && k->kind >= KEPT_VALUE)
            return true;
    return false;
}

/* Once for all: a call may have printed a hundred thousand pieces before its end. */
static void find_ends(struct stream *st) {
    const struct kept *k;
    TAILQ_FOREACH(k, &st->replay, next) {
        struct call *c = k->kind >= KEPT_VALUE ? stream_call(st, k->number) : NULL;
        if (c)
            c->ends = true;
    }
}

/* Without memory for the rest the pieces are lost, and the call runs again. */
static int answer(struct stream *st, struct call *c, struct kept *k) {
    enum answer_kind kind = k->kind == KEPT_VALUE ? ANSWER_VALUE : ANSWER_ERROR;
    if (pieces_any(&k->pieces))
        k->kind = KEPT_NOTHING;
    stream_drop_answer(c);
    c->pieces = k->pieces;
    k->pieces = (struct pieces){0};
    return stream_answer(st, c, kind, k->bytes, k->size);
}

static int print(struct stream *st, const struct kept *k) {
    int rc = store_touch(st->s->store);
    if (rc == 0)
        rc = buffer_add(&st->out, k->bytes, k->size);
    if (rc == 0)
        stream_keep(st, k->number, k->kind, k->bytes, k->size, NULL);
    stream_mark(st);
    return rc;
}

static int say(struct stream *st, struct call *c, struct kept *k) {
    switch (k->kind) {
    case KEPT_STDOUT: return st->codec->output(st, c, OUTPUT_STDOUT, k->bytes, k->size);
    case KEPT_STDERR: return st->codec->output(st, c, OUTPUT_STDERR, k->bytes, k->size);
    case KEPT_PRINTED: return print(st, k);
    case KEPT_WHOLE: return st->codec->again(st, c, &k->pieces, k->bytes, k->size);
    case KEPT_FAILED: return st->codec->fail(st, c, ERROR_DIED, k->bytes);
    case KEPT_NOTHING: return 0;
    default: return answer(st, c, k);
    }
}

/* Those that the parser has reached. What a call printed that was not answered and does not go on is left out: it runs
 * again. */
int stream_kept_replay(struct stream *st) {
    int rc = 0;
    find_ends(st);
    for (struct kept *k = TAILQ_FIRST(&st->replay), *next; k && rc == 0; k = next) {
        next = TAILQ_NEXT(k, next);
        if (k->number >= st->next_call)
            continue;
        struct call *c = stream_call(st, k->number);
        bool ran = c && (c->state == CALL_SENT || (c->state == CALL_JOB && c->goes_on)); /* sent before this reading */
        bool goes_on = ran && k->kind < KEPT_VALUE;
        bool wanted = goes_on || (c && c->state == CALL_PENDING && c->ends);
        if (wanted && (rc = say(st, c, k)) < 0)
            break; /* the next reading says it again */
        TAILQ_REMOVE(&st->replay, k, next);
        free_kept(k);
    }
    return rc;
}
