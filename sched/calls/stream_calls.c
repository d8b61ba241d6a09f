/* The calls of a stream that are in memory: those that are not answered, and of JSON those whose answers wait for older
 * ones. However many were answered behind a slow one, only their numbers are kept, as runs: what is not in memory and
 * below next_call is answered. */
#include "sched/calls/stream_int.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "net/hash.h"

#define BUCKETS_MIN 64u

static struct call_list *bucket_of(const struct stream *st, uint64_t number) {
    return &st->by_number[number & (st->buckets - 1)];
}

static struct call_list *bucket_of_id(const struct stream *st, uint64_t id) {
    return &st->by_id[hash_number(id) >> 32 & (st->buckets - 1)];
}

struct call *stream_call(const struct stream *st, uint64_t number) {
    struct call *c = NULL;
    if (st->buckets)
        LIST_FOREACH(c, bucket_of(st, number), numbered)
            if (c->number == number)
                break;
    return c;
}

struct call *stream_call_of(const struct stream *st, uint64_t id) {
    struct call *c = NULL;
    if (st->buckets)
        LIST_FOREACH(c, bucket_of_id(st, id), named)
            if (c->id == id)
                break;
    return c;
}

void stream_index(struct stream *st, struct call *c) {
    LIST_INSERT_HEAD(bucket_of_id(st, c->id), c, named);
    c->indexed = true;
}

static void unindex(struct call *c) {
    if (c->indexed)
        LIST_REMOVE(c, named);
    c->indexed = false;
}

static void unqueue(struct call *c) {
    if (c->body_of)
        TAILQ_REMOVE(&c->body_of->user->bodies, c, waits);
    c->body_of = NULL;
}

static int grow(struct stream *st) {
    size_t n = st->buckets ? st->buckets * 2 : BUCKETS_MIN;
    struct call_list *by_number = calloc(n, sizeof *by_number), *by_id = calloc(n, sizeof *by_id);
    struct call *c;
    if (!by_number || !by_id) {
        free(by_number);
        free(by_id);
        return -ENOMEM;
    }
    free(st->by_number);
    free(st->by_id);
    st->by_number = by_number;
    st->by_id = by_id;
    st->buckets = n;
    TAILQ_FOREACH(c, &st->calls, order) {
        LIST_INSERT_HEAD(bucket_of(st, c->number), c, numbered);
        if (c->indexed)
            LIST_INSERT_HEAD(bucket_of_id(st, c->id), c, named);
    }
    return 0;
}

/* --- what they hold ---------------------------------------------------------------------------------------------- */

#define LEND_MIN (64u * 1024u) /* bytes from which on sharing a buffer costs less than a copy */

void stream_hold(struct stream *st, struct call *c, size_t bytes) {
    c->held += bytes;
    st->held += bytes;
    st->user->held += bytes;
}

static void let_go_of(struct stream *st, struct call *c) {
    if (c->state == CALL_ANSWERED)
        st->waiting -= c->held;
    if (c->state == CALL_SENT) {
        st->user->sent -= c->held;
        st->sent -= c->held;
    }
    st->held -= c->held;
    st->user->held -= c->held;
    c->held = 0;
    free(c->memory);
    shared_buffer_release(c->shared);
    c->shared = NULL;
    c->memory = c->bytes = NULL;
}

int stream_lend(struct call *c) {
    if (c->size < LEND_MIN)
        return 0;
    c->shared = shared_buffer_new(c->memory);
    if (!c->shared)
        return -ENOMEM;
    c->memory = NULL;
    return 0;
}

void stream_job_has(struct stream *st, struct call *c) {
    let_go_of(st, c);
    stream_hold(st, c, sizeof *c);
}

void stream_drop_answer(struct call *c) {
    pieces_free(&c->pieces);
}

/* --- coming and going -------------------------------------------------------------------------------------------- */

/* Whether that call was answered before this reading of the stream; the numbers come in order. */
static bool done_before(struct stream *st, uint64_t number);

int stream_add(struct stream *st, uint64_t id, int64_t end, struct call **out) {
    uint64_t number = st->next_call;
    *out = NULL;
    if (!done_before(st, number)) {
        struct call *c = st->count < st->buckets || grow(st) == 0 ? calloc(1, sizeof *c) : NULL;
        if (!c)
            return -ENOMEM;
        *c = (struct call){
            .state = CALL_PENDING, .number = number, .id = id, .begin = st->end, .before = st->end_line, .end = end};
        TAILQ_INSERT_TAIL(&st->calls, c, order);
        LIST_INSERT_HEAD(bucket_of(st, number), c, numbered);
        st->count++;
        st->pending++;
        if (!st->next_send)
            st->next_send = c;
        stream_hold(st, c, sizeof *c);
        *out = c;
    }
    st->next_call++;
    st->end = end;
    st->end_line = st->lines;
    return 0;
}

void stream_remove(struct stream *st, struct call *c) {
    if (st->next_send == c)
        st->next_send = TAILQ_NEXT(c, order);
    if (st->partial == c)
        st->partial = NULL;
    st->waiting_calls -= c->state == CALL_ANSWERED;
    let_go_of(st, c);
    unindex(c);
    unqueue(c);
    TAILQ_REMOVE(&st->calls, c, order);
    LIST_REMOVE(c, numbered);
    st->count--;
    free(c->options);
    stream_drop_answer(c);
    free(c);
}

int stream_answered(struct stream *st, struct call *c) {
    st->pending -= c->state == CALL_PENDING;
    stream_job_known(st, c);
    let_go_of(st, c);
    unindex(c);
    unqueue(c);
    c->state = CALL_ANSWERED;
    pieces_count(&c->pieces, &st->user->answers);
    st->waiting_calls++;
    stream_hold(st, c, sizeof *c + c->pieces.answer.cap);
    st->waiting += c->held;
    if (!stream_is_json(st))
        TAILQ_INSERT_TAIL(&st->done, c, done);
    if (c->number + 1 == st->row.suspect)
        st->row.suspect = st->row.deaths = 0;
    stream_mark(st);
    return store_touch(st->s->store);
}

