/* Functions and values of streams, see values.h.
 *
 * Up to INLINE_MAX bytes stand in their row. More are the spec of an id that has no job: a file, written and synced by
 * the disk thread before there is a row, so no row is without its bytes; a file without a row is swept at the next
 * start. The parser waits meanwhile: calls behind a FUNC are not looked at before its row is in the same commit as what
 * says so. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "net/digest.h"
#include "sched/leases/lease_int.h"
#include "sched/streams/values.h"

#define HASH DIGEST_SIZE
#define LARGEST (64u << 20) /* of one */

static struct spool_name file_of(uint64_t id) {
    return (struct spool_name){id, BODY_SPEC, SPEC_FILE};
}

/* --- coming in --------------------------------------------------------------------------------------------------- */

static int evict(struct sched *s, bool again) {
    uint64_t bodies[FUNCTION_SLICE];
    int n, rc = 0;
    do {
        n = store_functions_evict(s->store, VALUES_KEEP, again, bodies);
        for (int i = 0; i < n && rc == 0; i++)
            if (bodies[i])
                rc = sched_drop_bodies(s, bodies[i], true);
    } while (rc == 0 && n == FUNCTION_SLICE);
    return n < 0 ? n : rc;
}

struct storing {
    struct sched *s;
    uint64_t stream, id;
    struct user *user;  /* user.held counts it */
    struct buffer body; /* the FUNC frame's */
};

static const uint8_t *hash_of(const struct storing *p) {
    return (const uint8_t *)p->body.bytes;
}

static void wrong_hash(struct sched *s, uint64_t stream) {
    sched_log_user(s, stream, "a function or value was not taken: its hash is not that of its bytes");
}

/* 1: it is there by now, and our file is not needed. */
static int put_row(struct storing *p) {
    struct sched *s = p->s;
    uid_t uid;
    int rc = store_owner(s->store, p->stream, &uid);
    if (rc == 0)
        rc = store_function_named(s->store, uid, hash_of(p), p->stream);
    if (rc != 0)
        return rc;
    rc = store_body_put_file(s->store, p->id, BODY_SPEC, (int64_t)(p->body.size - HASH), SPEC_FILE);
    if (rc == 0)
        rc = store_function_put(s->store, uid, hash_of(p), p->stream, NULL, p->body.size - HASH, p->id);
    return rc < 0 ? rc : evict(s, false);
}

static void stored(void *arg, int rc) {
    struct storing *p = arg;
    struct sched *s = p->s;
    struct stream *st = stream_find(s, p->stream);
    bool kept = false;
    if (!s->stopping && st && st->storing == p) { /* else it was cancelled, or is read anew */
        st->storing = NULL;
        stream_mark(st);
        if (rc == -EBADMSG) {
            wrong_hash(s, p->stream);
        } else if (rc < 0) {
            sched_log(s, "a function or value of a stream could not be written to the disk: %s", strerror(-rc));
            sched_check(s, rc);
        } else {
            rc = sched_check(s, put_row(p));
            kept = rc == 0;
        }
    }
    if (!kept && !s->stopping)
        spool_unlink(s->spool, file_of(p->id));
    p->user->held -= p->body.size;
    buffer_free(&p->body);
    free(p);
}

/* Takes the memory of st->parts over where the body stands there. */
static int store(struct stream *st, const char *body, size_t size) {
    struct sched *s = st->s;
    struct storing *p = calloc(1, sizeof *p);
    bool steal = body == st->parts.bytes;
    int rc = p ? 0 : -ENOMEM;
    if (rc == 0 && !steal)
        rc = buffer_add(&p->body, body, size);
    if (rc == 0) {
        p->s = s;
        p->stream = st->id;
        p->id = store_next_id(s->store);
        if (steal)
            p->body = st->parts;
        rc = p->id ? spool_write_hashed(s->spool, file_of(p->id), p->body.bytes + HASH, size - HASH, hash_of(p), stored,
                                        p)
                   : -EIO;
    }
    if (rc != -EINPROGRESS) {
        if (p && !steal)
            buffer_free(&p->body);
        free(p);
        return sched_check(s, rc);
    }
    if (steal)
        st->parts = (struct buffer){0};
    st->storing = p;
    p->user = st->user;
    p->user->held += p->body.size;
    return 0;
}

int values_take(struct stream *st, const char *body, size_t size) {
    struct sched *s = st->s;
    const uint8_t *hash = (const uint8_t *)body;
    uint8_t found[HASH];
    if (size - HASH > LARGEST) {
        sched_log_user(s, st->id, "a function or value of %zu MiB was not taken: more than 64 MiB belong into the call",
                       size >> 20);
        return 0; /* its calls fail, one by one */
    }
    uid_t uid;
    int rc = store_owner(s->store, st->id, &uid);
    if (rc == 0)
        rc = store_function_named(s->store, uid, hash, st->id);
    if (rc != 0)
        return rc < 0 ? sched_check(s, rc) : 0;
    if (!quota_has_room(s, uid, (int64_t)(size - HASH)))
        rc = evict(s, true);
    if (rc == 0)
        rc = quota_values(s, uid, (int64_t)(size - HASH));
    if (rc < 0)
        return rc == -EDQUOT ? 0 : rc; /* its calls fail */
    if (size - HASH > INLINE_MAX)
        return store(st, body, size);
    rc = digest(body + HASH, size - HASH, found);
    if (rc == 0 && memcmp(hash, found, HASH) != 0) {
        wrong_hash(s, st->id);
        return 0;
    }
    if (rc == 0)
        rc = store_function_put(s->store, uid, hash, st->id, body + HASH, size - HASH, 0);
    return sched_check(s, rc < 0 ? rc : evict(s, false));
}

