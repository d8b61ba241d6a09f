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

int store_keep_old(struct store *st, uint64_t *job, int max) {
    int64_t row[2];
    int rc = store_integers(st, row, 2, SQL_KEEP_PAGE, INTEGER(*job), INTEGER(max));
    if (rc == 0 && row[0])
        rc = store_run(st, SQL_KEEP_OLD, INTEGER(*job), INTEGER(row[1]));
    if (rc < 0 || !row[0])
        return rc;
    *job = (uint64_t)row[1];
    return row[0] == max;
}
