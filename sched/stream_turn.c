/* What a turn does with a stream: the parser goes on as far as the window has room, the window moves as far as its oldest
 * calls are answered, and what was gathered is written to the logs, with how far the stream is. */
#include "sched/stream_int.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void stream_mark(struct stream *st) {
    st->dirty = true;
    stream_rest(st, false);
    sched_tick(st->s);
}

/* All that was written is answered, in the log, and more may come. */
static bool has_nothing_to_do(const struct stream *st) {
    bool waits = st->reading || st->look.reading || st->writing || st->flight || st->storing || st->failed || st->holds;
    return !waits && !st->dirty && !st->closed && !st->parsed_all && st->parsed == st->in_size && st->row.call == st->next_call;
}

/* --- input ------------------------------------------------------------------------------------------------------- */

int stream_feed(struct stream *st, const char *bytes, size_t size) {
    int64_t n = st->codec->parse(st, bytes, size);
    if (n < 0)
        return (int)n;
    st->parsed += n;
    return 0;
}

/* Of what was read the window may take a little at a time. */
static int feed_read(struct stream *st) {
    return stream_feed(st, st->read_buffer + (st->parsed - st->read_at), (size_t)(st->read_end - st->parsed));
}

static void was_read(void *arg, int rc) {
    struct stream *st = arg;
    st->reading = false;
    if (st->id == 0) {
        stream_free(st);
        return;
    }
    if (rc > 0 && !st->s->stopping) {
        st->read_end = st->read_at + rc;
        sched_check(st->s, feed_read(st));
    } else if (rc <= 0) {
        st->failed = rc < 0 ? -rc : EIO;
    }
    stream_mark(st);
}

/* Reads on in the input where the parser is. What this turn has brought is read from memory. */
static int read_on(struct stream *st) {
    int64_t in_log = st->in_size - (int64_t)st->tail.size;
    if (st->parsed >= in_log)
        return stream_feed(st, st->tail.bytes + (st->parsed - in_log), (size_t)(st->in_size - st->parsed));
    if (st->parsed >= st->read_at && st->parsed < st->read_end)
        return feed_read(st);
    size_t want = in_log - st->parsed < (int64_t)STREAM_READ ? (size_t)(in_log - st->parsed) : STREAM_READ;
    st->read_at = st->read_end = st->parsed;
    int64_t n = stream_input(st, st->read_buffer, want, (uint64_t)st->parsed, was_read);
    if (n == -EINPROGRESS)
        st->reading = true;
    else if (n == -ENOMEM)
        return -ENOMEM;
    else if (n <= 0)
        st->failed = n < 0 ? (int)-n : EIO;
    st->read_end += n > 0 ? n : 0;
    return n > 0 ? feed_read(st) : 0;
}

static int parse_on(struct stream *st) {
    int rc = 0;
    while (rc == 0 && !st->reading && !st->failed && !st->parsed_all && st->parsed < st->in_size && !stream_full(st)) {
        int64_t before = st->parsed;
        rc = read_on(st);
        if (st->parsed == before)
            break;
        stream_mark(st);
    }
    if (rc == 0 && st->closed && !st->parsed_all && !st->writing && st->parsed == st->in_size && !stream_full(st)) {
        rc = st->codec->close(st);
        st->parsed_all = true;
        stream_mark(st);
    }
    return rc;
}

/* --- calls ------------------------------------------------------------------------------------------------------- */

struct call *stream_add(struct stream *st, uint64_t id, int64_t end) {
    uint64_t number = st->next_call++;
    struct call *c = stream_call(st, number);
    uint64_t bit = number - st->row.call;
    *c = (struct call){.state = CALL_PENDING, .id = id, .end = end};
    if (st->row.answered[bit / 8] & (1u << bit % 8))
        c->state = CALL_ANSWERED; /* before a daemon died */
    else
        st->pending++;
    return c;
}

/* The bits are relative to the oldest call: shifted when that moves. */
static void shift(struct stream_row *r, uint64_t by) {
    size_t bytes = by / 8;
    memmove(r->answered, r->answered + bytes, sizeof r->answered - bytes);
    memset(r->answered + sizeof r->answered - bytes, 0, bytes);
    for (unsigned bit = by % 8; bit; bit = 0)
        for (size_t i = 0; i < sizeof r->answered; i++)
            r->answered[i] = (uint8_t)(r->answered[i] >> bit | (i + 1 < sizeof r->answered ? r->answered[i + 1] << (8 - bit) : 0));
}

void stream_hold(struct stream *st, struct call *c, size_t bytes) {
    c->held += bytes;
    st->held += bytes;
}

