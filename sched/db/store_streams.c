/* Streams: their two logs, how far they are, the functions and values that their calls name. Statement numbers 80 to
 * 99, 124, 125.
 *
 * A log is a body (store_body_get says file = BODY_LOG) that only grows: rows, each with the offset at which it starts,
 * one for what a turn of the loop has gathered. The data of a row are its bytes; or an integer: so many bytes, which
 * stand in the log's spool file, at the offset that they have in the log (the file has holes where rows have the
 * bytes). */
#include <errno.h>
#include <string.h>

#include "sched/db/store_int.h"

static int64_t log_id(uint64_t job, enum job_body b) {
    return (int64_t)(job * BODIES + b);
}

int64_t store_log_size(struct store *st, uint64_t job, enum job_body b) {
    sqlite3_stmt *q =
        store_sql(st, 80,
                  "SELECT start+CASE typeof(data) WHEN 'integer' THEN data ELSE length(data) END FROM logs WHERE log=?1"
                  " ORDER BY start DESC LIMIT 1");
    if (!q)
        return -EIO;
    bind_int(q, 1, log_id(job, b));
    int rc = store_step(st, q);
    if (rc <= 0)
        return rc;
    int64_t size = sqlite3_column_int64(q, 0);
    store_end(q);
    return size;
}

int store_log_append(struct store *st, uint64_t job, enum job_body b, int64_t start, const void *bytes, size_t size) {
    sqlite3_stmt *q = store_sql(st, 81, "INSERT INTO logs(log, start, data) VALUES(?1, ?2, ?3)");
    if (q) {
        bind_int(q, 1, log_id(job, b));
        bind_int(q, 2, start);
        if (bytes)
            sqlite3_bind_blob64(q, 3, bytes, size, SQLITE_STATIC);
        else
            bind_int(q, 3, (int64_t)size);
    }
    return store_run(st, q);
}

int64_t store_log_read(struct store *st, uint64_t job, enum job_body b, void *buf, size_t size, uint64_t offset,
                       size_t *in_file) {
    sqlite3_stmt *q = store_sql(st, 82,
                                "SELECT start, data FROM logs WHERE log=?1 AND start>=ifnull((SELECT max(start) FROM "
                                "logs WHERE log=?1 AND start<=?2), 0)"
                                " ORDER BY start");
    size_t have = 0;
    int rc = 0;
    *in_file = 0;
    if (!q)
        return -EIO;
    bind_int(q, 1, log_id(job, b));
    bind_int(q, 2, (int64_t)offset);
    while (have < size && (rc = store_step(st, q)) > 0) {
        bool filed = sqlite3_column_type(q, 1) == SQLITE_INTEGER;
        const char *data = filed ? NULL : sqlite3_column_blob(q, 1);
        uint64_t start = (uint64_t)sqlite3_column_int64(q, 0), at = offset + have;
        uint64_t length = filed ? (uint64_t)sqlite3_column_int64(q, 1) : (uint64_t)sqlite3_column_bytes(q, 1);
        if (at < start || at >= start + length || (filed && have))
            break; /* the end, a row that is not ours to explain, or one for the next call */
        size_t n = start + length - at < size - have ? (size_t)(start + length - at) : size - have;
        if (filed) {
            *in_file = n;
            break;
        }
        memcpy((char *)buf + have, data + (at - start), n);
        have += n;
    }
    store_end(q);
    return rc < 0 ? rc : (int64_t)have;
}

