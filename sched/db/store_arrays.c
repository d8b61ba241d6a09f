#include "sched/db/store_arrays.h"

#include <errno.h>
#include <string.h>

#include "sched/db/store_sql.h"

static int read_one(struct store *st, sqlite3_stmt *from, struct array_row *out) {
    sqlite3_stmt *q;
    int rc = store_row_of(st, from, &q);
    if (rc < 0)
        return rc;
    *out = (struct array_row){.id = (uint64_t)sqlite3_column_int64(q, 0),
                              .group = (uint64_t)sqlite3_column_int64(q, 1),
                              .first = (uint64_t)sqlite3_column_int64(q, 2),
                              .next = sqlite3_column_int64(q, 3),
                              .size = sqlite3_column_int64(q, 4),
                              .list = strdup((const char *)sqlite3_column_text(q, 5)),
                              .held = sqlite3_column_int(q, 6),
                              .lost = sqlite3_column_int(q, 7)};
    store_end(q);
    return out->list ? 0 : -ENOMEM;
}

int store_array_get(struct store *st, uint64_t id, struct array_row *out) {
    return read_one(st, store_query(st, SQL_ARRAY_GET, INTEGER(id)), out);
}

int store_array_with(struct store *st, uint64_t element, struct array_row *out) {
    return read_one(st, store_query(st, SQL_ARRAY_WITH, INTEGER(element)), out);
}

int store_array_next(struct store *st, int64_t *uid, uint64_t *id) {
    sqlite3_stmt *q;
    int rc = store_row_in_turn(st, &q, SQL_ARRAY_NEXT, uid);
    if (rc < 0)
        return rc;
    *id = (uint64_t)sqlite3_column_int64(q, 1);
    store_end(q);
    return 0;
}

static bool is_one(int rc) {
    return rc != -ENOENT;
}

bool store_arrays(struct store *st) {
    int64_t any;
    return is_one(store_integers(st, &any, 1, SQL_ARRAY_ANY));
}

int store_array_waiting(struct store *st, uint64_t id, int max) {
    int64_t n;
    int rc = store_integers(st, &n, 1, SQL_ARRAY_WAITING, INTEGER(id), INTEGER(max));
    return rc < 0 ? rc : (int)n;
}

bool store_array_used(struct store *st, uint64_t id) {
    int64_t any;
    return is_one(store_integers(st, &any, 1, SQL_ARRAY_USED, INTEGER(id)));
}
