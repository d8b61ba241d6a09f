/* The answer of a call job goes to its stream. Bodies in files come through the disk thread, a piece a turn, because a
 * program may print a gigabyte and nobody else is to wait for it. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sched/job/json_string.h"
#include "sched/calls/stream_int.h"

#define PIECE (256u * 1024u)

enum { STDOUT /* of a program that failed */, VALUE, TEXTS };

struct ending {
    TAILQ_ENTRY(ending) waits; /* of user.endings */
    struct sched *s;
    struct user *user;
    struct job_row row;
    uint64_t loaded; /* of its stream: a stream that is read anew begins anew */
    int at;          /* which of the two */
    bool found;      /* its body was looked up: */
    struct body body;
    int64_t off;             /* bytes passed on */
    int unreadable;          /* errno */
    struct buffer piece;     /* the last piece of VALUE stays here */
    struct json_string text; /* of a program that succeeded, instead */
    size_t counted;          /* bytes of text that user.answers has */
};

static void count_text(struct ending *e) {
    size_t now = e->text.text.cap;
    e->user->answers += now - e->counted;
    e->counted = now;
}

static void free_ending(struct ending *e) {
    if (e->user->ending == e)
        e->user->ending = NULL;
    buffer_free(&e->piece);
    buffer_free(&e->text.text);
    count_text(e);
    free(e);
}

static bool is_program(const struct job *j) {
    return j->kind == WORK_JSON_RUN;
}

static enum stream_error error_of(const struct job *j) {
    if (j->state == JOB_CANCELLED)
        return 0;
    if (j->error == ETIMEDOUT || j->error == EINVAL)
        return j->error == EINVAL ? ERROR_OPTIONS : ERROR_TIMEOUT;
    if (j->exit_signal || j->exit_status)
        return ERROR_DIED;
    return j->attempt ? ERROR_RAISED : ERROR_REFUSED;
}

/* Whether the worker has made the whole ERROR: the call raised. */
static bool told_itself(const struct job *j) {
    return j->state != JOB_DONE && work_told(j->kind) == WORK_CALL && error_of(j) == ERROR_RAISED;
}

/* The next body; false: there is none. */
static bool body_at(const struct ending *e, enum job_body *b) {
    const struct job *j = &e->row.job;
    enum job_body result = job_result_body(j->kind);
    bool done = j->state == JOB_DONE;
    if (e->at == STDOUT) {
        *b = BODY_STDOUT;
        return !done || result != BODY_STDOUT;
    }
    *b = done ? result : BODY_TRACE;
    return done || told_itself(j);
}

static int answer(struct stream *st, struct call *c, struct ending *e) {
    const struct job *j = &e->row.job;
    const char *bytes = e->piece.bytes ? e->piece.bytes : "";
    if (e->unreadable) {
        stream_drop_answer(c);
        if (e->unreadable == EILSEQ)
            return st->codec->fail(st, c, ERROR_RAISED, "its stdout is not UTF-8 text");
        bool large = e->unreadable == EFBIG;
        return st->codec->fail(st, c, ERROR_DIED,
                               large ? "its result is larger than 1 GiB" : "its result could not be read");
    }
    if (told_itself(j) && e->body.size >= 8)
        return st->codec->answer(st, c, ANSWER_ERROR, bytes, e->piece.size);
    if (j->state != JOB_DONE)
        return st->codec->fail(st, c, error_of(j), j->why);
    if (!is_program(j))
        return stream_answer(st, c, ANSWER_VALUE, bytes, e->piece.size);
    int rc = stream_json_text(st, c, &e->text.text);
    if (rc != -ENOMEM)
        return rc;
    stream_drop_answer(c);
    return st->codec->fail(st, c, ERROR_DIED, stream_no_room);
}

/* Passes the piece on. */
static int take(struct ending *e, struct stream *st, struct call *c) {
    const struct buffer *p = &e->piece;
    bool program = is_program(&e->row.job) && e->row.job.state == JOB_DONE;
    int rc = 0;
    e->off += (int64_t)p->size;
    if (e->at == STDOUT)
        return st->codec->output(st, c, OUTPUT_STDOUT, p->bytes, p->size);
    if (program)
        rc = json_string_add(&e->text, p->bytes, p->size);
    else if (e->off < e->body.size)
        rc = st->codec->part(&c->pieces, p->bytes, p->size, &st->user->answers);
    if (rc == 0 && e->text.text.size > FRAME_WHOLE_MAX)
        rc = -EFBIG;
    if (rc == 0 && program && e->off == e->body.size)
        rc = json_string_end(&e->text);
    count_text(e);
    if (rc == -EILSEQ || rc == -EFBIG) {
        e->unreadable = -rc;
        e->off = e->body.size;
        rc = 0;
    }
    return rc;
}

static int find_body(struct ending *e, enum job_body b) {
    int rc = store_body_get(e->s->store, e->row.job.id, b, &e->body);
    if (rc == -ENOENT)
        e->body = (struct body){0};
    else if (rc < 0)
        return rc;
    e->found = true;
    e->off = 0;
    e->piece.size = 0;
    if (e->body.size > (int64_t)FRAME_WHOLE_MAX) {
        e->unreadable = e->at == VALUE ? EFBIG : 0; /* the output of a failed program can be left out */
        e->body.size = 0;
    }
    return e->at == VALUE && !e->body.size && is_program(&e->row.job) ? json_string_end(&e->text) : 0;
}