int store_log_move(struct store *st, uint64_t job, enum job_body from, int64_t before, enum job_body to, int64_t *size,
                   int max) {
    int64_t rows[64], sizes[64];
    int n = 0, rc = 0;
    sqlite3_stmt *q =
        store_sql(st, 124, "SELECT id, length(data) FROM logs WHERE log=?1 AND start<?2 ORDER BY start LIMIT ?3");
    if (!q)
        return -EIO;
    bind_int(q, 1, log_id(job, from));
    bind_int(q, 2, before);
    bind_int(q, 3, max < 64 ? max : 64);
    for (; (rc = store_step(st, q)) > 0; n++) {
        rows[n] = sqlite3_column_int64(q, 0);
        sizes[n] = sqlite3_column_int64(q, 1);
    }
    for (int i = 0; i < n && rc == 0; i++) {
        sqlite3_stmt *u = store_sql(st, 125, "UPDATE logs SET log=?2, start=?3 WHERE id=?1");
        if (u) {
            bind_int(u, 1, rows[i]);
            bind_int(u, 2, log_id(job, to));
            bind_int(u, 3, *size);
        }
        rc = store_run(st, u);
        *size += rc == 0 ? sizes[i] : 0;
    }
    return rc < 0 ? rc : n;
}

int store_log_cut(struct store *st, uint64_t job, enum job_body b, int64_t from, int64_t before, int max) {
    sqlite3_stmt *q = store_sql(st, 129,
                                "DELETE FROM logs WHERE id IN (SELECT id FROM logs WHERE log=?1 AND start>=?2 AND "
                                "start<?3 LIMIT ?4)");
    if (q) {
        bind_int(q, 1, log_id(job, b));
        bind_int(q, 2, from);
        bind_int(q, 3, before);
        bind_int(q, 4, max);
    }
    int rc = store_run(st, q);
    return rc < 0 ? rc : sqlite3_changes(st->db);
}

/* --- throwing logs away ------------------------------------------------------------------------------------------ */

/* A log may have a million rows: they go a slice a turn. */
int store_log_drop(struct store *st, uint64_t job, enum job_body b) {
    sqlite3_stmt *q = store_sql(st, 83, "INSERT OR IGNORE INTO trash(log) VALUES(?1)");
    if (q)
        bind_int(q, 1, log_id(job, b));
    return store_run(st, q);
}

int store_trash_slice(struct store *st, int max) {
    sqlite3_stmt *q = store_sql(st, 84, "SELECT log FROM trash LIMIT 1");
    int rc = q ? store_step(st, q) : -EIO;
    if (rc <= 0)
        return rc;
    int64_t log = sqlite3_column_int64(q, 0);
    store_end(q);
    sqlite3_stmt *d = store_sql(st, 85, "DELETE FROM logs WHERE id IN (SELECT id FROM logs WHERE log=?1 LIMIT ?2)");
    if (d) {
        bind_int(d, 1, log);
        bind_int(d, 2, max);
    }
    rc = store_run(st, d);
    if (rc < 0 || sqlite3_changes(st->db) == max)
        return rc < 0 ? rc : 1;
    sqlite3_stmt *t = store_sql(st, 86, "DELETE FROM trash WHERE log=?1");
    if (t)
        bind_int(t, 1, log);
    rc = store_run(st, t);
    return rc < 0 ? rc : 1;
}

/* --- how far ----------------------------------------------------------------------------------------------------- */

int store_stream_get(struct store *st, uint64_t job, struct stream_row *out, struct buffer *answered) {
    sqlite3_stmt *q = store_sql(st, 87, "SELECT at, call, line, deaths, answered, suspect FROM streams WHERE id=?1");
    if (!q)
        return -EIO;
    bind_int(q, 1, (int64_t)job);
    int rc = store_step(st, q);
    if (rc <= 0)
        return rc < 0 ? rc : -ENOENT;
    *out = (struct stream_row){.at = sqlite3_column_int64(q, 0),
                               .call = (uint64_t)sqlite3_column_int64(q, 1),
                               .line = (uint64_t)sqlite3_column_int64(q, 2),
                               .deaths = (uint32_t)sqlite3_column_int64(q, 3),
                               .suspect = (uint64_t)sqlite3_column_int64(q, 5)};
    if (answered)
        rc = buffer_add(answered, sqlite3_column_blob(q, 4), (size_t)sqlite3_column_bytes(q, 4));
    store_end(q);
    return rc < 0 ? rc : 0;
}

