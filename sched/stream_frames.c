/* Binary streams: frames in, frames out, answers in the order in which calls end. ppfs-stream(5) has the format. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sched/stream_int.h"

#define HASH 32u

/* --- out --------------------------------------------------------------------------------------------------------- */

static int put(struct stream *st, uint8_t kind, uint64_t id, const void *bytes, size_t size) {
    uint8_t header[FRAME_HEADER];
    const char *p = bytes;
    int rc = 0;
    while (rc == 0) {
        uint32_t n = size > FRAME_BODY_MAX ? FRAME_BODY_MAX : (uint32_t)size;
        frame_encode(header, size > FRAME_BODY_MAX ? FRAME_PART : kind, id, n);
        rc = buffer_add(&st->out, header, sizeof header);
        if (rc == 0)
            rc = buffer_add(&st->out, p, n);
        if (size <= FRAME_BODY_MAX)
            break;
        p += n;
        size -= n;
    }
    return rc;
}

/* Written down together with the answer, so that a daemon after us does not run it again. */
static int answered(struct stream *st, struct call *c, uint8_t kind, const void *bytes, size_t size) {
    uint64_t slot = (uint64_t)(c - st->window), bit = (slot + STREAM_WINDOW - st->row.call % STREAM_WINDOW) % STREAM_WINDOW;
    int rc = put(st, kind, c->id, bytes, size);
    if (rc < 0)
        return rc;
    st->row.answered[bit / 8] |= (uint8_t)(1u << bit % 8);
    return stream_answered(st, c);
}

static int fail(struct stream *st, struct call *c, enum stream_error error, const char *why) {
    if (error == 0)
        return answered(st, c, FRAME_CANCELLED, NULL, 0);
    struct buffer b = {0};
    const uint8_t head[8] = {(uint8_t)error};
    int rc = buffer_add(&b, head, sizeof head);
    if (rc == 0)
        rc = buffer_add(&b, why, strlen(why));
    if (rc == 0)
        rc = buffer_add(&b, "\n", 1);
    if (rc == 0)
        rc = answered(st, c, FRAME_ERROR, b.bytes, b.size);
    buffer_free(&b);
    return rc;
}

static int answer(struct stream *st, struct call *c, enum pool_answer kind, const void *bytes, size_t size) {
    return answered(st, c, kind == ANSWER_VALUE ? FRAME_RESULT : FRAME_ERROR, bytes, size);
}

static int started(struct stream *st, struct call *c) {
    stream_mark(st);
    int rc = put(st, FRAME_STARTED, c->id, NULL, 0);
    return rc < 0 ? rc : store_touch(st->s->store);
}

static int output(struct stream *st, struct call *c, enum pool_stream which, const void *bytes, size_t size) {
    const char *p = bytes;
    char piece[4097];
    int rc = 0;
    stream_mark(st);
    for (size_t n; size && rc == 0; p += n, size -= n) {
        n = size < sizeof piece - 1 ? size : sizeof piece - 1;
        piece[0] = which == POOL_STDERR ? 2 : 1;
        memcpy(piece + 1, p, n);
        rc = put(st, FRAME_OUTPUT, c->id, piece, n + 1);
    }
    return rc < 0 ? rc : store_touch(st->s->store);
}

static int advance(struct stream *st, struct call *c) {
    (void)st;
    (void)c;
    return 0;
}

/* --- in ---------------------------------------------------------------------------------------------------------- */

/* The input cannot be understood from here on: nothing of it is read any more, and the reader is told. */
static int broken(struct stream *st, const char *why) {
    struct call *c = stream_add(st, 0, st->in_size);
    st->parsed_all = true;
    st->carry.size = 0;
    sched_log(st->s, "a stream is not understood from byte %lld on: %s", (long long)st->parsed, why);
    return c->state == CALL_ANSWERED ? 0 : fail(st, c, ERROR_REFUSED, why);
}

static int take_function(struct stream *st, const char *body, size_t size) {
    if (size <= HASH)
        return broken(st, "a FUNC frame without a function");
    return store_function_put(st->s->store, (const uint8_t *)body, body + HASH, size - HASH, sched_now());
}

static int set_call(struct call *c, const char *body, size_t size) {
    size_t options = size >= 4 ? (uint8_t)body[2] | (size_t)(uint8_t)body[3] << 8 : 0;
    uint8_t format = size >= 4 ? (uint8_t)body[0] : 255;
    if (size < 4 || format > 1 || 4 + options > size || (format == 1 && size - 4 - options < HASH))
        return -EPROTO;
    c->format = format ? CALL_HASH : CALL_PICKLE;
    if (options && !(c->options = strndup(body + 4, options)))
        return -ENOMEM;
    c->size = size - 4 - options;
    c->bytes = malloc(c->size ? c->size : 1);
    if (!c->bytes)
        return -ENOMEM;
    memcpy(c->bytes, body + 4 + options, c->size);
    return 0;
}

