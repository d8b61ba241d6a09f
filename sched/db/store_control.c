#include "sched/db/store_control.h"

#include "sched/db/store_sql.h"

int store_controlling(struct store *st, int64_t *uid, struct control *out) {
    sqlite3_stmt *q;
    int rc = store_row_in_turn(st, &q, SQL_CONTROLLING, uid);
    if (rc < 0)
        return rc;
    *out = (struct control){.uid = *uid,
                            .number = (uint64_t)sqlite3_column_int64(q, 1),
                            .top = (uint64_t)sqlite3_column_int64(q, 2),
                            .what = sqlite3_column_int(q, 3),
                            .value = sqlite3_column_int(q, 4),
                            .group = (uint64_t)sqlite3_column_int64(q, 5),
                            .job = (uint64_t)sqlite3_column_int64(q, 6)};
    store_end(q);
    return 0;
}

int store_controlling_value(struct store *st, uid_t uid, uint64_t top, int what, int *value) {
    int64_t found;
    int rc = store_integers(st, &found, 1, SQL_CONTROLLING_VALUE, INTEGER(uid), INTEGER(top), INTEGER(what));
    if (rc == 0)
        *value = (int)found;
    return rc;
}
