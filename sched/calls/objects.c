/* Functions and values of streams, see objects.h.
 *
 * Up to INLINE_MAX bytes stand in their row. More are the spec of an id that has no job: a file, written and synced by
 * the disk thread before there is a row, so no row is without its bytes; a file without a row is swept at the next
 * start. The parser waits meanwhile: calls behind a FUNC are parsed only when its row is part of the same commit. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "net/digest.h"
#include "sched/calls/objects.h"

#define HASH DIGEST_SIZE
#define LARGEST (64u << 20) /* bytes of one object */

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
    struct user *user;            /* user.held counts it */
    struct buffer body;           /* the FUNC frame's */
    struct shared_buffer *shared; /* owns its bytes; NULL: body does */
};

static const uint8_t *hash_of(const struct storing *p) {
    return (const uint8_t *)p->body.bytes;
}

static void wrong_hash(struct sched *s, uint64_t stream) {
    sched_log_user(s, stream, "a function or value was not taken: its hash is not that of its bytes");
}

static void free_storing(struct storing *p) {
    if (p && !p->shared)
        buffer_free(&p->body);
    if (p)
        shared_buffer_release(p->shared);
    free(p);
}

/* 1: another stream has stored it meanwhile; this file is not needed. */
static int put_row(struct storing *p) {
    struct sched *s = p->s;
    uid_t uid;
    int rc = store_owner(s->store, p->stream, &uid);
    if (rc == 0)
        rc = store_function_named(s->store, uid, hash_of(p), p->stream);
    if (rc != 0)
        return rc;
    rc = store_body_put_file(s->store, p->id, BODY_SPEC, (int64_t)(p->body.size - HASH), SPEC_FILE, NULL);
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
        spool_unlink(s->spool, objects_file(p->id));
    p->user->held -= p->body.size;
    free_storing(p);
}

/* Takes over the memory of st->parts if the body is there, and holds st->whole. */
static int store(struct stream *st, const char *body, size_t size) {
    struct sched *s = st->s;
    struct storing *p = calloc(1, sizeof *p);
    bool steal = body == st->parts.bytes;
    int rc = p ? 0 : -ENOMEM;
    if (rc == 0 && st->whole) {
        p->shared = shared_buffer_hold(st->whole);
        p->body = (struct buffer){st->whole->memory, size, size};
    } else if (rc == 0 && !steal)
        rc = buffer_add(&p->body, body, size);
    if (rc == 0) {
        p->s = s;
        p->stream = st->id;
        p->id = store_next_id(s->store);
        if (steal)
            p->body = st->parts;
        rc = p->id ? spool_write_hashed(s->spool, objects_file(p->id), p->body.bytes + HASH, size - HASH, hash_of(p),
                                        stored, p)
                   : -EIO;
    }
    if (rc != -EINPROGRESS) {
        if (p && steal)
            p->body = (struct buffer){0};
        free_storing(p);
        return sched_check(s, rc);
    }
    if (steal)
        st->parts = (struct buffer){0};
    st->storing = p;
    p->user = st->user;
    p->user->held += p->body.size;
    return 0;
}

int objects_take(struct stream *st, const char *body, size_t size) {
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

int objects_find(struct sched *s, uid_t uid, const uint8_t hash[HASH], struct buffer *into, size_t *size,
                 struct spool_name *file) {
    struct finding f = {into, 0};
    struct body where = {0};
    uint64_t id;
    int rc = store_function_get(s->store, uid, hash, found, &f, &id);
    if (rc == 0 && id)
        rc = store_body_get(s->store, id, BODY_SPEC, &where);
    if (rc < 0)
        return rc;
    *file = objects_file(id);
    *size = id ? (size_t)where.size : f.size;
    return id != 0;
}
