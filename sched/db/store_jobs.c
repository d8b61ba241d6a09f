/* Rows of jobs, and the queries that order them. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "sched/db/store_deps.h"
#include "sched/db/store_int.h"

#define PAGE 256 /* rows of a listing that one query reads */

/* --- a row ------------------------------------------------------------------------------------------------------- */

static void read_flags(struct job_row *r, int flags) {
    r->job.flushed = flags & FLAG_FLUSHED;
    r->job.cut = flags & FLAG_CUT;
    r->sealed = flags & FLAG_SEALED;
    r->resolved = flags & FLAG_RESOLVED;
    r->job.temporary = flags & FLAG_TEMPORARY;
    r->copy = flags & FLAG_COPY;
    r->keeps = flags & FLAG_KEEPS;
}

static int flags_of(const struct job_row *r) {
    return (r->job.flushed ? FLAG_FLUSHED : 0) | (r->job.cut ? FLAG_CUT : 0) | (r->sealed ? FLAG_SEALED : 0) |
           (r->resolved ? FLAG_RESOLVED : 0) | (r->job.temporary ? FLAG_TEMPORARY : 0) | (r->copy ? FLAG_COPY : 0) |
           (r->keeps ? FLAG_KEEPS : 0);
}

static uint64_t side_of(const struct job_row *r) { /* of these two the name is free */
    return r->job.shelf == SHELF_ORPHAN || r->job.shelf == SHELF_PART ? 2 : r->job.draft;
}

static int64_t row_sum(const struct job_row *r) {
    uint64_t sum = r->job.id;
#define SUM_INTEGER(field) sum = store_sum_step(sum, (uint64_t)r->field)
#define SUM_STRING(field) sum = store_sum_step(sum, (uint64_t)store_sum(r->field, strlen(r->field)))
#define SUM_SIDE(field) sum = store_sum_step(sum, side_of(r))
#define SUM_FLAGS(field) sum = store_sum_step(sum, (uint64_t)flags_of(r))
#define SUM(name, written, field, saved)                                                                               \
    if (offsetof(struct job_row, field) != offsetof(struct job_row, job.not_before))                                   \
        SUM_##written(field);
    JOB_COLUMNS(SUM)
    return (int64_t)(r->job.damaged ? ~sum : sum); /* it stays so */
}

void store_job_read(sqlite3_stmt *q, struct job_row *r) {
    int at = 0;
    *r = (struct job_row){.job.id = (uint64_t)sqlite3_column_int64(q, at++)};
#define READ_INTEGER(field) r->field = (__typeof__(r->field))sqlite3_column_int64(q, at++)
#define READ_STRING(field) store_copy(q, at++, r->field, sizeof r->field)
#define READ_SIDE(field) r->field = sqlite3_column_int(q, at++) == 1
#define READ_FLAGS(field) read_flags(r, sqlite3_column_int(q, at++))
#define READ(name, written, field, saved) READ_##written(field);
    JOB_COLUMNS(READ)
    r->job.damaged = sqlite3_column_type(q, at) != SQLITE_NULL && sqlite3_column_int64(q, at) != row_sum(r);
}

static void bind_side(sqlite3_stmt *q, int at, const struct job_row *r) {
    if (side_of(r) == 2)
        sqlite3_bind_null(q, at);
    else
        sqlite3_bind_int(q, at, r->job.draft);
}

/* Binds each column to the parameter of its place, for insert and all forms of save. */
static void bind_row(sqlite3_stmt *q, const struct job_row *r) {
    int at = 1;
    sqlite3_bind_int64(q, at++, (int64_t)r->job.id);
#define BIND_INTEGER(field) sqlite3_bind_int64(q, at++, (int64_t)r->field)
#define BIND_STRING(field) sqlite3_bind_text(q, at++, r->field, -1, SQLITE_STATIC)
#define BIND_SIDE(field) bind_side(q, at++, r)
#define BIND_FLAGS(field) sqlite3_bind_int(q, at++, flags_of(r))
#define BIND(name, written, field, saved) BIND_##written(field);
    JOB_COLUMNS(BIND)
    sqlite3_bind_int64(q, at, row_sum(r));
}

#define COLUMN_COUNT (2 JOB_COLUMNS(COLUMN_ONE))
#define COLUMN_ONE(name, written, field, saved) +1

int store_job_insert(struct store *st, const struct job_row *r, const char *cwd) {
    sqlite3_stmt *q = store_query(st, SQL_JOB_INSERT);
    if (q) {
        bind_row(q, r);
        sqlite3_bind_text(q, COLUMN_COUNT + 1, cwd, -1, SQLITE_STATIC);
    }
    return store_run_query(st, q);
}

