/* JSON Lines: one {"call": ...} or {"run": ...} a line, one line of answer each, in the order of the lines. Answers
 * that come before their turn wait: stream_wait.c. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sched/job/json_text.h"
#include "sched/calls/stream_int.h"

static size_t skip(const char *text, size_t size, size_t at, const char *what) {
    size_t n = strlen(what);
    while (at < size && (text[at] == ' ' || text[at] == '\t'))
        at++;
    return at + n <= size && memcmp(text + at, what, n) == 0 ? at + n : size;
}

/* The key of measured run times: the name if "call" is the first key, else the stream. */
static uint64_t function_key(const struct stream *st, const char *line, size_t size) {
    size_t at = skip(line, size, skip(line, size, skip(line, size, skip(line, size, 0, "{"), "\"call\""), ":"), "\"");
    const char *end = at < size ? memchr(line + at, '"', size - at) : NULL;
    if (!end)
        return stream_key(st);
    return estimate_key_of(st->user->uid, estimate_key_text(line + at, (size_t)(end - line) - at));
}

/* One complete line. Blank ones are no calls. */
static int take_line(struct stream *st, const char *line, size_t size, int64_t end) {
    size_t mark = json_text_mark(line, size); /* a byte order mark, of this file or of one appended to it */
    line += mark;
    size -= mark;
    st->lines++;
    if (size && line[size - 1] == '\r')
        size--;
    if (strspn(line, " \t") >= size)
        size = 0;
    if (size == 0 && !st->skipping)
        return 0;
    struct call *c;
    bool skipped = st->skipping;
    int rc = stream_add(st, st->lines, end, &c);
    st->skipping = false;
    if (c)
        rc = stream_wait_added(st, c->number);
    if (!c || rc < 0)
        return rc;
    c->format = CALL_JSON;
    if (skipped)
        return st->codec->fail(st, c, ERROR_REFUSED, "the line is longer than 16 MiB");
    c->bytes = c->memory = malloc(size);
    if (!c->bytes)
        return -ENOMEM;
    memcpy(c->bytes, line, size);
    c->size = size;
    c->function = (uint16_t)estimate_function(st->s, function_key(st, line, size));
    stream_hold(st, c, size);
    return stream_lend(c);
}

static int take_carried(struct stream *st, int64_t end) {
    int rc = buffer_add(&st->carry, "", 1); /* strspn above wants an end */
    if (rc == 0)
        rc = take_line(st, st->carry.bytes, st->carry.size - 1, end);
    buffer_empty(&st->carry);
    return rc;
}

static int64_t parse(struct stream *st, const char *bytes, size_t size) {
    size_t at = 0;
    int rc = 0;
    while (at < size && !stream_full(st) && rc == 0) {
        size_t most = size - at < STREAM_READ ? size - at : STREAM_READ;
        const char *newline = memchr(bytes + at, '\n', most);
        size_t n = newline ? (size_t)(newline - bytes) - at : most;
        st->begun = st->parsed + (int64_t)at - (int64_t)st->carry.size;
        if (!st->skipping && !stream_may_gather(st, st->carry.size))
            break;
        st->skipping |= st->carry.size + n > SPEC_JSON_MAX;
        if (st->skipping)
            buffer_empty(&st->carry);
        else
            rc = buffer_add(&st->carry, bytes + at, n);
        at += n + (newline ? 1 : 0);
        if (rc == 0 && newline)
            rc = take_carried(st, st->parsed + (int64_t)at);
    }
    return rc < 0 ? rc : (int64_t)at;
}

/* A last line without a newline counts. */
static int finish(struct stream *st) {
    return st->carry.size || st->skipping ? take_carried(st, st->in_size) : 0;
}

/* A waiting answer takes no more memory than it needs. */
static int keep(struct call *c, const char *text, size_t size) {
    char *line = malloc(size + 1);
    if (!line)
        return -ENOMEM;
    memcpy(line, text, size);
    line[size] = '\n';
    buffer_free(&c->pieces.answer);
    c->pieces.answer.bytes = line;
    c->pieces.answer.size = c->pieces.answer.cap = size + 1;
    return 0;
}

/* The first line is the sentence; the traceback that may follow has no place here. */
static int fail(struct stream *st, struct call *c, enum stream_error error, const char *why) {
    json_t *j = json_pack("{s:o,s:I}", "error", json_text_shown(why, strcspn(why, "\n")), "line", (json_int_t)c->id);
    char *line = j ? json_dumps(j, JSON_COMPACT) : NULL;
    int rc = line ? keep(c, line, strlen(line)) : -ENOMEM;
    json_decref(j);
    free(line);
    return rc < 0 ? rc : stream_answered(st, c);
}