int store_stream_put(struct store *st, uint64_t job, const struct stream_row *r, const struct buffer *answered) {
    sqlite3_stmt *q =
        store_sql(st, 88,
                  "INSERT INTO streams(id, at, call, line, deaths, answered, suspect) VALUES(?1,?2,?3,?4,?5,?6,?7)"
                  " ON CONFLICT(id) DO UPDATE SET at=?2, call=?3, line=?4, deaths=?5, answered=?6, suspect=?7");
    if (q) {
        bind_int(q, 1, (int64_t)job);
        bind_int(q, 2, r->at);
        bind_int(q, 3, (int64_t)r->call);
        bind_int(q, 4, (int64_t)r->line);
        bind_int(q, 5, r->deaths);
        bind_int(q, 7, (int64_t)r->suspect);
        sqlite3_bind_blob64(q, 6, answered->size ? answered->bytes : "", answered->size, SQLITE_STATIC);
    }
    return store_run(st, q);
}

int store_stream_delete(struct store *st, uint64_t job) {
    sqlite3_stmt *q = store_sql(st, 89, "DELETE FROM streams WHERE id=?1");
    if (q)
        bind_int(q, 1, (int64_t)job);
    return store_run(st, q);
}

/* --- functions and values ---------------------------------------------------------------------------------------- */

/* The data of a row are its bytes; or an integer: an id whose spec has them, as a file in spool/. used: the newest
 * stream that has named it; ids of streams only grow. */
#define IN_FILE "typeof(data)='integer'"
#define LENGTH                                                                                                         \
    "CASE WHEN " IN_FILE                                                                                               \
    " THEN ifnull((SELECT size FROM bodies WHERE bodies.id=functions.data*8), 0) ELSE length(data) END"
_Static_assert(BODIES == 8 && BODY_SPEC == 0, "as LENGTH says");

int store_owner(struct store *st, uint64_t job, uid_t *uid) {
    int64_t owner;
    int rc = store_ints(st, store_sql(st, 96, "SELECT uid FROM jobs WHERE id=?1"), (int64_t)job, &owner, 1);
    if (rc == 0)
        *uid = (uid_t)owner;
    return rc;
}

static void bind_name(sqlite3_stmt *q, uid_t uid, const uint8_t hash[32]) {
    bind_int(q, 1, uid);
    sqlite3_bind_blob(q, 2, hash, 32, SQLITE_STATIC);
}

int store_function_named(struct store *st, uid_t uid, const uint8_t hash[32], uint64_t stream) {
    sqlite3_stmt *u = store_sql(st, 94, "UPDATE functions SET used=max(used, ?3) WHERE uid=?1 AND hash=?2");
    if (u) {
        bind_name(u, uid, hash);
        bind_int(u, 3, (int64_t)stream);
    }
    int rc = store_run(st, u);
    return rc < 0 ? rc : sqlite3_changes(st->db) > 0;
}

int store_function_put(struct store *st, uid_t uid, const uint8_t hash[32], uint64_t stream, const void *bytes,
                       size_t size, uint64_t body) {
    sqlite3_stmt *q = store_sql(st, 90, "INSERT INTO functions(uid, hash, used, data) VALUES(?1, ?2, ?3, ?4)");
    if (q) {
        bind_name(q, uid, hash);
        bind_int(q, 3, (int64_t)stream);
        if (bytes)
            sqlite3_bind_blob64(q, 4, bytes, size, SQLITE_STATIC);
        else
            bind_int(q, 4, (int64_t)body);
    }
    st->function_bytes += (int64_t)size; /* an upper bound, made exact when it matters */
    return store_run(st, q);
}

int store_function_get(struct store *st, uid_t uid, const uint8_t hash[32],
                       int (*take)(void *arg, const void *bytes, size_t size), void *arg, uint64_t *body) {
    sqlite3_stmt *q = store_sql(st, 91, "SELECT data FROM functions WHERE uid=?1 AND hash=?2");
    *body = 0;
    if (!q)
        return -EIO;
    bind_name(q, uid, hash);
    int rc = store_step(st, q);
    if (rc <= 0)
        return rc < 0 ? rc : -ENOENT;
    if (sqlite3_column_type(q, 0) == SQLITE_INTEGER)
        *body = (uint64_t)sqlite3_column_int64(q, 0);
    rc = *body ? 0 : take(arg, sqlite3_column_blob(q, 0), (size_t)sqlite3_column_bytes(q, 0));
    store_end(q);
    return rc;
}

