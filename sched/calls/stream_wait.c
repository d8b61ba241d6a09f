/* JSON Lines are answered in the order of the lines. Answers that came before those of older calls wait in memory; when
 * there are many of them they go to a log of their own, a slice a turn, and are committed as answered. When all that is
 * before them has been answered its rows become rows of the answers' log, as they are. */
#include "sched/calls/stream_int.h"

#define WAITING_CALLS 4096u     /* that wait in memory, from which on they are written down ... */
#define ROW (48u * 1024u)       /* about a row's bytes */
#define WRITTEN_TURN (1u << 20) /* bytes that a turn writes down ... */
#define MOVED 16                /* rows that move at once */
#define MOVED_TURN (1u << 20)   /* bytes that move in a turn, where a row counts ... */
#define MOVED_ROW 8192u         /* ... as so many more */
#define PIECE_BITS                                                                                                     \
    16 /* a row's place in its log: the number of its first call, and which piece of a large answer it is */

static int put_row(struct stream *st) {
    stream_place(st);
    return stream_put(st);
}

/* --- down -------------------------------------------------------------------------------------------------------- */

static int append(struct stream *st, uint64_t number, unsigned piece, const char *bytes, size_t size) {
    st->wrote_down = true;
    return store_log_append(st->s->store, st->id, BODY_WAITING, (int64_t)(number << PIECE_BITS | piece), bytes, size);
}

static bool is_large(const struct call *c) {
    return c->pieces.answer.size > INLINE_MAX - ROW;
}

/* In rows of its own; what a turn has no time for follows in the next. */
static int write_large(struct stream *st, struct call *c) {
    int rc = 0;
    st->partial = c;
    while (c->down < c->pieces.answer.size && rc == 0 && st->written_turn < WRITTEN_TURN) {
        size_t left = c->pieces.answer.size - c->down, n = left < INLINE_MAX ? left : INLINE_MAX;
        rc = append(st, c->number, (unsigned)(c->down / INLINE_MAX), c->pieces.answer.bytes + c->down, n);
        c->down += n;
        st->written_turn += n;
    }
    return rc;
}

/* It is in rows: it leaves memory. Returns the call behind it. */
static struct call *let_go(struct stream *st, struct call *c) {
    struct call *next = TAILQ_NEXT(c, order);
    st->written_turn += c->pieces.answer.size - c->down;
    stream_keep(st, c->number, KEPT_WHOLE, NULL, 0, &c->pieces); /* until that is committed */
    stream_remove(st, c);
    return next;
}

/* Calls from *at on, one behind the other, as many as a row takes; *at is then the first that is not among them, or a
 * large one of which there is more. */
static int write_row(struct stream *st, struct call **at) {
    struct buffer row = {0};
    struct call *c = *at;
    uint64_t first = c->number, expected = first;
    int rc = is_large(c) ? write_large(st, c) : 0;
    if (is_large(c))
        c = rc == 0 && c->down == c->pieces.answer.size ? let_go(st, c) : c;
    else
        for (; rc == 0 && c && c->state == CALL_ANSWERED && c->number == expected && !is_large(c) && row.size < ROW;
             expected++) {
            rc = buffer_add(&row, c->pieces.answer.bytes, c->pieces.answer.size);
            c = let_go(st, c);
        }
    if (rc == 0 && row.size)
        rc = append(st, first, 0, row.bytes, row.size);
    buffer_free(&row);
    *at = c;
    return rc;
}

/* Whether it is time: until half of what made it so is written. */
static bool too_many(struct stream *st) {
    size_t share = stream_share(st) / 4;
    if (st->waiting_calls > WAITING_CALLS || st->waiting > share)
        st->writes_down = true;
    else if (st->waiting_calls < WAITING_CALLS / 2 && st->waiting < share / 2)
        st->writes_down = false;
    return st->writes_down;
}