static int part(struct pieces *to, const void *bytes, size_t size, size_t *account) {
    if (to->answer.size + size > FRAME_WHOLE_MAX)
        return -EFBIG;
    int rc = buffer_add(&to->answer, bytes, size);
    pieces_count(to, account);
    return rc;
}

/* A value is a line; the first line of an error is the sentence, the rest its traceback. */
static int answer_whole(struct stream *st, struct call *c, enum answer_kind kind, const void *bytes, size_t size) {
    const char *text = bytes;
    while (size && text[size - 1] == '\n')
        size--;
    if (kind == ANSWER_VALUE && !memchr(text, '\n', size)) {
        int rc = keep(c, text, size);
        return rc < 0 ? rc : stream_answered(st, c);
    }
    const char *newline = memchr(text, '\n', size);
    char *why = strndup(text, newline ? (size_t)(newline - text) : size);
    int rc = why ? fail(st, c, ERROR_RAISED, why) : -ENOMEM;
    free(why);
    return rc;
}

static int answer(struct stream *st, struct call *c, enum answer_kind kind, const void *bytes, size_t size) {
    struct buffer *text = &c->pieces.answer;
    if (!text->size)
        return answer_whole(st, c, kind, bytes, size);
    int rc = buffer_add(text, bytes, size);
    if (rc < 0)
        return rc;
    if (kind == ANSWER_VALUE && !memchr(text->bytes, '\n', text->size - 1)) { /* a large value is not copied again */
        if (text->bytes[text->size - 1] != '\n')
            rc = buffer_add(text, "\n", 1);
        return rc < 0 ? rc : stream_answered(st, c);
    }
    struct buffer whole = c->pieces.answer;
    c->pieces.answer = (struct buffer){0};
    rc = answer_whole(st, c, kind, whole.bytes, whole.size);
    buffer_free(&whole);
    return rc;
}

int stream_json_text(struct stream *st, struct call *c, struct buffer *text) {
    buffer_free(&c->pieces.answer);
    c->pieces.answer = *text;
    *text = (struct buffer){0};
    int rc = buffer_add(&c->pieces.answer, "\n", 1);
    return rc < 0 ? rc : stream_answered(st, c);
}

static int started(struct stream *st, struct call *c) {
    return 0;
}

/* The output of all calls goes to info/NAME/stdout and stderr. */
static int output(struct stream *st, struct call *c, enum output_kind which, const void *bytes, size_t size) {
    stream_mark(st);
    int rc = store_touch(st->s->store);
    if (rc == 0)
        rc = buffer_add(&st->prints[which == OUTPUT_STDERR], bytes, size);
    if (rc == 0)
        stream_keep(st, c->number, which == OUTPUT_STDERR ? KEPT_STDERR : KEPT_STDOUT, bytes, size, NULL);
    return rc;
}

static int advance(struct stream *st, struct call *c) {
    struct buffer *line = &c->pieces.answer;
    struct chunks one = {0};
    struct pieces also = {0};
    if (line->size <= INLINE_MAX) {
        stream_keep(st, c->number, KEPT_WHOLE, line->bytes, line->size, NULL);
        return buffer_add(&st->out, line->bytes, line->size);
    }
    int rc = chunks_take(&st->large, &st->out, &st->user->answers); /* the earlier answers */
    if (rc == 0)
        rc = chunks_take(&one, line, &st->user->answers);
    if (rc == 0)
        rc = chunks_share(&one, &also.frames);
    if (rc < 0) /* kept as a waiting answer (stream_kept_gather) */
        chunks_give(&one, line);
    pieces_count(&c->pieces, &st->user->answers);
    if (rc < 0)
        return rc;
    stream_keep(st, c->number, KEPT_WHOLE, NULL, 0, &also);
    chunks_join(&st->large, &one);
    return 0;
}

static int again(struct stream *st, struct call *c, struct pieces *p, const void *bytes, size_t size) {
    int rc = p->frames.first ? chunks_give(&p->frames, &p->answer) : buffer_add(&p->answer, bytes, size);
    if (rc < 0)
        return rc;
    pieces_free(&c->pieces);
    c->pieces.answer = p->answer;
    p->answer = (struct buffer){0};
    return stream_answered(st, c);
}

const struct codec codec_json = {.kind = WORK_STREAM_JSON,
                                 .parse = parse,
                                 .close = finish,
                                 .part = part,
                                 .answer = answer,
                                 .fail = fail,
                                 .started = started,
                                 .output = output,
                                 .advance = advance,
                                 .again = again};
