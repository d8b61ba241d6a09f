/* The file of a call job: a line, or the form of WORK_CALL with the function and the values that the call names.
 *
 * More than INLINE_MAX bytes are put together by the disk thread, piece by piece, with STEP bytes in memory. A user has
 * MAKING files under way at once, the others queue, so that no user keeps the disk thread from another. A file that is
 * no longer wanted is removed; after a kill the next start sweeps files without a row, and parses the call again. */
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sched/calls/objects.h"

#define BODY_MAX ((size_t)INT32_MAX) /* bytes, the most that a worker takes */
#define STEP (1u << 20)              /* that are in memory, or given to the disk thread, at once */
#define MAKING 4                     /* files of one user under way */

struct making {
    struct sched *s;
    struct user *user;
    uint64_t stream, number, job; /* the call knows it by the id of its job */
    unsigned at;                  /* index of the next named object */
    size_t picked;                /* bytes of its pickle, or of its line, that are in it */
    size_t size, written;         /* of the whole; in the file */
    struct buffer out;            /* what comes next in it, ... */
    struct spool_name from;       /* ... and behind that */
    size_t from_at, left, asked;  /* offset in it, bytes left of it, bytes that the disk thread copies now */
    int64_t live;                 /* bytes in user.live: no row counts them yet */
};

static struct spool_name spec_of(uint64_t job) {
    return (struct spool_name){job, BODY_SPEC, SPEC_FILE};
}

static int add_u32(struct buffer *b, size_t n) {
    uint32_t le = htole32((uint32_t)n);
    return buffer_add(b, &le, sizeof le);
}

/* --- its pieces -------------------------------------------------------------------------------------------------- */

static unsigned named(const struct call *c) { /* values, then the function */
    return c->format == CALL_JSON ? 0 : call_values(c) + (call_function(c) != NULL);
}

static const uint8_t *name_of(const struct call *c, unsigned i) {
    return i < call_values(c) ? call_value(c, i) : call_function(c);
}

static size_t pickle_at(const struct call *c) {
    return c->format == CALL_JSON ? 0 : call_pickle_at(c);
}

/* The size of the whole file. -ENOENT: a named object is missing. -EFBIG: no worker takes so much. */
static int measure(struct sched *s, uid_t uid, const struct call *c, size_t *size) {
    const size_t between = sizeof(uint32_t) * (2 + call_values(c)) + (size_t)32 * call_values(c);
    int rc = 0;
    *size = (c->format == CALL_JSON ? 0 : between) + c->size - pickle_at(c);
    for (unsigned i = 0; rc >= 0 && i < named(c); i++) {
        struct spool_name file;
        size_t n = 0;
        rc = objects_find(s, uid, name_of(c, i), NULL, &n, &file);
        *size += n;
    }
    if (rc < 0)
        return rc;
    return *size > BODY_MAX ? -EFBIG : 0;
}

static int add_named(struct making *m, const struct call *c, uid_t uid) {
    const uint8_t *name = name_of(c, m->at);
    struct spool_name file;
    size_t size, again;
    int where = objects_find(m->s, uid, name, NULL, &size, &file), rc = 0;
    if (where < 0)
        return where;
    if (m->at++ < call_values(c))
        rc = buffer_add(&m->out, name, 32);
    if (rc == 0)
        rc = add_u32(&m->out, size);
    if (rc == 0 && where == 0)
        return objects_find(m->s, uid, name, &m->out, &again, &file);
    m->from = file;
    m->from_at = 0;
    m->left = size;
    return rc;
}

static int add_pickle(struct making *m, const struct call *c) {
    size_t left = c->size - pickle_at(c) - m->picked, n = left < STEP ? left : STEP;
    int rc = 0;
    if (m->picked == 0 && c->format != CALL_JSON && !call_function(c))
        rc = add_u32(&m->out, 0);
    if (rc == 0)
        rc = buffer_add(&m->out, c->bytes + pickle_at(c) + m->picked, n);
    m->picked += n;
    return rc;
}

/* Adds the next bytes to out, up to an object that is in a file. */
static int gather(struct making *m, const struct call *c, uid_t uid) {
    int rc = 0;
    if (m->written == 0 && c->format != CALL_JSON)
        rc = add_u32(&m->out, call_values(c));
    while (rc == 0 && !m->left && m->out.size < STEP && m->written + m->out.size < m->size) {
        size_t before = m->out.size;
        rc = m->at < named(c) ? add_named(m, c, uid) : add_pickle(m, c);
        if (rc == 0 && m->out.size == before)
            rc = -EIO;
    }
    return rc;
}

/* --- putting them together --------------------------------------------------------------------------------------- */

static void free_making(struct making *m) {
    m->user->live -= m->live;
    m->user->making--;
    buffer_free(&m->out);
    free(m);
}

static int submit(struct stream *st, struct call *c, const struct buffer *body, uint64_t job) {
    struct sched *s = st->s;
    struct job_row owner, r = {.job.id = job};
    struct call_text text = {.number = c->number, .line = c->bytes, .size = c->size};
    if (!stream_is_json(st))
        text = (struct call_text){.number = c->number, .options = c->options};
    int rc = store_job_get(s->store, st->id, &owner);
    if (rc == 0)
        rc = submit_call(s, &owner, &text, body, &r);
    if (rc < 0)
        return rc;
    rc = stream_part_has(st, c, &r);
    return rc == 0 && job_ended(r.job.state) ? stream_job_ended(s, &r) : rc;
}