static int read_one(struct store *st, sqlite3_stmt *from, struct job_row *out) {
    sqlite3_stmt *q;
    int rc = store_row_of(st, from, &q);
    if (rc < 0)
        return rc;
    store_job_read(q, out);
    store_end(q);
    store_recent_job_read(st, out);
    return 0;
}

int store_job_get(struct store *st, uint64_t id, struct job_row *out) {
    return store_recent_job(st, id, out) ? 0 : read_one(st, store_query(st, SQL_JOB_GET, INTEGER(id)), out);
}

int store_job_find(struct store *st, uint64_t group, const char *name, bool draft, struct job_row *out) {
    if (store_recent_find(st, group, name, draft, out))
        return 0;
    int rc = read_one(st, store_query(st, SQL_JOB_FIND, INTEGER(group), TEXT(name), INTEGER(draft)), out);
    if (rc == 0 && (out->job.group != group || strcmp(out->job.name, name) != 0))
        out->job.damaged = true; /* the index is */
    return rc;
}

int store_owner(struct store *st, uint64_t job, uid_t *uid) {
    int64_t owner;
    int rc = store_integers(st, &owner, 1, SQL_JOB_OWNER, INTEGER(job));
    if (rc == 0)
        *uid = (uid_t)owner;
    return rc;
}

static void save_text(unsigned what, char *text, size_t size) {
    static const struct {
        const char *name;
        unsigned saved;
    } columns[] = {
#define COLUMN(name, written, field, saved) {#name, saved},
        JOB_COLUMNS(COLUMN)};
    int n = snprintf(text, size, "UPDATE jobs SET ");
    for (size_t i = 0; i < sizeof columns / sizeof *columns; i++)
        if (columns[i].saved == ALWAYS || columns[i].saved & what)
            n += snprintf(text + n, size - (size_t)n, "%s=?%zu, ", columns[i].name, i + 2);
    snprintf(text + n, size - (size_t)n, "sum=?%d WHERE id=?1", COLUMN_COUNT);
}

/* SQLite rewrites an index if SET names a column of it, changed or not: so callers say what they have changed. */
int store_job_save(struct store *st, const struct job_row *r, unsigned what) {
    enum sql which = SQL_JOB_SAVE + what;
    char text[1024] = "";
    if (!st->statements[which])
        save_text(what, text, sizeof text);
    sqlite3_stmt *q = store_prepare(st, which, text);
    if (q)
        bind_row(q, r);
    return store_run_query(st, q);
}

int store_job_delete(struct store *st, uint64_t id) {
    int rc = store_run(st, SQL_JOB_DELETE, INTEGER(id));
    return rc == 0 ? store_deps_delete(st, id) : rc;
}

int store_job_texts(struct store *st, uint64_t id, char **options, char **cwd) {
    sqlite3_stmt *q;
    int rc = store_row(st, &q, SQL_JOB_TEXTS, INTEGER(id));
    if (rc < 0)
        return rc;
    if (options && !(*options = strdup((const char *)sqlite3_column_text(q, 0))))
        rc = -ENOMEM;
    if (cwd && !(*cwd = strdup((const char *)sqlite3_column_text(q, 1))))
        rc = -ENOMEM;
    store_end(q);
    return rc;
}

/* --- listing ----------------------------------------------------------------------------------------------------- */

static bool is_listed(unsigned shelves, enum job_shelf shelf) {
    return shelves >> shelf & 1;
}

int store_job_list(struct store *st, uint64_t group, unsigned shelves, uint64_t after,
                   bool (*each)(void *, const struct job *), void *arg) {
    for (;;) {
        sqlite3_stmt *q =
            store_query(st, SQL_JOB_PAGE, INTEGER(group), INTEGER(after), INTEGER(PAGE),
                        INTEGER(is_listed(shelves, SHELF_JOBS)), INTEGER(is_listed(shelves, SHELF_RESULTS)),
                        INTEGER(is_listed(shelves, SHELF_FAILURES)), INTEGER(is_listed(shelves, SHELF_GONE)));
        struct job j = {.group = group};
        int rows = 0, rc;
        while ((rc = store_step(st, q)) > 0) {
            rows++;
            j.id = after = (uint64_t)sqlite3_column_int64(q, 0);
            store_copy(q, 1, j.name, sizeof j.name);
            j.state = (enum job_state)sqlite3_column_int(q, 2);
            j.shelf = (enum job_shelf)sqlite3_column_int(q, 3);
            j.draft = sqlite3_column_int(q, 4) == 1;
            if (!each(arg, &j)) {
                store_end(q);
                return 0;
            }
        }
        if (rc < 0 || rows < PAGE)
            return rc;
    }
}

/* --- the queue --------------------------------------------------------------------------------------------------- */

