#include "sched/db/store_keep.h"

#include "sched/db/store_sql.h"

int store_keep_first(struct store *st, enum keep by, uint64_t *job, int64_t *at) {
    int64_t row[2];
    int rc = store_integers(st, row, 2, SQL_KEEP_FIRST, INTEGER(by));
    if (rc < 0)
        return rc;
    *job = (uint64_t)row[0];
    *at = row[1];
    return 0;
}

/* Those of a page of jobs are added by that statement. */
static int add_old(struct store *st, enum sql add, uint64_t *job, int max) {
    int64_t row[2];
    int rc = store_integers(st, row, 2, SQL_KEEP_PAGE, INTEGER(*job), INTEGER(max));
    if (rc == 0 && row[0])
        rc = store_run(st, add, INTEGER(*job), INTEGER(row[1]));
    if (rc < 0 || !row[0])
        return rc;
    *job = (uint64_t)row[1];
    return row[0] == max;
}

int store_keep_old(struct store *st, uint64_t *job, int max) {
    return add_old(st, SQL_KEEP_OLD, job, max);
}

int store_kept_old(struct store *st, uint64_t *job, int max) {
    return add_old(st, SQL_KEPT_OLD, job, max);
}

int store_kept_over(struct store *st, uint64_t most, int64_t *uid, uint64_t *job) {
    int64_t row[2];
    int rc = store_integers(st, row, 2, SQL_KEPT_OVER, INTEGER(most), INTEGER(*uid));
    if (rc < 0)
        return rc;
    *uid = row[0];
    *job = (uint64_t)row[1];
    return 0;
}

int store_kept_clear(struct store *st, int max) {
    int64_t row[2];
    int rc = store_integers(st, row, 2, SQL_KEPT_PAGE, INTEGER(max));
    if (rc == 0 && row[0])
        rc = store_run(st, SQL_KEPT_CLEAR, INTEGER(row[1]));
    return rc < 0 ? rc : row[0] == max;
}
