/* Bodies (what a job file says, what it answered) and dependencies. Statement numbers 40 to 64. */
#include <errno.h>
#include <string.h>

#include "sched/db/store_int.h"

static int64_t body_id(uint64_t job, enum job_body b) {
    return (int64_t)(job * BODIES + b);
}

int store_ints(struct store *st, sqlite3_stmt *q, int64_t key, int64_t *out, int n) {
    if (!q)
        return -EIO;
    bind_int(q, 1, key);
    int rc = store_step(st, q);
    if (rc <= 0)
        return rc < 0 ? rc : -ENOENT;
    for (int i = 0; i < n; i++)
        out[i] = sqlite3_column_int64(q, i);
    store_end(q);
    return 0;
}

int store_body_get(struct store *st, uint64_t job, enum job_body b, struct body *out) {
    int64_t row[2];
    int rc = store_ints(st, store_sql(st, 40, "SELECT size, file FROM bodies WHERE id=?1"), body_id(job, b), row, 2);
    if (rc == 0)
        *out = (struct body){.size = row[0], .file = row[1]};
    return rc;
}

int64_t store_body_read(struct store *st, uint64_t job, enum job_body b, void *buf, size_t size, uint64_t offset) {
    sqlite3_stmt *q = store_sql(st, 41, "SELECT data FROM bodies WHERE id=?1");
    if (!q)
        return -EIO;
    bind_int(q, 1, body_id(job, b));
    int rc = store_step(st, q);
    if (rc <= 0)
        return rc < 0 ? rc : -ENOENT;
    const char *data = sqlite3_column_blob(q, 0);
    uint64_t have = data ? (uint64_t)sqlite3_column_bytes(q, 0) : 0;
    uint64_t left = offset < have ? have - offset : 0;
    size_t n = left < size ? (size_t)left : size;
    if (n)
        memcpy(buf, data + offset, n);
    store_end(q);
    return (int64_t)n;
}

int store_body_put(struct store *st, uint64_t job, enum job_body b, const void *bytes, size_t size) {
    sqlite3_stmt *q = store_sql(st, 42, "INSERT OR REPLACE INTO bodies(id, size, file, data) VALUES(?1, ?2, 0, ?3)");
    if (q) {
        bind_int(q, 1, body_id(job, b));
        bind_int(q, 2, (int64_t)size);
        sqlite3_bind_blob64(q, 3, size ? bytes : "", size, SQLITE_STATIC);
    }
    return store_run(st, q);
}

int store_body_put_file(struct store *st, uint64_t job, enum job_body b, int64_t size, int64_t file) {
    sqlite3_stmt *q = store_sql(st, 43, "INSERT OR REPLACE INTO bodies(id, size, file, data) VALUES(?1, ?2, ?3, NULL)");
    if (q) {
        bind_int(q, 1, body_id(job, b));
        bind_int(q, 2, size);
        bind_int(q, 3, file);
    }
    return store_run(st, q);
}

int store_body_copy(struct store *st, uint64_t from, uint64_t to) {
    sqlite3_stmt *q = store_sql(st, 45,
                                "INSERT OR REPLACE INTO bodies(id, size, file, data) SELECT ?2, size, file, data FROM "
                                "bodies WHERE id=?1 AND file=0");
    if (q) {
        bind_int(q, 1, body_id(from, BODY_SPEC));
        bind_int(q, 2, body_id(to, BODY_SPEC));
    }
    return store_run(st, q);
}

int store_body_files(struct store *st, uint64_t job, enum job_body first, enum job_body bodies[BODIES],
                     int64_t files[BODIES]) {
    sqlite3_stmt *q = store_sql(st, 55, "SELECT id&7, file FROM bodies WHERE id BETWEEN ?1 AND ?2 AND file<>0");
    int n = 0, rc = 0;
    if (!q)
        return -EIO;
    bind_int(q, 1, body_id(job, first));
    bind_int(q, 2, body_id(job, BODIES - 1));
    while ((rc = store_step(st, q)) > 0) {
        bodies[n] = (enum job_body)sqlite3_column_int(q, 0);
        files[n++] = sqlite3_column_int64(q, 1);
    }
    return rc < 0 ? rc : n;
}

int store_bodies_delete(struct store *st, uint64_t job, enum job_body first) {
    sqlite3_stmt *q = store_sql(st, 56, "DELETE FROM bodies WHERE id BETWEEN ?1 AND ?2");
    if (q) {
        bind_int(q, 1, body_id(job, first));
        bind_int(q, 2, body_id(job, BODIES - 1));
    }
    return store_run(st, q);
}

/* --- dependencies ------------------------------------------------------------------------------------------------ */