static int take_call(struct stream *st, uint64_t id, const char *body, size_t size, int64_t end) {
    struct call *c = stream_add(st, id, end);
    if (c->state == CALL_ANSWERED)
        return 0;
    int rc = set_call(c, body, size);
    if (rc == -EPROTO)
        return fail(st, c, ERROR_REFUSED, "a CALL frame that is cut off or of an unknown format");
    if (rc < 0)
        return rc;
    return c->options ? stream_job(st, c) : 0;
}

static int take_cancel(struct stream *st, uint64_t id) {
    for (uint64_t n = st->row.call; n < st->next_call; n++) {
        struct call *c = stream_call(st, n);
        if (c->id != id || c->state == CALL_ANSWERED)
            continue;
        if (c->state == CALL_SENT)
            lease_cancel(st, c);
        if (c->state == CALL_JOB) {
            struct job_row r;
            if (store_job_get(st->s->store, c->job, &r) == 0)
                sched_remove(st->s, &r);
        }
        return fail(st, c, 0, "");
    }
    return 0;
}

static int take_whole(struct stream *st, const struct frame *f, const char *body, size_t size, int64_t end) {
    switch (f->kind) {
    case FRAME_FUNC: return take_function(st, body, size);
    case FRAME_CALL: return take_call(st, f->id, body, size, end);
    case FRAME_CANCEL: return take_cancel(st, f->id);
    default: return f->kind >= FRAME_SKIPPABLE ? 0 : broken(st, "a frame of an unknown kind");
    }
}

/* Pieces gather in part until the frame that they belong to has come. */
static int take_frame(struct stream *st, const struct frame *f, int64_t end) {
    struct buffer *whole = &st->parts;
    if (whole->size && f->id != st->part_id)
        return broken(st, "PART frames of one body with another frame between them");
    if (f->kind != FRAME_PART && whole->size == 0)
        return take_whole(st, f, (const char *)f->body, f->size, end);
    if (whole->size + f->size > FRAME_WHOLE_MAX)
        return broken(st, "a body of more than 1 GiB");
    st->part_id = f->id;
    int rc = buffer_add(whole, f->body, f->size);
    if (rc < 0 || f->kind == FRAME_PART)
        return rc;
    rc = take_whole(st, f, whole->bytes, whole->size, end);
    buffer_free(whole);
    return rc;
}

/* Frames that are whole in bytes are taken where they are; what is left over goes to carry. */
static int64_t take_frames(struct stream *st, const char *bytes, size_t size, int64_t offset) {
    size_t at = 0;
    int rc = 0;
    while (rc == 0 && !stream_full(st) && !st->parsed_all) {
        struct frame f;
        int64_t n = frame_decode((const uint8_t *)bytes + at, size - at, &f);
        if (n < 0)
            rc = broken(st, "something that is no frame");
        if (n <= 0)
            break;
        at += (size_t)n;
        rc = take_frame(st, &f, offset + (int64_t)at);
    }
    return rc < 0 ? rc : (int64_t)at;
}

static int64_t parse(struct stream *st, const char *bytes, size_t size) {
    size_t skip = 0;
    if (st->parsed < FRAME_MAGIC_SIZE) {
        skip = FRAME_MAGIC_SIZE - (size_t)st->parsed;
        if (skip >= size)
            return (int64_t)size;
        bytes += skip;
        size -= skip;
    }
    if (st->carry.size == 0) {
        int64_t n = take_frames(st, bytes, size, st->parsed + (int64_t)skip);
        if (n < 0 || stream_full(st) || st->parsed_all)
            return n < 0 ? n : st->parsed_all ? (int64_t)(skip + size) : (int64_t)skip + n;
        int rc = buffer_add(&st->carry, bytes + n, size - (size_t)n);
        return rc < 0 ? rc : (int64_t)(skip + size);
    }
    int64_t begin = st->parsed + (int64_t)skip - (int64_t)st->carry.size;
    int rc = buffer_add(&st->carry, bytes, size);
    int64_t n = rc < 0 ? rc : take_frames(st, st->carry.bytes, st->carry.size, begin);
    if (n < 0)
        return n;
    memmove(st->carry.bytes, st->carry.bytes + n, st->carry.size - (size_t)n);
    st->carry.size -= (size_t)n;
    st->more = stream_full(st) && st->carry.size;
    return (int64_t)(skip + size);
}

/* A frame that is cut off at the end is dropped: its write was never answered, or the writer meant it so. */
static int finish(struct stream *st) {
    buffer_free(&st->carry);
    buffer_free(&st->parts);
    return 0;
}

const struct codec codec_frames = {WORK_STREAM_FRAMES, parse, finish, answer, fail, started, output, advance};