static void was_loaded(void *arg, int rc);
static void go_on(struct ending *e, struct stream *st, struct call *c, int rc);

static int load(struct ending *e, enum job_body b, size_t size) {
    struct part part;
    struct spool_name n = {e->row.job.id, b, e->body.file};
    int rc = store_body_part(e->s->store, n.job, b, (uint64_t)e->off, size, &part);
    return rc < 0 ? rc : spool_load(e->s->spool, n, e->piece.bytes, size, (uint64_t)e->off, &part, was_loaded, e);
}

/* Reads on. 0: all is there, -EINPROGRESS: was_loaded goes on, -errno. */
static int gather(struct ending *e, struct stream *st, struct call *c) {
    int rc = 0;
    for (; e->at < TEXTS; e->at++, e->found = false) {
        enum job_body b;
        if (!body_at(e, &b))
            continue;
        if (!e->found && (rc = find_body(e, b)) < 0)
            return rc;
        while (e->off < e->body.size && !e->unreadable) {
            if (e->body.file && answers_much(e->user) && e->user->ending != e) {
                TAILQ_INSERT_TAIL(&e->user->endings, e, waits);
                answers_wait(e->user);
                return -EINPROGRESS; /* stream_endings goes on */
            }
            int64_t left = e->body.size - e->off;
            size_t n = left < (int64_t)PIECE ? (size_t)left : PIECE;
            e->piece.size = 0;
            if ((rc = buffer_reserve(&e->piece, n)) < 0)
                return rc;
            e->piece.size = n;
            if (e->body.file)
                return load(e, b, n);
            int64_t got = store_body_read(e->s->store, e->row.job.id, b, e->piece.bytes, n, (uint64_t)e->off);
            if (got < 0 || (size_t)got < n)
                return got < 0 ? (int)got : -EIO;
            rc = take(e, st, c);
            if (rc < 0)
                return rc;
        }
    }
    return 0;
}

static struct call *call_of(const struct ending *e, struct stream **st) {
    struct call *c = stream_part_call(e->s, e->row.stream, e->row.call, e->row.job.id, st);
    return c && (*st)->loaded == e->loaded ? c : NULL;
}

/* The answer is in the log with this turn, and then the job is removed. */
static void was_loaded(void *arg, int rc) {
    struct ending *e = arg;
    struct sched *s = e->s;
    struct stream *st = NULL;
    struct call *c = s->stopping ? NULL : call_of(e, &st);
    bool whole = rc >= 0 && (size_t)rc == e->piece.size;
    if (!whole && e->at == VALUE)
        e->unreadable = EIO;
    else if (!whole) /* the output of a failed program is cut for want of room */
        e->off = e->body.size;
    rc = c && whole ? take(e, st, c) : 0;
    go_on(e, st, c, rc);
}

static void go_on(struct ending *e, struct stream *st, struct call *c, int rc) {
    struct sched *s = e->s;
    if (c && rc == 0)
        rc = gather(e, st, c);
    if (rc == -EINPROGRESS)
        return;
    if (c && rc == 0)
        rc = answer(st, c, e);
    if (c && rc == 0)
        rc = sched_remove(s, &e->row);
    sched_check(s, rc);
    free_ending(e);
}

int stream_job_ended(struct sched *s, const struct job_row *r) {
    struct stream *st;
    struct call *c = stream_part_call(s, r->stream, r->call, r->job.id, &st);
    struct ending *e = c ? calloc(1, sizeof *e) : NULL;
    if (!c)
        return stream_part_away(s, r->stream, r->call, r->job.id);
    if (!e)
        return sched_check(s, -ENOMEM);
    e->loaded = st->loaded;
    e->s = s;
    e->user = st->user;
    e->row = *r;
    int rc = gather(e, st, c);
    if (rc == -EINPROGRESS)
        return 1;
    if (rc == 0)
        rc = answer(st, c, e);
    free_ending(e);
    return sched_check(s, rc);
}

void stream_endings(struct user *u, bool all) {
    struct ending *e = TAILQ_FIRST(&u->endings), *last = TAILQ_LAST(&u->endings, endings), *next;
    for (bool more = e && (all || !u->ending); more; e = next) {
        struct stream *st;
        next = TAILQ_NEXT(e, waits);
        more = all && e != last; /* an ending that has to wait again queues behind it */
        TAILQ_REMOVE(&u->endings, e, waits);
        if (!all)
            u->ending = e;
        struct call *c = call_of(e, &st);
        go_on(e, st, c, 0);
    }
}

static void free_endings(struct user *u) {
    for (struct ending *e; (e = TAILQ_FIRST(&u->endings));) {
        TAILQ_REMOVE(&u->endings, e, waits);
        free_ending(e);
    }
}

void stream_endings_free(struct sched *s) {
    struct user *u;
    LIST_FOREACH(u, &s->holding, holding)
        free_endings(u);
}
