/* Functions and values for the workers of leases. A small one is given from its row; a large one is read from its file,
 * once for all that wait for it. A worker is given only what the call that it runs names. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "net/digest.h"
#include "sched/leases/lease_int.h"
#include "sched/leases/state.h"
#include "sched/calls/objects.h"

struct fetch { /* an object that is being read, and the leases that wait for it */
    LIST_ENTRY(fetch) next;
    struct sched *s;
    uint64_t id; /* the id whose spec it is */
    uint8_t hash[DIGEST_SIZE];
    struct buffer bytes;
    size_t count;
    struct waiter {
        uint64_t lease;
        uint32_t number;
    } * waiters;
};

static int give(struct lease *l, const uint8_t hash[DIGEST_SIZE], const void *bytes, size_t size,
                struct shared_buffer *shared) {
    host_touch(l->host);
    return runner_function(l->host->runner, l->id, hash, bytes, size, shared);
}

static void fetched(void *arg, int rc) {
    struct fetch *f = arg;
    bool whole = rc > 0 && (size_t)rc == f->bytes.size;
    LIST_REMOVE(f, next);
    struct shared_buffer *shared =
        whole ? shared_buffer_new(f->bytes.bytes) : NULL; /* NULL without memory: each has a copy */
    if (!whole)
        sched_log(f->s, "a function or value of a stream could not be read: %s", strerror(rc < 0 ? -rc : EIO));
    for (size_t i = 0; i < f->count && !f->s->stopping; i++) {
        struct lease *l = lease_find(f->s, f->waiters[i].lease);
        if (l && lease_at(l, f->waiters[i].number)) /* else it was killed meanwhile */
            give(l, f->hash, f->bytes.bytes, whole ? f->bytes.size : 0, shared);
    }
    if (shared)
        shared_buffer_release(shared);
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

/* Reads the spec of that id for a lease; leases that want the same object share one read. */
static int fetch(struct lease *l, uint32_t number, const uint8_t hash[DIGEST_SIZE], uint64_t id) {
    struct sched *s = l->host->s;
    struct body where;
    struct fetch *f;
    LIST_FOREACH(f, &s->leases->fetches, next)
        if (f->id == id)
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
        memcpy(f->hash, hash, DIGEST_SIZE);
        rc = spool_load(s->spool, objects_file(id), f->bytes.bytes, f->bytes.size, 0, NULL, fetched, f);
    }
    if (rc == -EINPROGRESS) {
        LIST_INSERT_HEAD(&s->leases->fetches, f, next);
        return 0;
    }
    if (f) {
        buffer_free(&f->bytes);
        free(f->waiters);
    }
    free(f);
    return rc;
}

static bool names(const struct call *c, const uint8_t hash[DIGEST_SIZE]) {
    const uint8_t *function = call_function(c);
    bool any = function && memcmp(function, hash, DIGEST_SIZE) == 0;
    for (unsigned i = 0; !any && i < call_values(c); i++)
        any = memcmp(call_value(c, i), hash, DIGEST_SIZE) == 0;
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

void lease_give(struct lease *l, uint32_t number, const struct call *c, const uint8_t hash[DIGEST_SIZE]) {
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
