/* Binary streams: frames in, frames out, answers in the order in which calls end. ppfs-stream(5) has the format. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "net/descriptors.h"
#include "net/io.h"
#include "sched/calls/stream_int.h"
#include "sched/calls/objects.h"

#define HASH 32u
#define STEAL_MIN (64u * 1024u) /* bytes from which on a call keeps the memory that its frames were put together in */

/* ... and from which on it is put together in a memfd, which a worker can map: for less its pages cost more ... */
#define FILE_MIN (4u << 20)
#define LEFT_FREE 1024 /* ... unless so few descriptors are free; without it goes as well */

/* --- out --------------------------------------------------------------------------------------------------------- */

static int put(struct stream *st, uint8_t kind, uint64_t id, const void *bytes, size_t size) {
    uint8_t header[FRAME_HEADER];
    const char *p = bytes;
    int rc = buffer_reserve(&st->out, size + FRAME_HEADER * (size / FRAME_BODY_MAX + 1));
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

/* Keeps the bytes of out from there on. */
static void keep(struct stream *st, const struct call *c, enum kept_kind kind, size_t from) {
    stream_keep(st, c->number, kind, st->out.bytes + from, st->out.size - from, NULL);
}

static int put_answer(struct stream *st, struct call *c, uint8_t kind, const void *bytes, size_t size) {
    size_t from = st->out.size;
    int rc = put(st, kind, c->id, bytes, size);
    if (rc < 0)
        return rc;
    keep(st, c, KEPT_WHOLE, from);
    return stream_answered(st, c);
}

/* Takes over the frames. 0; -ENOMEM: the caller keeps them. */
static int put_large(struct stream *st, struct call *c, struct chunks *frames) {
    struct pieces also = {0};
    int rc = chunks_take(&st->large, &st->out, &st->user->answers);
    if (rc == 0)
        rc = chunks_share(frames, &also.frames);
    if (rc < 0)
        return rc;
    stream_keep(st, c->number, KEPT_WHOLE, NULL, 0, &also);
    chunks_join(&st->large, frames);
    return stream_answered(st, c);
}

static int again(struct stream *st, struct call *c, struct pieces *p, const void *bytes, size_t size) {
    if (p->frames.first)
        return put_large(st, c, &p->frames);
    size_t from = st->out.size;
    int rc = buffer_add(&st->out, bytes, size);
    if (rc < 0)
        return rc;
    keep(st, c, KEPT_WHOLE, from);
    return stream_answered(st, c);
}

static int fail(struct stream *st, struct call *c, enum stream_error error, const char *why) {
    if (error == 0)
        return put_answer(st, c, FRAME_CANCELLED, NULL, 0);
    struct buffer b = {0};
    const uint8_t head[8] = {(uint8_t)error};
    int rc = buffer_add(&b, head, sizeof head);
    if (rc == 0)
        rc = buffer_add(&b, why, strlen(why));
    if (rc == 0)
        rc = buffer_add(&b, "\n", 1);
    if (rc == 0)
        rc = put_answer(st, c, FRAME_ERROR, b.bytes, b.size);
    buffer_free(&b);
    return rc;
}

static int part(struct pieces *to, const void *bytes, size_t size, size_t *account) {
    return chunks_body(&to->frames) + size > FRAME_WHOLE_MAX ? -EFBIG : chunks_add(&to->frames, bytes, size, account);
}

/* A large answer, which came in pieces, goes to the log without a copy. */
static int answer(struct stream *st, struct call *c, enum answer_kind kind, const void *bytes, size_t size) {
    uint8_t frame = kind == ANSWER_VALUE ? FRAME_RESULT : FRAME_ERROR;
    struct chunks *frames = &c->pieces.frames;
    if (!frames->first)
        return put_answer(st, c, frame, bytes, size);
    int rc = part(&c->pieces, bytes, size, &st->user->answers);
    if (rc < 0)
        return rc;
    chunks_finish(frames, frame, c->id);
    return put_large(st, c, frames);
}

static int started(struct stream *st, struct call *c) {
    stream_mark(st);
    int rc = put(st, FRAME_STARTED, c->id, NULL, 0);
    return rc < 0 ? rc : store_touch(st->s->store);
}

static int output(struct stream *st, struct call *c, enum output_kind which, const void *bytes, size_t size) {
    const char *p = bytes;
    char piece[4097];
    size_t from = st->out.size;
    stream_mark(st);
    int rc = store_touch(st->s->store); /* first: if it fails nothing was printed */
    for (size_t n; size && rc == 0; p += n, size -= n) {
        n = size < sizeof piece - 1 ? size : sizeof piece - 1;
        piece[0] = which == OUTPUT_STDERR ? 2 : 1;
        memcpy(piece + 1, p, n);
        rc = put(st, FRAME_OUTPUT, c->id, piece, n + 1);
    }
    if (rc < 0)
        st->out.size = from;
    else
        keep(st, c, KEPT_PRINTED, from);
    return rc;
}

/* --- in ---------------------------------------------------------------------------------------------------------- */

/* The input makes no sense from here on: parsing ends, and the reader is told why. */
static int broken(struct stream *st, const char *why) {
    struct call *c;
    int rc = stream_add(st, 0, st->in_size, &c);
    stream_becomes(st, STREAM_PARSED);
    st->carry.size = 0;
    stream_parts_free(st);
    sched_log_user(st->s, st->id, "a stream is not understood from byte %lld on: %s", (long long)st->parsed, why);
    return rc < 0 || !c ? rc : fail(st, c, ERROR_REFUSED, why);
}

/* Takes the body of a CALL; a large one keeps the memory of parts, if the body is there. */
static int set_call(struct stream *st, struct call *c, const char *body, size_t size) {
    size_t options = size >= 4 ? (uint8_t)body[2] | (size_t)(uint8_t)body[3] << 8 : 0;
    uint8_t format = size >= 4 ? (uint8_t)body[0] : 255;
    size_t values = size >= 4 ? (uint8_t)body[1] : 0;
    if (size < 4 || format > 1 || 4 + options + (values + format) * HASH > size)
        return -EPROTO;
    c->format = format ? CALL_HASH : CALL_PICKLE;
    if (values)
        c->format = CALL_VALUES;
    if (options && !(c->options = strndup(body + 4, options)))
        return -ENOMEM;
    size_t skip = values ? 0 : 4 + options;
    c->size = size - skip;
    if (st->whole) {
        c->shared = shared_buffer_hold(st->whole);
        c->bytes = (char *)st->whole->memory + skip;
        stream_hold(st, c, size);
        return 0;
    }
    if (body == st->parts.bytes && c->size >= STEAL_MIN) {
        c->memory = st->parts.bytes;
        c->bytes = c->memory + skip;
        stream_hold(st, c, st->parts.cap);
        st->parts = (struct buffer){0};
        return stream_lend(c);
    }
    c->bytes = c->memory = malloc(c->size ? c->size : 1);
    if (!c->bytes)
        return -ENOMEM;
    memcpy(c->bytes, body + skip, c->size);
    stream_hold(st, c, c->size);
    return 0;
}

static int cancel(struct stream *st, struct call *c) {
    struct job_row r;
    int rc = 0;
    if (c->state == CALL_SENT)
        st->cancel_sent(st, c);
    if (c->state == CALL_JOB && store_job_get(st->s->store, c->job, &r) == 0)
        rc = sched_remove(st->s, &r);
    return rc < 0 ? rc : fail(st, c, 0, NULL);
}

/* The key of measured run times: the function's hash, or the stream if the pickle has the function. */
static uint64_t function_key(const struct stream *st, const struct call *c) {
    uint64_t head[2];
    const uint8_t *hash = call_function(c);
    if (!hash)
        return stream_key(st);
    memcpy(head, hash, sizeof head);
    return estimate_key_of(st->user->uid, estimate_key(head[0], head[1]));
}

static int take_call(struct stream *st, uint64_t id, const char *body, size_t size, int64_t end) {
    struct call *c;
    int rc = stream_add(st, id, end, &c);
    if (!c)
        return rc;
    stream_index(st, c);
    c->released = stream_released(st, c);
    rc = set_call(st, c, body, size);
    if (rc == -EPROTO)
        return fail(st, c, ERROR_REFUSED, "a CALL frame that is cut off or of an unknown format");
    if (rc == 0)
        c->function = (uint16_t)estimate_function(st->s, function_key(st, c));
    if (rc == 0 && c->options && !stream_kept_ended(st, c->number) && !stream_part_waits(st, c->number))
        rc = stream_job(st, c);
    if (rc == 0 && c->state != CALL_ANSWERED && stream_cancelled(st, c))
        rc = cancel(st, c);
    return rc;
}

/* All calls with that id; a client that has broken its word, and used one for thousands, cannot cancel more than a
 * turn's at once. */
static int cancel_all(struct stream *st, uint64_t id) {
    struct call *c;
    int rc;
    do {
        stream_did(st);
        c = stream_call_of(st, id);
        rc = c ? cancel(st, c) : 0;
    } while (rc == 0 && c && !stream_did_enough(st));
    return rc;
}

static int urgent(struct stream *st, const struct frame *f) {
    if (f->kind == FRAME_CANCEL)
        return cancel_all(st, f->id);
    stream_did(st);
    return stream_release(st, f->id);
}

static int take_whole(struct stream *st, const struct frame *f, const char *body, size_t size, int64_t end) {
    switch (f->kind) {
    case FRAME_FUNC: return objects_take(st, body, size);
    case FRAME_CALL: return take_call(st, f->id, body, size, end);
    case FRAME_CANCEL:
    case FRAME_RELEASE: return urgent(st, f);
    default: return 0; /* a skippable frame */
    }
}

/* --- frames out of bytes ----------------------------------------------------------------------------------------- */

void stream_parts_free(struct stream *st) {
    buffer_free(&st->parts);
    if (st->parts_file)
        close(st->parts_file);
    st->parts_file = 0;
}

/* Adds bytes to the body that is put together. */
static int gather(struct stream *st, const void *bytes, size_t size) {
    struct buffer *b = &st->parts;
    int fd = st->parts_file;
    if (!fd && b->size + size >= FILE_MIN && descriptors_spare(1, LEFT_FREE))
        fd = memfd_create("ppfs-call", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd <= 0)
        return buffer_add(b, bytes, size);
    int rc = st->parts_file ? 0 : io_write(fd, b->bytes, b->size, 0);
    if (rc == 0)
        rc = io_write(fd, bytes, size, (int64_t)b->size);
    if (rc < 0) {
        if (!st->parts_file)
            close(fd);
        return rc;
    }
    if (!st->parts_file) {
        free(b->bytes);
        *b = (struct buffer){.size = b->size};
    }
    st->parts_file = fd;
    b->size += size;
    return 0;
}

/* The body is whole in the memfd. */
static int take_file(struct stream *st, int64_t end) {
    size_t size = st->parts.size;
    int rc = -ENOMEM;
    st->whole = shared_buffer_of_file(st->parts_file, size);
    if (st->whole) {
        st->parts_file = 0;
        rc = take_whole(st, &st->part, st->whole->memory, size, end);
    }
    shared_buffer_release(st->whole);
    st->whole = NULL;
    stream_parts_free(st);
    return rc;
}

/* The frame st->part is complete; parts has its bytes, behind those of the PARTs before it. */
static int end_frame(struct stream *st, int64_t end) {
    st->in_frame = false;
    if (st->part.kind == FRAME_PART)
        return 0;
    if (st->parts_file)
        return take_file(st, end);
    int rc = take_whole(st, &st->part, st->parts.bytes, st->parts.size, end);
    buffer_empty(&st->parts);
    return rc;
}

/* Takes a frame that is complete in the caller's bytes. */
static int take_frame(struct stream *st, const struct frame *f, int64_t end) {
    const char *why = stream_refuses(st->parts.size, st->part.id, f);
    if (why)
        return broken(st, why);
    if (f->kind != FRAME_PART && st->parts.size == 0)
        return take_whole(st, f, (const char *)f->body, f->size, end);
    int rc = gather(st, f->body, f->size);
    st->part = *f;
    return rc < 0 ? rc : end_frame(st, end);
}

/* Begins a frame whose body is gathered as it comes. Returns the bytes taken or -errno. */
static int64_t begin_frame(struct stream *st, const char *bytes, size_t size) {
    struct frame f;
    size_t n = FRAME_HEADER - st->carry.size < size ? FRAME_HEADER - st->carry.size : size;
    int rc = buffer_add(&st->carry, bytes, n);
    if (rc < 0 || st->carry.size < FRAME_HEADER)
        return rc < 0 ? rc : (int64_t)n;
    st->carry.size = 0;
    const char *why = frame_header((const uint8_t *)st->carry.bytes, &f) < 0
                          ? "something that is no frame"
                          : stream_refuses(st->parts.size, st->part.id, &f);
    if (why) {
        rc = broken(st, why);
        return rc < 0 ? rc : (int64_t)n;
    }
    rc = st->parts.size + f.size < FILE_MIN ? buffer_reserve(&st->parts, f.size) : 0;
    st->part = f;
    st->left = f.size;
    st->in_frame = true;
    return rc < 0 ? rc : (int64_t)n;
}

/* Continues the frame that has begun, and advances *at. offset: of bytes[0] in the input. */
static int go_on(struct stream *st, const char *bytes, size_t size, size_t *at, int64_t offset) {
    size_t n = st->left < size - *at ? st->left : size - *at;
    int rc = gather(st, bytes + *at, n);
    *at += n;
    st->left -= (uint32_t)n;
    return rc < 0 || st->left ? rc : end_frame(st, offset + (int64_t)*at);
}

/* Stops between two frames when there is no room. */
static int64_t parse(struct stream *st, const char *bytes, size_t size) {
    size_t at = st->parsed < FRAME_MAGIC_SIZE ? FRAME_MAGIC_SIZE - (size_t)st->parsed : 0;
    int64_t n = 0;
    if (at >= size)
        return (int64_t)size;
    while (n >= 0 && !stream_is_parsed(st) && (at < size || (st->in_frame && !st->left))) {
        struct frame f;
        if (st->in_frame) {
            n = go_on(st, bytes, size, &at, st->parsed);
            continue;
        }
        if (!st->parts.size)
            st->begun = st->parsed + (int64_t)at - (int64_t)st->carry.size;
        if (stream_full(st) || !stream_may_gather(st, st->parts.size))
            break;
        n = st->carry.size ? 0 : frame_decode((const uint8_t *)bytes + at, size - at, &f);
        if (n > 0) {
            at += (size_t)n;
            n = take_frame(st, &f, st->parsed + (int64_t)at);
        } else if (n < 0) {
            n = broken(st, "something that is no frame");
        } else {
            n = begin_frame(st, bytes + at, size - at);
            at += n > 0 ? (size_t)n : 0;
        }
    }
    if (n < 0)
        return n;
    return (int64_t)(stream_is_parsed(st) ? size : at);
}

/* A frame that is cut off at the end is dropped: its write was never answered, or the writer stopped there. */
static int finish(struct stream *st) {
    buffer_free(&st->carry);
    stream_parts_free(st);
    st->in_frame = false;
    return 0;
}

const struct codec codec_frames = {.kind = WORK_STREAM_FRAMES,
                                   .parse = parse,
                                   .close = finish,
                                   .part = part,
                                   .answer = answer,
                                   .fail = fail,
                                   .started = started,
                                   .output = output,
                                   .again = again,
                                   .lookahead = stream_lookahead_frames,
                                   .urgent = urgent};