/* There will be no job: the call fails, or the turn does. */
static int refuse(struct stream *st, struct call *c, int rc) {
    switch (rc) {
    case -ENOENT: return st->codec->fail(st, c, ERROR_PICKLE, "its function, or a value that it lists, is not there");
    case -EFBIG: return st->codec->fail(st, c, ERROR_PICKLE, "it and its values are larger than 2 GiB");
    case -EDQUOT:
        return st->codec->fail(st, c, ERROR_REFUSED,
                               "with it and its values its user would have more bytes than the quota allows");
    default: return rc;
    }
}

static void went_on(void *arg, int rc);

/* 0: the file is complete. -EINPROGRESS: went_on goes on. */
static int go_on(struct making *m, const struct call *c, uid_t uid) {
    struct spool *sp = m->s->spool;
    int rc = m->left ? 0 : gather(m, c, uid);
    if (rc < 0)
        return rc;
    if (m->out.size)
        return spool_write(sp, spec_of(m->job), m->out.bytes, m->out.size, m->written, NULL, went_on, m);
    m->asked = m->left < STEP ? m->left : STEP;
    return m->left ? spool_copy_part(sp, m->from, m->from_at, m->asked, spec_of(m->job), m->written, went_on, m) : 0;
}

/* Counts the work of the disk thread. 0, -ENOENT: a value has gone meanwhile, -errno. */
static int count(struct making *m, int rc) {
    if (m->out.size) {
        m->written += m->out.size;
        buffer_empty(&m->out);
        return rc;
    }
    if (rc == (int)m->asked) {
        m->written += m->asked;
        m->from_at += m->asked;
        m->left -= m->asked;
        return 0;
    }
    return rc >= 0 || rc == -EIO ? -ENOENT : rc;
}

static void start_next(struct user *u);

static void went_on(void *arg, int rc) {
    struct making *m = arg;
    struct sched *s = m->s;
    struct user *u = m->user;
    struct stream *st;
    struct call *c = s->stopping ? NULL : stream_part_call(s, m->stream, m->number, m->job, &st);
    uid_t uid = (uid_t)-1;
    if (c && (rc = count(m, rc)) < 0)
        sched_log(s, "the file of a call could not be put together: %s", strerror(-rc));
    if (c && rc == 0)
        rc = store_owner(s->store, m->stream, &uid);
    if (c && rc == 0 && (rc = go_on(m, c, uid)) == -EINPROGRESS)
        return;
    bool whole = c && rc == 0;
    if (whole) {
        rc = submit(st, c, &(struct buffer){.size = m->size}, m->job);
        if (c->state == CALL_JOB)
            stream_job_has(st, c);
    } else if (c) {
        rc = refuse(st, c, rc);
    }
    if (c)
        sched_check(s, rc);
    if (!s->stopping && (!whole || rc < 0))
        spool_unlink(s->spool, spec_of(m->job));
    free_making(m);
    if (!s->stopping)
        start_next(u);
}

static int start(struct stream *st, struct call *c) {
    struct sched *s = st->s;
    struct making *m = calloc(1, sizeof *m);
    uid_t uid;
    if (!m)
        return -ENOMEM;
    *m = (struct making){.s = s, .user = st->user, .stream = st->id, .number = c->number};
    m->user->making++;
    int rc = store_owner(s->store, st->id, &uid);
    if (rc == 0)
        rc = measure(s, uid, c, &m->size); /* a named object may have gone */
    if (rc == 0 && (rc = quota_output(m->user, (int64_t)m->size)) == 0)
        m->live = (int64_t)m->size;
    if (rc == 0)
        rc = (m->job = c->job = store_next_id(s->store)) ? go_on(m, c, uid) : -EIO;
    if (rc == -EINPROGRESS)
        return 0;
    free_making(m);
    return refuse(st, c, rc);
}

static void start_next(struct user *u) {
    struct call *c;
    while (u->making < MAKING && (c = TAILQ_FIRST(&u->bodies))) {
        struct stream *st = c->body_of;
        TAILQ_REMOVE(&u->bodies, c, waits);
        c->body_of = NULL;
        if (st->id && sched_check(u->s, start(st, c)) < 0)
            return;
    }
}

/* A small body goes into the row at once. */
static int make_at_once(struct stream *st, struct call *c, uid_t uid, size_t size) {
    struct making m = {.s = st->s, .size = size};
    int rc = gather(&m, c, uid);
    if (rc == 0)
        rc = submit(st, c, &m.out, 0);
    buffer_free(&m.out);
    return rc;
}

static int make(struct stream *st, struct call *c) {
    struct sched *s = st->s;
    size_t size = 0;
    uid_t uid;
    int rc = store_owner(s->store, st->id, &uid);
    if (rc == 0)
        rc = measure(s, uid, c, &size);
    if (rc == 0)
        rc = quota_bytes(s, uid, (int64_t)size);
    if (rc < 0)
        return refuse(st, c, rc);
    if (size <= INLINE_MAX)
        return make_at_once(st, c, uid, size);
    c->body_of = st;
    TAILQ_INSERT_TAIL(&st->user->bodies, c, waits);
    start_next(st->user);
    return 0;
}

int stream_job(struct stream *st, struct call *c) {
    stream_did(st);
    stream_part_is(st, c);
    return sched_check(st->s, make(st, c));
}
