/* Bodies: job files, results and output. */
#include <errno.h>
#include <string.h>

#include "sched/db/store_int.h"
#include "sched/db/sums.h"

int store_body_get(struct store *st, uint64_t job, enum job_body b, struct body *out) {
    int64_t row[2];
    if (store_recent_body(st, body_id(job, b), out))
        return 0;
    int rc = store_integers(st, row, 2, SQL_BODY_GET, INTEGER(body_id(job, b)));
    if (rc == 0) {
        *out = (struct body){.size = row[0], .file = row[1]};
        store_recent_body_read(st, body_id(job, b), out);
    }
    return rc;
}

int64_t store_body_read(struct store *st, uint64_t job, enum job_body b, void *buf, size_t size, uint64_t offset) {
    sqlite3_stmt *q;
    int rc = store_row(st, &q, SQL_BODY_READ, INTEGER(body_id(job, b)));
    if (rc < 0)
        return rc;
    const char *data = sqlite3_column_blob(q, 0);
    uint64_t have = data ? (uint64_t)sqlite3_column_bytes(q, 0) : 0;
    if (have != (uint64_t)sqlite3_column_int64(q, 2) ||
        (sqlite3_column_type(q, 1) != SQLITE_NULL &&
         !store_body_sound(body_id(job, b), sqlite3_column_int64(q, 1), data, have))) {
        store_end(q);
        return -EIO;
    }
    uint64_t left = offset < have ? have - offset : 0;
    size_t n = left < size ? (size_t)left : size;
    if (n)
        memcpy(buf, data + offset, n);
    store_end(q);
    return (int64_t)n;
}

int store_body_part(struct store *st, uint64_t job, enum job_body b, uint64_t offset, size_t size, struct part *out) {
    sqlite3_stmt *q;
    *out = (struct part){0};
    int rc = store_row(st, &q, SQL_BODY_SUMS, INTEGER(body_id(job, b)));
    if (rc < 0)
        return rc == -ENOENT ? 0 : rc;
    const void *sums = sqlite3_column_blob(q, 1);
    rc = part_of(out, 0, (uint64_t)sqlite3_column_int64(q, 0), sums, (size_t)sqlite3_column_bytes(q, 1), offset, size);
    store_end(q);
    return rc;
}

int store_body_files(struct store *st, uint64_t job, enum job_body first, enum job_body bodies[BODIES],
                     int64_t files[BODIES]) {
    sqlite3_stmt *q = store_query(st, SQL_BODY_FILES, INTEGER(body_id(job, first)), INTEGER(body_id(job, BODIES - 1)));
    int n = 0, rc;
    while ((rc = store_step(st, q)) > 0) {
        bodies[n] = (enum job_body)sqlite3_column_int(q, 0);
        files[n++] = sqlite3_column_int64(q, 1);
    }
    return rc < 0 ? rc : n;
}
