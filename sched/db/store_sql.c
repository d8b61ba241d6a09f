/* Statements: prepared once, bound, stepped, reset on every exit. The first that fails is remembered until the
 * transaction ends. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "sched/db/store_int.h"

static const char *const texts[SQL_STATEMENTS] = {
#define STATEMENT(name, text) [SQL_##name] = (text),
#define WRITE(name, function, parameters, values, text) STATEMENT(name, text)
#include "sched/db/store_statements.def"
#undef STATEMENT
};

/* --- errors ------------------------------------------------------------------------------------------------------ */

int store_errno_of(const struct store *st, int rc) {
    switch (rc & 0xff) {
    case SQLITE_OK:
    case SQLITE_DONE:
    case SQLITE_ROW: return 0;
    case SQLITE_BUSY:
    case SQLITE_LOCKED: return -EBUSY;
    case SQLITE_CONSTRAINT: return -EEXIST;
    case SQLITE_FULL: return -ENOSPC;
    case SQLITE_NOMEM: return -ENOMEM;
    case SQLITE_TOOBIG: return -EFBIG;
    case SQLITE_IOERR: {
        int err = st->db ? sqlite3_system_errno(st->db) : 0;
        return err == ENOSPC || err == EDQUOT ? -err : -EIO;
    }
    default: return -EIO;
    }
}

int store_fail(struct store *st, int err) {
    return store_failed_by(st, err, NULL);
}

int store_failed_by(struct store *st, int err, const char *said) {
    if (err == -EBUSY && said)
        said = "another program has the database open: end that";
    if (!st->error)
        snprintf(st->said, sizeof st->said, "%s", said ? said : strerror(-err));
    st->error = st->error ? st->error : err;
    return err;
}

int store_errno(struct store *st, int rc) {
    int err = store_errno_of(st, rc);
    if (err == 0)
        return 0;
    st->no_room |= err == -ENOSPC || err == -EDQUOT;
    st->faults += err == -EIO || err == -ENOMEM || err == -EBUSY;
    st->damaged |= (rc & 0xff) == SQLITE_CORRUPT || (rc & 0xff) == SQLITE_NOTADB;
    return store_failed_by(st, err, sqlite3_errmsg(st->db));
}

int store_failed(const struct store *st) {
    return st->error;
}

const char *store_error(const struct store *st) {
    return st->said;
}

uint64_t store_faults(const struct store *st) {
    return st->faults;
}

bool store_damaged(const struct store *st) {
    return st->damaged;
}

/* --- statements -------------------------------------------------------------------------------------------------- */

sqlite3_stmt *store_prepare(struct store *st, enum sql which, const char *text) {
    sqlite3_stmt **q = &st->statements[which];
    if (!*q)
        store_errno(st, sqlite3_prepare_v3(st->db, text ? text : texts[which], -1, SQLITE_PREPARE_PERSISTENT, q, NULL));
    return *q;
}

sqlite3_stmt *store_query_values(struct store *st, enum sql which, const struct value *values, int count) {
    sqlite3_stmt *q = store_prepare(st, which, NULL);
    for (int i = 0; q && i < count; i++) {
        const struct value *v = &values[i];
        switch (v->type) {
        case VALUE_INTEGER: sqlite3_bind_int64(q, i + 1, v->n); break;
        case VALUE_TEXT: sqlite3_bind_text(q, i + 1, v->bytes, -1, SQLITE_STATIC); break;
        case VALUE_BLOB: /* a NULL address would bind NULL */
            sqlite3_bind_blob64(q, i + 1, v->n ? v->bytes : "", (sqlite3_uint64)v->n, SQLITE_STATIC);
            break;
        }
    }
    return q;
}

void store_end(sqlite3_stmt *q) {
    if (!q)
        return;
    sqlite3_reset(q);
    sqlite3_clear_bindings(q);
}

int store_step(struct store *st, sqlite3_stmt *q) {
    int rc = q ? sqlite3_step(q) : SQLITE_ERROR;
    if (rc == SQLITE_ROW)
        return 1;
    int err = store_errno(st, rc);
    store_end(q);
    return err;
}

/* A failed statement may have rolled the transaction back, as on a full disk; nothing of the turn is left then. */
int store_begin(struct store *st) {
    if (st->changed)
        return sqlite3_get_autocommit(st->db) ? -EIO : 0;
    int rc = store_step(st, store_query(st, SQL_BEGIN));
    st->changed = rc == 0;
    st->touched_count = 0; /* those of the last transaction, kept until now for store_tally_touched */
    return rc;
}

int store_run_query(struct store *st, sqlite3_stmt *q) {
    int rc = q ? store_begin(st) : -EIO;
    if (rc == 0)
        rc = store_step(st, q);
    if (rc != 0)
        store_end(q);
    return rc < 0 ? rc : 0;
}

int store_row_of(struct store *st, sqlite3_stmt *from, sqlite3_stmt **q) {
    int rc = store_step(st, from);
    *q = from;
    if (rc < 0)
        return rc;
    return rc == 0 ? -ENOENT : 0;
}

int store_row_in_turn(struct store *st, sqlite3_stmt **q, enum sql which, int64_t *uid) {
    int rc = store_row(st, q, which, INTEGER(*uid));
    if (rc == -ENOENT && *uid >= 0)
        rc = store_row(st, q, which, INTEGER(-1));
    if (rc == 0)
        *uid = sqlite3_column_int64(*q, 0);
    return rc;
}

int store_integers_of(struct store *st, sqlite3_stmt *from, int64_t *out, int count) {
    sqlite3_stmt *q;
    int rc = store_row_of(st, from, &q);
    for (int i = 0; rc == 0 && i < count; i++)
        out[i] = sqlite3_column_int64(q, i);
    if (rc == 0)
        store_end(q);
    return rc;
}

int store_column_of(struct store *st, sqlite3_stmt *from, uint64_t *out, int max) {
    int n = 0, rc = 0;
    while (n < max && (rc = store_step(st, from)) > 0)
        out[n++] = (uint64_t)sqlite3_column_int64(from, 0);
    if (rc > 0)
        store_end(from);
    return rc < 0 ? rc : n;
}

int store_pragma(struct store *st, const char *pragma) {
    sqlite3_stmt *q = NULL;
    int value = -1;
    if (sqlite3_prepare_v2(st->db, pragma, -1, &q, NULL) == SQLITE_OK && sqlite3_step(q) == SQLITE_ROW)
        value = sqlite3_column_int(q, 0);
    sqlite3_finalize(q);
    return value;
}

int store_changes(const struct store *st) {
    return sqlite3_changes(st->db);
}