static int next_user(struct store *st, enum sql which, int64_t after, uid_t *uid) {
    int64_t next;
    int rc = store_integers(st, &next, 1, which, INTEGER(after));
    if (rc == 0)
        *uid = (uid_t)next;
    return rc;
}

int store_ready_user(struct store *st, int64_t after, uid_t *uid) {
    return next_user(st, SQL_READY_USER, after, uid);
}

int store_pausing_user(struct store *st, int64_t after, uid_t *uid) {
    return next_user(st, SQL_PAUSING_USER, after, uid);
}

int store_ready_head(struct store *st, uid_t uid, const char *place, const struct job_row *after, struct job_row *out) {
    static const enum sql queries[2][2] = {{SQL_READY_HEAD, SQL_READY_BEHIND},
                                           {SQL_READY_PLACED_HEAD, SQL_READY_PLACED_BEHIND}};
    static const struct job_row none;
    const struct job_row *a = after ? after : &none;
    return read_one(st,
                    store_query(st, queries[*place != 0][after != NULL], INTEGER(uid), TEXT(place),
                                INTEGER(a->job.priority), INTEGER(a->turn), INTEGER(a->job.id)),
                    out);
}

int store_ready_place(struct store *st, uid_t uid, char place[CONSTRAINT_MAX]) {
    sqlite3_stmt *q;
    int rc = store_row(st, &q, SQL_READY_PLACE, TEXT(place), INTEGER(uid));
    if (rc < 0)
        return rc;
    store_copy(q, 0, place, CONSTRAINT_MAX);
    store_end(q);
    return 0;
}

#define PLACES 16 /* places looked at */

int store_ready_before(struct store *st, const struct job_row *r, int max, int *before, bool *more) {
    char place[CONSTRAINT_MAX] = "";
    int64_t n;
    *before = 0;
    for (int i = 0; i <= PLACES; i++) {
        int rc = i ? store_ready_place(st, r->job.uid, place) : 0;
        *more = rc == 0 && i == PLACES;
        if (rc < 0 || *more)
            return rc == -ENOENT ? 0 : rc;
        rc = store_integers(st, &n, 1, i ? SQL_READY_PLACED_BEFORE : SQL_READY_BEFORE, INTEGER(r->job.uid),
                            INTEGER(r->job.priority), INTEGER(r->turn), INTEGER(r->job.id), INTEGER(max + 1),
                            TEXT(place));
        if (rc < 0)
            return rc;
        *before += (int)n;
        if (*before > max)
            break;
    }
    *more = *before > max;
    *before = *more ? max : *before;
    return 0;
}

/* Turn about among what is a user's: a ready queue is one (group, priority). A job joins behind its own last one, but
 * never before the place that is served now; so ready queues alternate however many jobs each has, and a ready queue
 * that was idle has no credit. */
int store_ready_turn(struct store *st, const struct job *j, int64_t *turn) {
    return store_integers(st, turn, 1, SQL_READY_TURN, INTEGER(j->group), INTEGER(j->uid), INTEGER(j->priority));
}

int64_t store_next_due(struct store *st) {
    int64_t due = 0;
    store_integers(st, &due, 1, SQL_NEXT_DUE);
    return due;
}

int store_ids(struct store *st, enum store_set set, int64_t bound, uint64_t after, uint64_t *ids, int max) {
    static const enum sql queries[] = {
        [SET_DUE] = SQL_IDS_DUE,         [SET_UNPLACED] = SQL_IDS_UNPLACED, [SET_RUNNING] = SQL_IDS_RUNNING,
        [SET_FLUSHED] = SQL_IDS_FLUSHED, [SET_ORPHANS] = SQL_IDS_ORPHANS,   [SET_SEALED] = SQL_IDS_SEALED,
        [SET_PARTS] = SQL_IDS_PARTS,     [SET_UNENDED] = SQL_IDS_UNENDED,
    };
    int n = store_column(st, ids, max, queries[set], INTEGER(bound), INTEGER(after), INTEGER(max));
    return n < 0 ? 0 : n;
}

int store_ids_back(struct store *st, uint64_t *before, int look, uint64_t *ids, int max) {
    int64_t below = *before < INT64_MAX ? (int64_t)*before : INT64_MAX;
    sqlite3_stmt *q = store_query(st, SQL_IDS_BACK, INTEGER(below), INTEGER(look));
    int n = 0, rc = 0;
    while (n < max && (rc = store_step(st, q)) > 0) {
        look--;
        *before = (uint64_t)sqlite3_column_int64(q, 0);
        if (sqlite3_column_int(q, 1))
            ids[n++] = *before;
    }
    if (rc > 0)
        store_end(q);
    else if (look > 0)
        *before = 0;
    return rc < 0 ? rc : n;
}
