/* Streams: their two logs, and their positions.
 *
 * A log is a body (store_body_get says file = BODY_LOG) that only grows: rows, each with the offset at which it starts,
 * one for what a turn of the loop has gathered. What the data of a row are: LOG_END in store_text.h. A log's file has
 * holes where rows have the bytes. */
#include "sched/db/store_streams.h"

#include <errno.h>
#include <string.h>

#include "sched/db/store_int.h"

#define ROWS_MAX 64

int64_t store_log_size(struct store *st, uint64_t job, enum job_body b) {
    int64_t size = 0;
    int rc = store_integers(st, &size, 1, SQL_LOG_SIZE, INTEGER(body_id(job, b)));
    return rc < 0 && rc != -ENOENT ? rc : size;
}

int store_log_append(struct store *st, uint64_t job, enum job_body b, int64_t start, const void *bytes, size_t size) {
    return store_run(st, SQL_LOG_APPEND, INTEGER(body_id(job, b)), INTEGER(start), BLOB(bytes, size),
                     INTEGER(store_sum(bytes, size)));
}

int store_log_append_file(struct store *st, uint64_t job, enum job_body b, int64_t start, size_t size,
                          const struct sums *sums) {
    return store_run(st, SQL_LOG_APPEND, INTEGER(body_id(job, b)), INTEGER(start), INTEGER(size), store_sums(sums));
}

int64_t store_log_read(struct store *st, uint64_t job, enum job_body b, void *buf, size_t size, uint64_t offset,
                       size_t *in_file, struct part *part) {
    sqlite3_stmt *q = store_query(st, SQL_LOG_READ, INTEGER(body_id(job, b)), INTEGER(offset));
    size_t have = 0;
    int rc = 0;
    *in_file = 0;
    while (have < size && (rc = store_step(st, q)) > 0) {
        bool filed = sqlite3_column_type(q, 1) == SQLITE_INTEGER;
        const char *data = filed ? NULL : sqlite3_column_blob(q, 1);
        uint64_t start = (uint64_t)sqlite3_column_int64(q, 0), at = offset + have;
        uint64_t length = filed ? (uint64_t)sqlite3_column_int64(q, 1) : (uint64_t)sqlite3_column_bytes(q, 1);
        if (data && sqlite3_column_type(q, 2) != SQLITE_NULL && sqlite3_column_int64(q, 2) != store_sum(data, length)) {
            rc = -EIO;
            break;
        }
        if (at < start || at >= start + length || (filed && have))
            break; /* the end, a row that is not ours to explain, or one for the next call */
        size_t n = start + length - at < size - have ? (size_t)(start + length - at) : size - have;
        if (filed) {
            *in_file = n;
            *part = (struct part){0};
            if (sqlite3_column_type(q, 2) == SQLITE_BLOB)
                rc = part_of(part, start, length, sqlite3_column_blob(q, 2), (size_t)sqlite3_column_bytes(q, 2), at, n);
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
    int64_t rows[ROWS_MAX], sizes[ROWS_MAX] = {0};
    int n = 0, rc;
    sqlite3_stmt *q = store_query(st, SQL_LOG_ROWS, INTEGER(body_id(job, from)), INTEGER(before),
                                  INTEGER(max < ROWS_MAX ? max : ROWS_MAX));
    for (; (rc = store_step(st, q)) > 0; n++) {
        rows[n] = sqlite3_column_int64(q, 0);
        sizes[n] = sqlite3_column_int64(q, 1);
    }
    for (int i = 0; i < n && rc == 0; i++) {
        rc = store_run(st, SQL_LOG_MOVE_ROW, INTEGER(rows[i]), INTEGER(body_id(job, to)), INTEGER(*size));
        *size += rc == 0 ? sizes[i] : 0;
    }
    return rc < 0 ? rc : n;
}

int store_log_cut(struct store *st, uint64_t job, enum job_body b, int64_t from, int64_t before, int max) {
    int rc = store_run(st, SQL_LOG_CUT, INTEGER(body_id(job, b)), INTEGER(from), INTEGER(before), INTEGER(max));
    return rc < 0 ? rc : store_changes(st);
}

/* --- throwing logs away ------------------------------------------------------------------------------------------ */

/* A log may have a million rows, so a slice is deleted each turn. */
int store_log_drop(struct store *st, uint64_t job, enum job_body b) {
    return store_run(st, SQL_TRASH_ADD, INTEGER(body_id(job, b)));
}

int store_trash_slice(struct store *st, int max) {
    int64_t log;
    int rc = store_integers(st, &log, 1, SQL_TRASH_FIRST);
    if (rc < 0)
        return rc == -ENOENT ? 0 : rc;
    rc = store_run(st, SQL_TRASH_SLICE, INTEGER(log), INTEGER(max));
    if (rc == 0 && store_changes(st) < max)
        rc = store_run(st, SQL_TRASH_DONE, INTEGER(log));
    return rc < 0 ? rc : 1;
}

int store_leaving(struct store *st, uint64_t from, uint64_t *stream) {
    return store_integers(st, (int64_t *)stream, 1, SQL_LEAVING_FROM, INTEGER(from));
}

/* --- how far ----------------------------------------------------------------------------------------------------- */

int store_stream_get(struct store *st, uint64_t job, struct stream_row *out, struct buffer *answered) {
    sqlite3_stmt *q;
    int rc = store_row(st, &q, SQL_STREAM_GET, INTEGER(job));
    if (rc < 0)
        return rc;
    *out = (struct stream_row){.at = sqlite3_column_int64(q, 0),
                               .call = (uint64_t)sqlite3_column_int64(q, 1),
                               .line = (uint64_t)sqlite3_column_int64(q, 2),
                               .deaths = (uint32_t)sqlite3_column_int64(q, 3),
                               .suspect = (uint64_t)sqlite3_column_int64(q, 4)};
    if (answered)
        rc = buffer_add(answered, sqlite3_column_blob(q, 5), (size_t)sqlite3_column_bytes(q, 5));
    store_end(q);
    return rc;
}

int store_stream_delete(struct store *st, uint64_t job) {
    st->stream_ended = true;
    return store_run(st, SQL_STREAM_DELETE, INTEGER(job));
}
