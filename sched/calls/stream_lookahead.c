/* CANCEL and RELEASE frames are looked for as soon as they are written, though the parser may stand far before them,
 * with as many calls as it may read (held ones among them).
 *
 * What the parser has not reached is walked from header to header. A CANCEL of a call that it has read is done at once,
 * and it is marked, with its place, for calls between there and here: so the answers are those that reading in order
 * would give, only sooner. What was marked is not written down: after a death it is looked for again. There are marks
 * of MARKS_MAX calls at most; the frames after them are seen when the parser comes to them. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "net/hash.h"
#include "sched/calls/stream_int.h"

#define MARKS_MAX 65536u
#define LOOK_READ (64u * 1024u)
#define HASH 32u

const char *stream_refuses(uint64_t parts, uint64_t part_id, const struct frame *f) {
    if (parts && f->id != part_id)
        return "PART frames of one body with another frame between them";
    if (parts + f->size > FRAME_WHOLE_MAX)
        return "a body of more than 1 GiB";
    if (f->kind == FRAME_FUNC && parts + f->size <= HASH)
        return "a FUNC frame without a function";
    if (f->kind < FRAME_SKIPPABLE && (f->kind < FRAME_PART || f->kind > FRAME_RELEASE))
        return "a frame of an unknown kind";
    return NULL;
}

/* --- marks ------------------------------------------------------------------------------------------------------- */

static bool is_taken(const struct mark *m) {
    return m->cancel || m->release;
}

static struct mark *entry_of(const struct lookahead *l, uint64_t id) {
    size_t at = hash_number(id) >> 20 & (l->cap - 1);
    while (is_taken(&l->marks[at]) && l->marks[at].id != id)
        at = (at + 1) & (l->cap - 1);
    return &l->marks[at];
}

static int grow(struct lookahead *l) {
    struct lookahead wider = {.cap = l->cap ? l->cap * 2 : 64};
    wider.marks = calloc(wider.cap, sizeof *wider.marks);
    if (!wider.marks)
        return -ENOMEM;
    for (size_t i = 0; i < l->cap; i++)
        if (is_taken(&l->marks[i]))
            *entry_of(&wider, l->marks[i].id) = l->marks[i];
    free(l->marks);
    l->marks = wider.marks;
    l->cap = wider.cap;
    return 0;
}

static int mark(struct lookahead *l, const struct frame *f, int64_t at) {
    if (l->count == MARKS_MAX)
        return 0;
    if (l->count * 2 >= l->cap && grow(l) < 0)
        return -ENOMEM;
    struct mark *m = entry_of(l, f->id);
    l->count += !is_taken(m);
    m->id = f->id;
    *(f->kind == FRAME_CANCEL ? &m->cancel : &m->release) = at;
    return 0;
}

bool stream_cancelled(const struct stream *st, const struct call *c) {
    return st->lookahead.count && entry_of(&st->lookahead, c->id)->cancel >= c->end;
}

bool stream_released(const struct stream *st, const struct call *c) {
    return st->lookahead.count && entry_of(&st->lookahead, c->id)->release >= c->end;
}

/* --- looking ----------------------------------------------------------------------------------------------------- */

void stream_lookahead_free(struct lookahead *l) {
    free(l->marks);
    free(l->buffer);
    *l = (struct lookahead){0};
}

/* The lookahead never lags behind the parser: it skips to there, with the parser's state of a frame. */
static void catch_up(struct stream *st) {
    struct lookahead *l = &st->lookahead;
    if (st->parsed < l->at)
        return;
    l->at = st->parsed;
    l->skip = st->in_frame ? st->left : 0;
    if (!st->in_frame && l->at < (int64_t)FRAME_MAGIC_SIZE)
        l->skip = FRAME_MAGIC_SIZE - (uint64_t)l->at;
    l->have = (unsigned)st->carry.size;
    l->parts = st->parts.size + (st->in_frame ? st->left : 0);
    l->part_id = st->part.id;
    if (st->in_frame && st->part.kind != FRAME_PART)
        l->parts = 0;
    if (st->in_frame && st->part.kind != FRAME_PART)
        l->ends = st->parsed + st->left;
    memcpy(l->head, st->carry.bytes ? st->carry.bytes : "", l->have);
    free(l->marks);
    free(l->buffer);
    l->marks = NULL;
    l->buffer = NULL;
    l->count = l->cap = 0;
}