/* --- going out --------------------------------------------------------------------------------------------------- */

struct fetch { /* one that is being read, for those that wait for it */
    struct fetch *next;
    struct sched *s;
    uint64_t id; /* that has it */
    uint8_t hash[HASH];
    struct buffer bytes;
    size_t count;
    struct waiter {
        uint64_t lease;
        uint32_t number;
    } * waiters;
};

static int give(struct lease *l, const uint8_t hash[HASH], const void *bytes, size_t size, struct loan *loan) {
    host_touch(l->host);
    return runner_function(l->host->runner, l->id, hash, bytes, size, loan);
}

static void fetched(void *arg, int rc) {
    struct fetch *f = arg, **at = &f->s->fetches;
    bool whole = rc > 0 && (size_t)rc == f->bytes.size;
    while (*at != f)
        at = &(*at)->next;
    *at = f->next;
    struct loan *loan = whole ? loan_new(f->bytes.bytes) : NULL; /* NULL without memory: each has a copy */
    if (!whole)
        sched_log(f->s, "a function or value of a stream could not be read: %s", strerror(rc < 0 ? -rc : EIO));
    for (size_t i = 0; i < f->count && !f->s->stopping; i++) {
        struct lease *l = lease_find(f->s, f->waiters[i].lease);
        if (l && lease_at(l, f->waiters[i].number)) /* else it was killed meanwhile */
            give(l, f->hash, f->bytes.bytes, whole ? f->bytes.size : 0, loan);
    }
    if (loan)
        loan_let_go(loan);
    else
        buffer_free(&f->bytes);
    free(f->waiters);
    free(f);
}

static int wait_for(struct fetch *f, const struct lease *l, uint32_t number) {
    struct waiter *more = reallocarray(f->waiters, f->count + 1, sizeof *more);
    if (!more)
        return -ENOMEM;
    f->waiters = more;
    f->waiters[f->count++] = (struct waiter){l->id, number};
    return 0;
}

/* Reads the spec of that id for it; several that want the same read it once. */
static int fetch(struct lease *l, uint32_t number, const uint8_t hash[HASH], uint64_t id) {
    struct sched *s = l->host->s;
    struct body where;
    struct fetch *f = s->fetches;
    while (f && f->id != id)
        f = f->next;
    if (f)
        return wait_for(f, l, number);
    f = calloc(1, sizeof *f);
    int rc = f ? store_body_get(s->store, id, BODY_SPEC, &where) : -ENOMEM;
    if (rc == 0)
        rc = buffer_reserve(&f->bytes, (size_t)where.size);
    if (rc == 0)
        rc = wait_for(f, l, number);
    if (rc == 0) {
        f->s = s;
        f->id = id;
        f->bytes.size = (size_t)where.size;
        memcpy(f->hash, hash, HASH);
        rc = spool_load(s->spool, file_of(id), f->bytes.bytes, f->bytes.size, 0, fetched, f);
    }
    if (rc == -EINPROGRESS) {
        f->next = s->fetches;
        s->fetches = f;
        return 0;
    }
    if (f) {
        buffer_free(&f->bytes);
        free(f->waiters);
    }
    free(f);
    return rc;
}

static bool names(const struct call *c, const uint8_t hash[HASH]) {
    const uint8_t *function = call_function(c);
    bool any = function && memcmp(function, hash, HASH) == 0;
    for (unsigned i = 0; !any && i < call_values(c); i++)
        any = memcmp(call_value(c, i), hash, HASH) == 0;
    return any;
}

struct giving {
    struct lease *lease;
    const uint8_t *hash;
};

static int give_row(void *arg, const void *bytes, size_t size) {
    const struct giving *g = arg;
    return give(g->lease, g->hash, bytes, size, NULL);
}

void values_give(struct lease *l, uint32_t number, const struct call *c, const uint8_t hash[HASH]) {
    struct giving g = {l, hash};
    struct store *store = l->host->s->store;
    uint64_t id = 0;
    uid_t uid;
    int rc = c->format != CALL_JSON && names(c, hash) ? store_owner(store, l->stream->id, &uid) : -ENOENT;
    if (rc == 0)
        rc = store_function_get(store, uid, hash, give_row, &g, &id);
    if (rc == 0 && id)
        rc = fetch(l, number, hash, id);
    if (rc < 0)
        give(l, hash, NULL, 0, NULL);
}

/* --- into the file of a job -------------------------------------------------------------------------------------- */

struct finding {
    struct buffer *into;
    size_t size;
};

static int found(void *arg, const void *bytes, size_t size) {
    struct finding *f = arg;
    f->size = size;
    return f->into ? buffer_add(f->into, bytes, size) : 0;
}

int values_find(struct sched *s, uid_t uid, const uint8_t hash[HASH], struct buffer *into, size_t *size,
                struct spool_name *file) {
    struct finding f = {into, 0};
    struct body where = {0};
    uint64_t id;
    int rc = store_function_get(s->store, uid, hash, found, &f, &id);
    if (rc == 0 && id)
        rc = store_body_get(s->store, id, BODY_SPEC, &where);
    if (rc < 0)
        return rc;
    *file = file_of(id);
    *size = id ? (size_t)where.size : f.size;
    return id != 0;
}
