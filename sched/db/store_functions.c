/* Functions and values that calls of streams name. store_text.h has the form of their data (FUNCTION_SIZE). used: the
 * newest stream that has named it; ids of streams only grow. */
#include <errno.h>

#include "net/clock.h"
#include "sched/db/store_functions.h"
#include "sched/db/store_int.h"

#define PAUSE 20 /* pause after a walk, as a multiple of its time */
#define HASH(hash) BLOB(hash, 32)

int store_function_named(struct store *st, uid_t uid, const uint8_t hash[32], uint64_t stream) {
    int rc = store_run(st, SQL_FUNCTION_NAMED, INTEGER(uid), HASH(hash), INTEGER(stream));
    return rc < 0 ? rc : store_changes(st) > 0;
}

int store_function_put(struct store *st, uid_t uid, const uint8_t hash[32], uint64_t stream, const void *bytes,
                       size_t size, uint64_t body) {
    st->function_bytes += (int64_t)size; /* an upper bound; exact after the next walk */
    return store_run(st, SQL_FUNCTION_PUT, INTEGER(uid), HASH(hash), INTEGER(stream),
                     bytes ? BLOB(bytes, size) : INTEGER(body));
}

int store_function_get(struct store *st, uid_t uid, const uint8_t hash[32],
                       int (*take)(void *arg, const void *bytes, size_t size), void *arg, uint64_t *body) {
    sqlite3_stmt *q;
    int rc = store_row(st, &q, SQL_FUNCTION_GET, INTEGER(uid), HASH(hash));
    *body = 0;
    if (rc < 0)
        return rc;
    if (sqlite3_column_type(q, 0) == SQLITE_INTEGER)
        *body = (uint64_t)sqlite3_column_int64(q, 0);
    rc = *body ? 0 : take(arg, sqlite3_column_blob(q, 0), (size_t)sqlite3_column_bytes(q, 0));
    store_end(q);
    return rc;
}

/* Of more than keep bytes those go of which their user has most, and of one user's the least recently named. But none
 * that was named since the oldest of his streams began that has not ended: its calls may still need it. */
static int oldest(struct store *st, int64_t keep, int64_t rows[FUNCTION_SLICE], uint64_t bodies[FUNCTION_SLICE]) {
    sqlite3_stmt *q = store_query(st, SQL_FUNCTION_OLDEST, INTEGER(keep), INTEGER(INT64_MAX), INTEGER(FUNCTION_SLICE));
    int n = 0, rc;
    while ((rc = store_step(st, q)) > 0) {
        rows[n] = sqlite3_column_int64(q, 0);
        bodies[n++] = (uint64_t)sqlite3_column_int64(q, 1);
    }
    return rc < 0 ? rc : n;
}

/* Sets *body to 0 if other rows have it, too; an earlier version left such rows when a stream changed hands. */
static int keep_shared(struct store *st, uint64_t *body) {
    int64_t shared;
    int rc = *body ? store_integers(st, &shared, 1, SQL_FUNCTION_SHARES, INTEGER(*body)) : -ENOENT;
    if (rc == 0)
        *body = 0;
    return rc == -ENOENT ? 0 : rc;
}

int store_functions_evict(struct store *st, int64_t keep, bool again, uint64_t bodies[FUNCTION_SLICE]) {
    int64_t rows[FUNCTION_SLICE], left;
    int64_t less = keep - keep / 4, begun = clock_us();
    if (st->function_bytes <= keep && !(again && st->stream_ended && begun >= st->function_pause))
        return 0;
    int n = oldest(st, less, rows, bodies), rc = n < 0 ? n : 0;
    for (int i = 0; i < n && rc == 0; i++) {
        rc = store_run(st, SQL_FUNCTION_DELETE, INTEGER(rows[i]));
        if (rc == 0)
            rc = keep_shared(st, &bodies[i]);
    }
    if (rc == 0 && n < FUNCTION_SLICE)
        rc = store_integers(st, &left, 1, SQL_FUNCTION_BYTES);
    /* If nothing more could go, the next walk comes after a quarter more. */
    if (rc == 0 && n < FUNCTION_SLICE) {
        st->function_bytes = left > less ? less : left;
        st->function_pause = clock_us() + PAUSE * (clock_us() - begun);
        st->stream_ended = false;
    }
    return rc < 0 ? rc : n;
}
