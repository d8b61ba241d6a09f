/* Dependencies of jobs, and ends that their dependents are still to be told. */
#include "sched/db/store_deps.h"

#include <errno.h>

#include "sched/db/store_int.h"
#include "sched/db/store_sql.h"

#define LOOK 1000 /* instructions of SQLite between two looks at what is left */

static int is_spent(void *left) {
    return --*(int *)left <= 0;
}

/* -ELOOP, or 0: on waits for neither. Nothing is rolled back when a query that only reads is interrupted. */
static int find_circle(struct store *st, uint64_t job, uint64_t stream, uint64_t on, int *left) {
    if (*left <= 0)
        return -E2BIG;
    sqlite3_stmt *q = store_query(st, SQL_DEP_CIRCLE, INTEGER(on), INTEGER(job), INTEGER(stream ? stream : job));
    sqlite3_progress_handler(st->db, LOOK, is_spent, left);
    int rc = q ? sqlite3_step(q) : SQLITE_ERROR;
    sqlite3_progress_handler(st->db, 0, NULL, NULL);
    int err = rc == SQLITE_INTERRUPT ? -E2BIG : store_errno(st, rc);
    store_end(q);
    return rc == SQLITE_ROW ? -ELOOP : err;
}

int store_dep_add(struct store *st, uint64_t job, uint64_t stream, uint64_t on, int *left) {
    int rc = 0;
    if (store_dep_any(st, job) || (stream && store_dep_any(st, stream))) /* else nobody waits for it */
        rc = find_circle(st, job, stream, on, left);
    return rc < 0 ? rc : store_run(st, SQL_DEP_ADD, INTEGER(job), INTEGER(on));
}

int store_dep_move(struct store *st, uint64_t from, uint64_t to) {
    int rc = store_run(st, SQL_DEP_MOVE, INTEGER(from), INTEGER(to));
    return rc < 0 ? rc : store_run(st, SQL_DEP_DELETE_ON, INTEGER(from));
}

bool store_dep_any(struct store *st, uint64_t on) {
    int64_t any;
    return store_integers(st, &any, 1, SQL_DEP_ANY, INTEGER(on)) == 0;
}

bool store_dep_many(struct store *st, uint64_t on, int max) {
    int64_t more;
    return store_integers(st, &more, 1, SQL_DEP_MANY, INTEGER(on), INTEGER(max)) == 0;
}

int store_dep_first(struct store *st, uint64_t job, uint64_t *on, uint64_t *count) {
    int64_t row[2];
    int rc = store_integers(st, row, 2, SQL_DEP_FIRST, INTEGER(job));
    if (rc < 0)
        return rc;
    *on = (uint64_t)row[0];
    *count = (uint64_t)row[1];
    return *count ? 0 : -ENOENT;
}

int store_settle_next(struct store *st, int64_t *uid, uint64_t *on, bool *succeeded, char name[JOB_NAME_MAX + 1]) {
    sqlite3_stmt *q;
    int rc = store_row_in_turn(st, &q, SQL_SETTLE_NEXT, uid);
    if (rc < 0)
        return rc;
    *on = (uint64_t)sqlite3_column_int64(q, 1);
    *succeeded = sqlite3_column_int(q, 2);
    store_copy(q, 3, name, JOB_NAME_MAX + 1);
    store_end(q);
    return 0;
}

int store_settle_jobs(struct store *st, uint64_t on, uint64_t *ids, int max) {
    int n = store_column(st, ids, max, SQL_SETTLE_JOBS, INTEGER(on), INTEGER(max));
    int rc = n > 0 ? store_run(st, SQL_SETTLE_TAKE, INTEGER(on), INTEGER(ids[n - 1])) : 0;
    return rc < 0 ? rc : n;
}