static int64_t function_bytes(struct store *st) {
    sqlite3_stmt *q = store_sql(st, 93, "SELECT ifnull(sum(" LENGTH "), 0) FROM functions");
    int rc = q ? store_step(st, q) : -EIO;
    if (rc <= 0)
        return rc < 0 ? rc : -EIO;
    int64_t n = sqlite3_column_int64(q, 0);
    store_end(q);
    return n;
}

/* Of more than keep bytes those go of which their user has most: mine counts what he has named since, so whoever has
 * less than others loses nothing to them, and of one user's the least recently named go. But none that was named since
 * the oldest of his streams began that has not ended: its calls may still need it. */
static int oldest(struct store *st, int64_t keep, int64_t rows[FUNCTION_SLICE], uint64_t bodies[FUNCTION_SLICE]) {
    sqlite3_stmt *q = store_sql(
        st, 92,
        "SELECT row, body FROM (SELECT *, sum(size) OVER (ORDER BY mine, used DESC, row) AS total FROM"
        " (SELECT *, sum(size) OVER (PARTITION BY uid ORDER BY used DESC, row) AS mine FROM"
        " (SELECT rowid AS row, uid, used, CASE WHEN " IN_FILE " THEN data ELSE 0 END AS body, " LENGTH " AS size"
        " FROM functions)))"
        " LEFT JOIN (SELECT jobs.uid AS of, min(streams.id) AS first FROM streams JOIN jobs USING(id) GROUP BY "
        "jobs.uid)"
        " ON of=uid WHERE total>?1 AND used<ifnull(first, ?2) ORDER BY total DESC LIMIT ?3");
    int n = 0, rc = 0;
    if (!q)
        return -EIO;
    bind_int(q, 1, keep);
    bind_int(q, 2, INT64_MAX);
    bind_int(q, 3, FUNCTION_SLICE);
    while ((rc = store_step(st, q)) > 0) {
        rows[n] = sqlite3_column_int64(q, 0);
        bodies[n++] = (uint64_t)sqlite3_column_int64(q, 1);
    }
    return rc < 0 ? rc : n;
}

/* Sets *body to 0 where other rows have it too, as where an earlier version gave a stream away. */
static int body_is_shared(struct store *st, uint64_t *body) {
    sqlite3_stmt *q = *body ? store_sql(st, 98, "SELECT 1 FROM functions WHERE " IN_FILE " AND data=?1") : NULL;
    if (!*body)
        return 0;
    if (!q)
        return -EIO;
    bind_int(q, 1, (int64_t)*body);
    int rc = store_step(st, q);
    if (rc > 0) {
        *body = 0;
        store_end(q);
    }
    return rc < 0 ? rc : 0;
}

int store_functions_evict(struct store *st, int64_t keep, uint64_t bodies[FUNCTION_SLICE]) {
    int64_t rows[FUNCTION_SLICE];
    int64_t less = keep - keep / 4;
    if (st->function_bytes <= keep)
        return 0;
    int n = oldest(st, less, rows, bodies), rc = n < 0 ? n : 0;
    for (int i = 0; i < n && rc == 0; i++) {
        sqlite3_stmt *d = store_sql(st, 95, "DELETE FROM functions WHERE rowid=?1");
        if (d)
            bind_int(d, 1, rows[i]);
        rc = store_run(st, d);
        if (rc == 0)
            rc = body_is_shared(st, &bodies[i]);
    }
    if (rc < 0 || n == FUNCTION_SLICE)
        return rc < 0 ? rc : n;
    int64_t left = function_bytes(st);
    if (left < 0)
        return (int)left;
    /* When more than that is needed, so that nothing could go, the next look comes after a quarter more. */
    st->function_bytes = left > less ? less : left;
    return n;
}