const char stream_no_room[] = "its result is larger than 1 GiB, or than memory";

int stream_answer(struct stream *st, struct call *c, enum answer_kind kind, const void *bytes, size_t size) {
    int rc = st->codec->answer(st, c, kind, bytes, size);
    if (rc != -ENOMEM && rc != -EFBIG)
        return rc;
    stream_drop_answer(c); /* or it would run again, and be as large again */
    return st->codec->fail(st, c, ERROR_DIED, stream_no_room);
}

void stream_sweep(struct stream *st) {
    for (struct call *c; (c = TAILQ_FIRST(&st->done));) {
        TAILQ_REMOVE(&st->done, c, done);
        stream_remove(st, c);
    }
}

void stream_calls_free(struct stream *st) {
    for (struct call *c; (c = TAILQ_FIRST(&st->calls));)
        stream_remove(st, c);
    free(st->by_number);
    free(st->by_id);
    buffer_free(&st->before.runs);
}

/* --- the numbers of those that are answered ----------------------------------------------------------------------- */

/* Lengths of runs from row.call on, of unanswered and answered calls by turns, as LEB128 behind a byte RUNS. An older
 * ppfs kept a bit for each call; its first bit was always 0. */
enum { RUNS = 1 };

static int put_number(struct buffer *b, uint64_t n) {
    uint8_t bytes[10];
    size_t size = 0;
    do {
        bytes[size++] = (uint8_t)((n & 0x7f) | (n > 0x7f ? 0x80 : 0));
        n >>= 7;
    } while (n);
    return buffer_add(b, bytes, size);
}

static bool get_number(struct before *w, uint64_t *n) {
    *n = 0;
    for (unsigned shift = 0; w->at < w->runs.size && shift < 63; shift += 7) {
        uint8_t byte = (uint8_t)w->runs.bytes[w->at++];
        *n |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80)
            return true;
    }
    return false;
}

static int put_run(struct buffer *b, uint64_t *at, uint64_t from, uint64_t to) {
    int rc = b->size ? 0 : buffer_add(b, (const uint8_t[]){RUNS}, 1);
    if (rc == 0)
        rc = put_number(b, from - *at);
    if (rc == 0)
        rc = put_number(b, to - from);
    *at = to;
    return rc;
}

/* To the next run. A damaged one is the last: its calls run again. */
static void next_run(struct before *w) {
    uint64_t skip, size, most = UINT64_MAX - w->to;
    if (get_number(w, &skip) && skip < most && get_number(w, &size) && size < most - skip) {
        w->from = w->to + skip;
        w->to = w->from + size;
        return;
    }
    buffer_free(&w->runs);
    w->from = w->to = w->at = 0;
}

static int from_bits(struct buffer *runs, const uint8_t *bits, size_t size) {
    uint64_t at = 0;
    int rc = 0;
    for (uint64_t i = 0, begin = 0; i <= size * 8 && rc == 0; i++) {
        if (i < size * 8 && bits[i / 8] & 1u << i % 8)
            continue;
        if (i > begin)
            rc = put_run(runs, &at, begin, i);
        begin = i + 1;
    }
    return rc;
}

int stream_done_load(struct stream *st, struct buffer *answered) {
    struct before *w = &st->before;
    int rc = 0;
    *w = (struct before){.to = st->row.call, .at = 1};
    if (answered->size && answered->bytes[0] != RUNS) {
        rc = from_bits(&w->runs, (const uint8_t *)answered->bytes, answered->size);
        buffer_free(answered);
    } else {
        w->runs = *answered;
        *answered = (struct buffer){0};
    }
    if (rc == 0 && w->runs.size)
        next_run(w);
    return rc;
}

static bool done_before(struct stream *st, uint64_t number) {
    struct before *w = &st->before;
    while (w->runs.size && number >= w->to)
        next_run(w);
    return w->runs.size && number >= w->from;
}

/* Writes the runs that the parser has not reached again. */
static int put_rest(const struct before *w, struct buffer *b, uint64_t *at, uint64_t next_call) {
    struct before rest = *w;
    int rc = 0;
    while (rc == 0 && rest.runs.size) {
        uint64_t from = rest.from < next_call ? next_call : rest.from, skip, size;
        if (rest.to > from)
            rc = put_run(b, at, from, rest.to);
        if (!get_number(&rest, &skip) || !get_number(&rest, &size))
            break;
        rest.from = rest.to + skip;
        rest.to = rest.from + size;
    }
    return rc;
}

int stream_done(const struct stream *st, struct buffer *out) {
    uint64_t at = st->row.call, expected = at, gaps = st->next_call - at - st->count;
    const struct call *c = TAILQ_FIRST(&st->calls);
    int rc = 0;
    out->size = 0;
    for (; c && gaps && rc == 0; c = TAILQ_NEXT(c, order)) {
        if (c->number > expected) {
            rc = put_run(out, &at, expected, c->number);
            gaps -= c->number - expected;
        }
        expected = c->number + 1;
    }
    if (rc == 0 && gaps)
        rc = put_run(out, &at, expected, st->next_call);
    return rc < 0 ? rc : put_rest(&st->before, out, &at, st->next_call);
}

void stream_place(struct stream *st) {
    stream_sweep(st);
    const struct call *first = TAILQ_FIRST(&st->calls);
    st->row.call = first ? first->number : st->next_call;
    st->row.at = first ? first->begin : st->end;
    st->row.line = first ? first->before : st->end_line;
}