static int write_down(struct stream *st) {
    if (!too_many(st) && !st->partial)
        return 0;
    int rc = stream_log_settle(st);
    if (rc <= 0)
        return rc; /* what is on the way to the disk comes first */
    rc = st->wrote_down ? 0 : store_body_put_file(st->s->store, st->id, BODY_WAITING, 0, BODY_LOG, NULL);
    struct call *c = st->partial ? st->partial : TAILQ_FIRST(&st->calls);
    st->more |= st->partial && c == TAILQ_FIRST(&st->calls); /* when it is whole, it moves on */
    while (c && rc == 0 && st->written_turn < WRITTEN_TURN)
        if (c->state == CALL_ANSWERED)
            rc = write_row(st, &c);
        else
            c = TAILQ_NEXT(c, order);
    st->more |= too_many(st) || st->partial;
    return rc < 0 ? rc : put_row(st);
}

/* --- when it is read anew ---------------------------------------------------------------------------------------- */

void stream_wait_load(struct stream *st, int64_t end) {
    st->wrote_down = end > 0;
    st->rows_below = end > 0 ? ((uint64_t)end >> PIECE_BITS) + 1 : 0;
}

/* A part of an answer that did not become whole is none: the call is not answered, and may be answered otherwise. */
int stream_wait_added(struct stream *st, uint64_t number) {
    int64_t first = (int64_t)(number << PIECE_BITS), behind = (int64_t)((number + 1) << PIECE_BITS);
    int n = number < st->rows_below ? store_log_cut(st->s->store, st->id, BODY_WAITING, first, behind, 1) : 0;
    if (n > 0)
        st->stale = number + 1;
    return n < 0 ? n : 0;
}

/* The rest of it, some a turn. 1: it is gone. */
static int cut_stale(struct stream *st) {
    int n = st->stale ? store_log_cut(st->s->store, st->id, BODY_WAITING, (int64_t)((st->stale - 1) << PIECE_BITS),
                                      (int64_t)(st->stale << PIECE_BITS), MOVED)
                      : 0;
    if (n < MOVED)
        st->stale = 0;
    else
        st->more = true;
    return n < 0 ? n : n < MOVED;
}

/* --- and on to the answers --------------------------------------------------------------------------------------- */

/* All below that number is answered, and what of it is in memory has gone out. 1: it is in the answers' log, 0: not
 * yet. */
static int move_up(struct stream *st, uint64_t below) {
    int rc = st->moved_turn < MOVED_TURN ? stream_log_settle(st) : 0;
    if (rc <= 0)
        return rc;
    int64_t had = st->out_size;
    int n = store_log_move(st->s->store, st->id, BODY_WAITING, (int64_t)(below << PIECE_BITS), BODY_RESULT,
                           &st->out_size, MOVED);
    if (n < 0)
        return n;
    st->moved_turn += (size_t)(st->out_size - had) + (size_t)n * MOVED_ROW;
    if (n < MOVED)
        st->said = below;
    st->more |= st->moved_turn >= MOVED_TURN;
    if (n) {
        stream_mark(st);
        rc = put_row(st);
    }
    return rc < 0 ? rc : st->moved_turn < MOVED_TURN;
}

int stream_advance_json(struct stream *st) {
    int rc = cut_stale(st);
    if (rc <= 0)
        return rc;
    while (rc > 0) {
        struct call *c = TAILQ_FIRST(&st->calls);
        uint64_t below = c ? c->number : st->next_call;
        if (below > st->said && !st->wrote_down)
            st->said = below;
        if (below > st->said) {
            rc = move_up(st, below);
            continue;
        }
        if (!c || c->state != CALL_ANSWERED || c == st->partial)
            break;
        rc = st->codec->advance(st, c);
        if (rc < 0)
            break;
        st->said = c->number + 1;
        stream_remove(st, c);
        rc = 1;
    }
    return rc < 0 ? rc : write_down(st);
}