static void let_go_of(struct stream *st, struct call *c) {
    if (c->state == CALL_ANSWERED)
        st->waiting -= c->held;
    st->held -= c->held;
    c->held = 0;
    free(c->memory);
    c->memory = c->bytes = NULL;
}

void stream_drop_answer(struct call *c) {
    buffer_free(&c->answer);
    chunks_free(&c->frames);
}

void stream_clear(struct stream *st, struct call *c) {
    let_go_of(st, c);
    stream_unindex(st, c);
    free(c->options);
    stream_drop_answer(c);
    *c = (struct call){0};
}

int stream_answered(struct stream *st, struct call *c) {
    if (c->state == CALL_PENDING)
        st->pending--;
    let_go_of(st, c);
    stream_unindex(st, c);
    c->state = CALL_ANSWERED;
    if (c->answer.size) {
        stream_hold(st, c, c->answer.cap);
        st->waiting += c->answer.cap;
    }
    if (stream_number(st, c) + 1 == st->row.suspect)
        st->row.suspect = st->row.deaths = 0;
    stream_mark(st);
    return store_touch(st->s->store);
}

static int advance(struct stream *st) {
    uint64_t moved = 0;
    int rc = 0;
    while (st->row.call + moved < st->next_call && rc == 0) {
        struct call *c = stream_call(st, st->row.call + moved);
        if (c->state != CALL_ANSWERED)
            break;
        if (st->codec == &codec_json && c->answer.size)
            stream_keep(st, st->row.call + moved, KEPT_LINE, c->answer.bytes, c->answer.size);
        rc = st->codec->advance(st, c);
        st->row.at = c->end;
        stream_clear(st, c);
        moved++;
    }
    if (moved) {
        shift(&st->row, moved);
        st->row.call += moved;
    }
    return rc;
}

/* --- the turn ---------------------------------------------------------------------------------------------------- */

static int finished(struct stream *st) {
    struct sched *s = st->s;
    struct job_row r;
    char why[JOB_WHY_MAX];
    int rc = store_job_get(s->store, st->id, &r);
    if (!st->failed) {
        lease_end(st);
        return rc < 0 ? rc : sched_move(s, &r, JOB_DONE, 0);
    }
    lease_drop(st);
    snprintf(why, sizeof why, "the rest of it could not be read: %s", strerror(st->failed));
    return rc < 0 ? rc : sched_fail(s, &r, EIO, why, 0);
}

void stream_suspect(struct stream *st, const struct call *c) {
    if (st->row.suspect || store_touch(st->s->store) < 0)
        return;
    st->row.suspect = stream_number(st, c) + 1;
    stream_mark(st);
}

/* A call at which ppfs has died three times is not tried again. */
static int give_up(struct stream *st) {
    uint64_t number = st->row.suspect - 1;
    if (st->row.deaths < DEATHS_MAX || !st->row.suspect || number < st->row.call || number >= st->next_call)
        return 0;
    struct call *c = stream_call(st, number);
    if (c->state != CALL_PENDING)
        return 0;
    return st->codec->fail(st, c, ERROR_DIED, "gave up: it was running at three deaths of ppfs or its node");
}

static int turn(struct stream *st, bool *ended) {
    int rc = advance(st);
    if (rc == 0)
        rc = parse_on(st);
    if (rc == 0)
        rc = stream_look_on(st);
    if (rc == 0)
        rc = stream_kept_replay(st);
    if (rc == 0)
        rc = give_up(st);
    if (rc == 0 && st->dirty)
        rc = advance(st);
    if (rc < 0 || (!st->dirty && !st->failed))
        return rc;
    rc = stream_log_flush(st);
    run_output_resume(st);
    if (rc == 0 && !st->flight) { /* else what it says is not in the log yet */
        *ended = st->failed || (st->parsed_all && st->row.call == st->next_call);
        rc = *ended ? finished(st) : store_stream_put(st->s->store, st->id, &st->row);
    }
    sched_note(st->s, st->id);
    st->dirty = false;
    return rc;
}

void stream_turn(struct sched *s) {
    for (struct stream *st = s->streams, *next; st; st = next) {
        bool ended = false;
        next = st->next;
        bool was_active = !st->idle;
        if (!st->dirty && !st->failed && st->parsed == st->in_size && (st->parsed_all || !st->closed)) {
            stream_rest(st, has_nothing_to_do(st));
            continue;
        }
        if (sched_check(s, turn(st, &ended)) < 0)
            return;
        if (ended)
            stream_free(st);
        else
            stream_rest(st, has_nothing_to_do(st));
        if (s->stream_waits && was_active && (ended || st->idle)) {
            s->users_unknown = true; /* for its place in memory */
            s->stream_waits = false;
        }
    }
    stream_evict(s);
}