/* Does on wait, through others, for job, or for the stream that job is a call of? A stream waits for its calls. */
static int waits_for(struct store *st, uint64_t on, uint64_t job, uint64_t stream) {
    sqlite3_stmt *q =
        store_sql(st, 46,
                  "WITH RECURSIVE up(x) AS (SELECT ?1 UNION SELECT deps.dep FROM up CROSS JOIN deps ON deps.job=up.x"
                  " UNION SELECT jobs.id FROM up CROSS JOIN jobs ON jobs.stream<>0 AND jobs.stream=up.x)"
                  " SELECT 1 FROM up WHERE x IN (?2, ?3) LIMIT 1");
    if (!q)
        return -EIO;
    bind_int(q, 1, (int64_t)on);
    bind_int(q, 2, (int64_t)job);
    bind_int(q, 3, stream ? (int64_t)stream : (int64_t)job);
    int rc = store_step(st, q);
    if (rc > 0)
        store_end(q);
    return rc;
}

int store_dep_add(struct store *st, uint64_t job, uint64_t stream, uint64_t on) {
    bool may_circle = store_dep_any(st, job) || (stream && store_dep_any(st, stream)); /* else nobody waits for it */
    int rc = may_circle ? waits_for(st, on, job, stream) : 0;
    if (rc != 0)
        return rc < 0 ? rc : -ELOOP;
    sqlite3_stmt *q = store_sql(st, 47, "INSERT OR IGNORE INTO deps(job, dep) VALUES(?1, ?2)");
    if (q) {
        bind_int(q, 1, (int64_t)job);
        bind_int(q, 2, (int64_t)on);
    }
    return store_run(st, q);
}

int store_dep_move(struct store *st, uint64_t from, uint64_t to) {
    sqlite3_stmt *q = store_sql(st, 57, "UPDATE OR IGNORE deps SET dep=?2 WHERE dep=?1 AND job<>?2");
    if (q) {
        bind_int(q, 1, (int64_t)from);
        bind_int(q, 2, (int64_t)to);
    }
    int rc = store_run(st, q);
    sqlite3_stmt *d = store_sql(st, 58, "DELETE FROM deps WHERE dep=?1");
    if (d)
        bind_int(d, 1, (int64_t)from);
    return rc < 0 ? rc : store_run(st, d);
}

bool store_dep_any(struct store *st, uint64_t on) {
    sqlite3_stmt *q = store_sql(st, 48, "SELECT 1 FROM deps WHERE dep=?1 LIMIT 1");
    if (!q)
        return false;
    bind_int(q, 1, (int64_t)on);
    bool any = store_step(st, q) > 0;
    store_end(q);
    return any;
}

int store_dep_first(struct store *st, uint64_t job, uint64_t *on, uint64_t *count) {
    int64_t row[2];
    sqlite3_stmt *q = store_sql(st, 49, "SELECT min(dep), count(*) FROM deps WHERE job=?1");
    int rc = store_ints(st, q, (int64_t)job, row, 2);
    if (rc < 0)
        return rc;
    *on = (uint64_t)row[0];
    *count = (uint64_t)row[1];
    return *count ? 0 : -ENOENT;
}

int store_settle_add(struct store *st, uint64_t on, bool succeeded, const char *name) {
    sqlite3_stmt *q = store_sql(st, 50, "INSERT OR IGNORE INTO settle(dep, succeeded, name) VALUES(?1, ?2, ?3)");
    if (q) {
        bind_int(q, 1, (int64_t)on);
        bind_int(q, 2, succeeded);
        bind_text(q, 3, name);
    }
    return store_run(st, q);
}

int store_settle_next(struct store *st, uint64_t *on, bool *succeeded, char name[JOB_NAME_MAX + 1]) {
    sqlite3_stmt *q = store_sql(st, 51, "SELECT dep, succeeded, name FROM settle LIMIT 1");
    if (!q)
        return -EIO;
    int rc = store_step(st, q);
    if (rc <= 0)
        return rc < 0 ? rc : -ENOENT;
    *on = (uint64_t)sqlite3_column_int64(q, 0);
    *succeeded = sqlite3_column_int(q, 1);
    column_copy(q, 2, name, JOB_NAME_MAX + 1);
    store_end(q);
    return 0;
}

int store_settle_jobs(struct store *st, uint64_t on, uint64_t *ids, int max) {
    sqlite3_stmt *q = store_sql(st, 52, "SELECT job FROM deps WHERE dep=?1 ORDER BY job LIMIT ?2");
    int n = 0, rc = 0;
    if (!q)
        return -EIO;
    bind_int(q, 1, (int64_t)on);
    bind_int(q, 2, max);
    while (n < max && store_step(st, q) > 0)
        ids[n++] = (uint64_t)sqlite3_column_int64(q, 0);
    store_end(q);
    if (n == 0)
        return 0;
    sqlite3_stmt *d = store_sql(st, 53, "DELETE FROM deps WHERE dep=?1 AND job<=?2");
    if (d) {
        bind_int(d, 1, (int64_t)on);
        bind_int(d, 2, (int64_t)ids[n - 1]);
    }
    rc = store_run(st, d);
    return rc < 0 ? rc : n;
}

int store_settle_done(struct store *st, uint64_t on) {
    sqlite3_stmt *q = store_sql(st, 54, "DELETE FROM settle WHERE dep=?1");
    if (q)
        bind_int(q, 1, (int64_t)on);
    return store_run(st, q);
}