int stream_lookahead_frames(struct stream *st, const char *bytes, size_t size) {
    struct lookahead *l = &st->lookahead;
    int rc = 0;
    for (size_t n; size && !l->over && rc == 0 && !stream_did_enough(st); bytes += n, size -= n) {
        struct frame f;
        if (l->skip) {
            n = l->skip < size ? (size_t)l->skip : size;
            l->skip -= n;
            l->at += (int64_t)n;
            continue;
        }
        n = FRAME_HEADER - l->have < size ? FRAME_HEADER - l->have : size;
        memcpy(l->head + l->have, bytes, n);
        l->have += (unsigned)n;
        l->at += (int64_t)n;
        if (l->have < FRAME_HEADER)
            continue;
        l->have = 0;
        l->over = frame_header(l->head, &f) < 0 || stream_refuses(l->parts, l->part_id, &f);
        if (l->over)
            break;
        l->skip = f.size;
        l->whole = l->ends;
        l->ends = f.kind == FRAME_PART ? l->ends : l->at + f.size;
        l->parts = f.kind == FRAME_PART ? l->parts + f.size : 0;
        l->part_id = f.id;
        /* While this was being read the parser may have passed here, and come to later calls. One with a body, which it
         * should not have, may never be whole: that is the parser's to see. */
        if ((f.kind != FRAME_CANCEL && f.kind != FRAME_RELEASE) || f.size || l->at <= st->parsed)
            continue;
        rc = st->codec->urgent(st, &f);
        if (rc == 0)
            rc = mark(l, &f, l->at);
    }
    return rc;
}

int stream_lookahead(struct stream *st, const char *bytes, size_t size) {
    struct lookahead *l = &st->lookahead;
    int64_t begin = st->in_size - (int64_t)size;
    if (!st->codec->lookahead || l->over || l->reading || stream_is_parsed(st))
        return 0;
    catch_up(st);
    if (l->at < begin ||
        l->at >= st->in_size) /* stream_lookahead_on is to come here first, or the parser has taken it all */
        return 0;
    return st->codec->lookahead(st, bytes + (l->at - begin), (size_t)(st->in_size - l->at));
}

static void was_read(void *arg, int rc) {
    struct stream *st = arg;
    st->lookahead.reading = false;
    if (st->id == 0) {
        sched_tick(st->s); /* stream_destroy_left */
        return;
    }
    if (rc > 0 && !st->s->stopping)
        sched_check(st->s, st->codec->lookahead(st, st->lookahead.buffer, (size_t)rc));
    else
        st->lookahead.over = true; /* the parser will end there, too */
    sched_tick(st->s);
}

/* One slice a turn. */
int stream_lookahead_on(struct stream *st) {
    struct lookahead *l = &st->lookahead;
    int64_t in_log = st->in_size - (int64_t)st->tail.size;
    if (!st->codec->lookahead || l->over || l->reading || stream_is_parsed(st))
        return 0;
    catch_up(st);
    if (l->skip && l->at < in_log) {
        int64_t n = (int64_t)l->skip < in_log - l->at ? (int64_t)l->skip : in_log - l->at;
        l->skip -= (uint64_t)n;
        l->at += n;
    }
    if (l->at >= in_log) { /* the input of this turn is looked at as it comes */
        int64_t left = st->in_size - l->at;
        return left > 0 ? st->codec->lookahead(st, st->tail.bytes + st->tail.size - left, (size_t)left) : 0;
    }
    if (!l->buffer && !(l->buffer = malloc(LOOK_READ)))
        return -ENOMEM;
    size_t want = in_log - l->at < (int64_t)LOOK_READ ? (size_t)(in_log - l->at) : LOOK_READ;
    int64_t n = stream_input(st, l->buffer, want, (uint64_t)l->at, was_read);
    l->reading = n == -EINPROGRESS;
    if (l->reading)
        return 0;
    l->over = n <= 0;
    sched_tick(st->s);
    return n > 0 ? st->codec->lookahead(st, l->buffer, (size_t)n) : 0;
}
