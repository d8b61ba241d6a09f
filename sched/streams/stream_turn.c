/* What a turn does with a stream: the parser goes on as far as there is room, what is answered leaves memory, and what
 * was gathered is written to the logs, with how far the stream is. */
#include "sched/leases/lease.h"
#include "sched/streams/state.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* All that was written is answered, in the log, and more may come. */
static bool has_nothing_to_do(const struct stream *st) {
    bool waits =
        st->reading || st->lookahead.reading || st->writing || st->flight || st->storing || st->failed || st->holds;
    return !waits && !st->dirty && !stream_is_closed(st) && st->parsed == st->in_size && stream_all_said(st);
}

/* --- input ------------------------------------------------------------------------------------------------------- */

int stream_feed(struct stream *st, const char *bytes, size_t size) {
    int64_t n = st->codec->parse(st, bytes, size);
    stream_gathered(st);
    if (n < 0)
        return (int)n;
    st->parsed += n;
    return 0;
}

/* Of what was read there may be room for a little at a time. */
static int feed_read(struct stream *st) {
    return stream_feed(st, st->read_buffer + (st->parsed - st->read_at), (size_t)(st->read_end - st->parsed));
}

static void was_read(void *arg, int rc) {
    struct stream *st = arg;
    st->reading = false;
    if (st->id == 0) {
        sched_tick(st->s); /* stream_destroy_left */
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
    int64_t until = st->parsed + PARSED_TURN;
    int rc = 0;
    while (rc == 0 && st->parsed < until && !st->reading && !st->failed && !stream_is_parsed(st) &&
           st->parsed < st->in_size && !stream_full(st)) {
        int64_t before = st->parsed;
        rc = read_on(st);
        if (st->parsed == before)
            break;
        stream_mark(st);
    }
    if (rc == 0 && stream_is_closed(st) && !stream_is_parsed(st) && !st->writing && st->parsed == st->in_size &&
        !stream_full(st)) {
        rc = st->codec->close(st);
        stream_gathered(st);
        stream_becomes(st, STREAM_PARSED);
        stream_mark(st);
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
        return rc < 0 ? rc : sched_transition(s, &r, JOB_DONE, 0);
    }
    lease_drop(st);
    lease_drop_away(s, st->id); /* else what they answer would be kept for ever */
    if (st->failed == EDQUOT)
        strcpy(why, "with further answers its user would have had more bytes than the quota allows; those that are "
                    "here are kept");
    else
        snprintf(why, sizeof why, "the rest of it could not be read: %s",
                 st->failed == EIO ? "it is damaged on the disk, or that cannot be read" : strerror(st->failed));
    return rc < 0 ? rc : sched_fail(s, &r, EIO, why, 0);
}

/* A call at which ppfs has died three times is not tried again. */
static int give_up(struct stream *st) {
    if (st->row.deaths < DEATHS_MAX || !st->row.suspect)
        return 0;
    struct call *c = stream_call(st, st->row.suspect - 1);
    if (!c || c->state != CALL_PENDING)
        return 0;
    return st->codec->fail(st, c, ERROR_DIED, "gave up: it was running at three deaths of ppfs or its node");
}

/* What went on while it was read anew. */
static int resume(struct stream *st) {
    lease_claim(st);
    int rc = stream_parts_claim(st);
    if (rc == 0)
        rc = stream_kept_replay(st);
    return rc < 0 ? rc : stream_parts_answer(st);
}

static int advance(struct stream *st) {
    stream_sweep(st);
    return stream_is_json(st) ? stream_advance_json(st) : 0;
}

static int turn(struct stream *st, bool *ended) {
    st->moved_turn = st->written_turn = 0;
    st->more = false;
    int rc = advance(st);
    if (rc == 0)
        rc = parse_on(st);
    if (rc == 0 && stream_is_parsed(st) && !stream_is_json(st) && !st->held_over)
        rc = stream_hold_over(st);
    if (rc == 0)
        rc = stream_lookahead_on(st);
    if (rc == 0)
        rc = resume(st);
    if (rc == 0)
        rc = give_up(st);
    if (rc == 0 && st->dirty)
        rc = advance(st);
    if (rc < 0 || (!st->dirty && !st->failed))
        return rc;
    stream_place(st);
    size_t gathered = stream_unwritten(st) + st->prints[0].size + st->prints[1].size;
    if ((gathered || st->written_turn) && !st->failed &&
        (rc = quota_bytes(st->s, st->user->uid, (int64_t)gathered)) == -EDQUOT)
        st->failed = EDQUOT;
    else if (rc < 0)
        return rc;
    rc = stream_log_flush(st);
    stream_answers(st);
    answers_count(st);
    stream_prints_resume(st);
    if (rc == 0 && !st->flight) { /* else what it says is not in the log yet */
        *ended = st->failed || (stream_is_parsed(st) && stream_all_said(st));
        rc = *ended ? finished(st) : stream_put(st);
    }
    sched_note(st->s, st->id);
    st->dirty = false;
    if (st->more)
        stream_mark(st);
    return rc;
}

bool stream_may_start(struct sched *s, const struct user *u) {
    bool room = streams_room(s, u);
    s->streams->waits |= !room;
    return room;
}

void stream_turn(struct sched *s) {
    s->stream_turns++;
    answers_turn(s);
    stream_destroy_left(s);
    for (struct stream *st = stream_first(s), *next; st; st = next) {
        bool ended = false;
        next = LIST_NEXT(st, all);
        bool was_active = st->state != STREAM_IDLE;
        stream_gives_back(st);
        stream_answers(st);
        if (!st->dirty && !st->failed && st->parsed == st->in_size && (stream_is_parsed(st) || !stream_is_closed(st))) {
            stream_rest(st, has_nothing_to_do(st));
            continue;
        }
        if (sched_check(s, turn(st, &ended)) < 0)
            return;
        if (ended)
            stream_free(st);
        else
            stream_rest(st, has_nothing_to_do(st));
        if (s->streams->waits && was_active && (ended || st->state == STREAM_IDLE)) {
            users_look(s); /* for its place in memory */
            s->streams->waits = false;
        }
    }
    stream_evict(s);
}
