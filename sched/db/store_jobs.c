/* Rows of jobs, and the queries that order them. Statement numbers 10 to 39, 110 to 113. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sched/db/store_int.h"

#define PAGE 256 /* rows of a listing that one query reads */

#define COLUMNS                                                                                                        \
    "id, grp, name, side, state, shelf, flags, kind, uid, gid, mode, priority, cpus, turn, attempt, failures, "        \
    "deaths, exit_status, exit_signal,"                                                                                \
    " error, created, queued, started, ended, user_us, system_us, maxrss, not_before, request, why, stream, call, "    \
    "place, node"

static void read_row(sqlite3_stmt *q, struct job_row *r) {
    struct job *j = &r->job;
    int c = 0;
    *r = (struct job_row){0};
    j->id = (uint64_t)sqlite3_column_int64(q, c++);
    j->group = (uint64_t)sqlite3_column_int64(q, c++);
    column_copy(q, c++, j->name, sizeof j->name);
    j->draft = sqlite3_column_int(q, c++) == 1;
    j->state = (enum job_state)sqlite3_column_int(q, c++);
    j->shelf = (enum job_shelf)sqlite3_column_int(q, c++);
    int flags = sqlite3_column_int(q, c++);
    j->flushed = flags & FLAG_FLUSHED;
    j->cut = flags & FLAG_CUT;
    r->sealed = flags & FLAG_SEALED;
    j->temporary = flags & FLAG_TEMPORARY;
    r->copy = flags & FLAG_COPY;
    r->resolved = flags & FLAG_RESOLVED;
    j->kind = (enum work_kind)sqlite3_column_int(q, c++);
    j->uid = (uid_t)sqlite3_column_int64(q, c++);
    j->gid = (gid_t)sqlite3_column_int64(q, c++);
    j->mode = (mode_t)sqlite3_column_int(q, c++);
    j->priority = sqlite3_column_int(q, c++);
    j->cpus = (uint32_t)sqlite3_column_int64(q, c++);
    r->turn = sqlite3_column_int64(q, c++);
    j->attempt = (uint32_t)sqlite3_column_int64(q, c++);
    j->failures = (uint32_t)sqlite3_column_int64(q, c++);
    j->deaths = (uint32_t)sqlite3_column_int64(q, c++);
    j->exit_status = sqlite3_column_int(q, c++);
    j->exit_signal = sqlite3_column_int(q, c++);
    j->error = sqlite3_column_int(q, c++);
    j->created = sqlite3_column_int64(q, c++);
    j->queued = sqlite3_column_int64(q, c++);
    j->started = sqlite3_column_int64(q, c++);
    j->ended = sqlite3_column_int64(q, c++);
    j->user_us = sqlite3_column_int64(q, c++);
    j->system_us = sqlite3_column_int64(q, c++);
    j->maxrss_kib = sqlite3_column_int64(q, c++);
    j->not_before = sqlite3_column_int64(q, c++);
    j->request = (uint64_t)sqlite3_column_int64(q, c++);
    column_copy(q, c++, j->why, sizeof j->why);
    r->stream = (uint64_t)sqlite3_column_int64(q, c++);
    r->call = (uint64_t)sqlite3_column_int64(q, c++);
    column_copy(q, c++, r->place, sizeof r->place);
    column_copy(q, c, j->node, sizeof j->node);
}

/* Binds every column to the parameter of its place in COLUMNS, so that insert and each form of save share it. */
static void bind_row(sqlite3_stmt *q, const struct job_row *r) {
    const struct job *j = &r->job;
    int c = 1;
    bind_int(q, c++, (int64_t)j->id);
    bind_int(q, c++, (int64_t)j->group);
    bind_text(q, c++, j->name);
    if (j->shelf == SHELF_ORPHAN || j->shelf == SHELF_PART)
        sqlite3_bind_null(q, c++);
    else
        bind_int(q, c++, j->draft);
    bind_int(q, c++, j->state);
    bind_int(q, c++, j->shelf);
    bind_int(q, c++,
             (j->flushed ? FLAG_FLUSHED : 0) | (j->cut ? FLAG_CUT : 0) | (r->sealed ? FLAG_SEALED : 0) |
                 (r->resolved ? FLAG_RESOLVED : 0) | (j->temporary ? FLAG_TEMPORARY : 0) | (r->copy ? FLAG_COPY : 0));
    bind_int(q, c++, j->kind);
    bind_int(q, c++, j->uid);
    bind_int(q, c++, j->gid);
    bind_int(q, c++, j->mode);
    bind_int(q, c++, j->priority);
    bind_int(q, c++, j->cpus);
    bind_int(q, c++, r->turn);
    bind_int(q, c++, j->attempt);
    bind_int(q, c++, j->failures);
    bind_int(q, c++, j->deaths);
    bind_int(q, c++, j->exit_status);
    bind_int(q, c++, j->exit_signal);
    bind_int(q, c++, j->error);
    bind_int(q, c++, j->created);
    bind_int(q, c++, j->queued);
    bind_int(q, c++, j->started);
    bind_int(q, c++, j->ended);
    bind_int(q, c++, j->user_us);
    bind_int(q, c++, j->system_us);
    bind_int(q, c++, j->maxrss_kib);
    bind_int(q, c++, j->not_before);
    bind_int(q, c++, (int64_t)j->request);
    bind_text(q, c++, j->why);
    bind_int(q, c++, (int64_t)r->stream);
    bind_int(q, c++, (int64_t)r->call);
    bind_text(q, c++, r->place);
    bind_text(q, c, j->node);
}

int store_job_insert(struct store *st, const struct job_row *r, const char *cwd) {
    sqlite3_stmt *q = store_sql(st, 10,
                                "INSERT INTO jobs(" COLUMNS
                                ", cwd) VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15,?16,?17,?18,"
                                "?19,?20,?21,?22,?23,?24,?25,?26,?27,?28,?29,?30,?31,?32,?33,?34,?35)");
    if (q) {
        bind_row(q, r);
        bind_text(q, 35, cwd);
    }
    return store_run(st, q);
}

static int read_one(struct store *st, sqlite3_stmt *q, struct job_row *out) {
    int rc = store_step(st, q);
    if (rc <= 0)
        return rc < 0 ? rc : -ENOENT;
    read_row(q, out);
    store_end(q);
    return 0;
}

int store_job_get(struct store *st, uint64_t id, struct job_row *out) {
    sqlite3_stmt *q = store_sql(st, 11, "SELECT " COLUMNS " FROM jobs WHERE id=?1");
    if (!q)
        return -EIO;
    bind_int(q, 1, (int64_t)id);
    return read_one(st, q, out);
}

int store_job_find(struct store *st, uint64_t group, const char *name, bool draft, struct job_row *out) {
    sqlite3_stmt *q = store_sql(st, 12, "SELECT " COLUMNS " FROM jobs WHERE grp=?1 AND name=?2 AND side=?3");
    if (!q)
        return -EIO;
    bind_int(q, 1, (int64_t)group);
    bind_text(q, 2, name);
    bind_int(q, 3, draft);
    return read_one(st, q, out);
}

/* SQLite rewrites an index when a column of it is named in SET, changed or not: so each caller says what it changed. */
int store_job_save(struct store *st, const struct job_row *r, unsigned what) {
    char text[1024];
    snprintf(
        text, sizeof text,
        "UPDATE jobs SET kind=?8, gid=?10, mode=?11, cpus=?13, attempt=?15, failures=?16, deaths=?17, exit_status=?18,"
        " exit_signal=?19, error=?20, queued=?22, started=?23, ended=?24, user_us=?25, system_us=?26, maxrss=?27, "
        "why=?30, node=?34%s%s%s WHERE id=?1",
        what & SAVE_NAME ? ", grp=?2, name=?3, side=?4, uid=?9" : "", what & SAVE_SHELF ? ", shelf=?6" : "",
        what & SAVE_QUEUE ? ", state=?5, flags=?7, priority=?12, turn=?14, not_before=?28, place=?33" : "");
    sqlite3_stmt *q = store_sql(st, 13 + (what & 7), text); /* 13..20 */
    if (q)
        bind_row(q, r);
    return store_run(st, q);
}

int store_deps_delete(struct store *st, uint64_t job) {
    sqlite3_stmt *q = store_sql(st, 23, "DELETE FROM deps WHERE job=?1");
    if (q)
        bind_int(q, 1, (int64_t)job);
    return store_run(st, q);
}

int store_job_delete(struct store *st, uint64_t id) {
    sqlite3_stmt *q = store_sql(st, 21, "DELETE FROM jobs WHERE id=?1");
    if (q)
        bind_int(q, 1, (int64_t)id);
    int rc = store_run(st, q);
    return rc == 0 ? store_deps_delete(st, id) : rc;
}

int store_job_texts(struct store *st, uint64_t id, char **options, char **cwd) {
    sqlite3_stmt *q = store_sql(st, 24, "SELECT options, cwd FROM jobs WHERE id=?1");
    if (!q)
        return -EIO;
    bind_int(q, 1, (int64_t)id);
    int rc = store_step(st, q);
    if (rc <= 0)
        return rc < 0 ? rc : -ENOENT;
    rc = 0;
    if (options && !(*options = strdup((const char *)sqlite3_column_text(q, 0))))
        rc = -ENOMEM;
    if (cwd && !(*cwd = strdup((const char *)sqlite3_column_text(q, 1))))
        rc = -ENOMEM;
    store_end(q);
    return rc;
}

int store_job_set_options(struct store *st, uint64_t id, const char *options) {
    sqlite3_stmt *q = store_sql(st, 25, "UPDATE jobs SET options=?2 WHERE id=?1");
    if (q) {
        bind_int(q, 1, (int64_t)id);
        bind_text(q, 2, options);
    }
    return store_run(st, q);
}

int store_job_set_directory(struct store *st, uint64_t id, const char *cwd) {
    sqlite3_stmt *q = store_sql(st, 97, "UPDATE jobs SET cwd=?2 WHERE id=?1");
    if (q) {
        bind_int(q, 1, (int64_t)id);
        bind_text(q, 2, cwd);
    }
    return store_run(st, q);
}

/* --- listings ---------------------------------------------------------------------------------------------------- */

/* One page: from each wanted shelf its next rows, merged by id. An id never moves back, so no job is listed twice
 * although it may change shelves between two pages. */
static sqlite3_stmt *page_query(struct store *st) {
/* clang-format off */
#define ONE(shelf, p)                                                                                                                 \
    "SELECT * FROM (SELECT id, name, state, shelf, side FROM jobs WHERE grp=?1 AND shelf=" #shelf " AND " #p " AND id>?2 ORDER BY id LIMIT ?3)"
    return store_sql(st, 26, ONE(0, ?4) " UNION ALL " ONE(1, ?5) " UNION ALL " ONE(2, ?6) " UNION ALL " ONE(3, ?7) " ORDER BY id LIMIT ?3");
#undef ONE
    /* clang-format on */
}

int store_job_list(struct store *st, uint64_t group, unsigned shelves, uint64_t after,
                   bool (*each)(void *, const struct job *), void *arg) {
    for (;;) {
        sqlite3_stmt *q = page_query(st);
        struct job j = {.group = group};
        int rows = 0, rc;
        if (!q)
            return -EIO;
        bind_int(q, 1, (int64_t)group);
        bind_int(q, 2, (int64_t)after);
        bind_int(q, 3, PAGE);
        for (int i = 0; i < 4; i++)
            bind_int(q, 4 + i, shelves >> i & 1);
        while ((rc = store_step(st, q)) > 0) {
            rows++;
            j.id = after = (uint64_t)sqlite3_column_int64(q, 0);
            column_copy(q, 1, j.name, sizeof j.name);
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

int store_ready_user(struct store *st, int64_t after, uid_t *uid) {
    int64_t next;
    sqlite3_stmt *q = store_sql(st, 22, "SELECT uid FROM jobs WHERE state=3 AND uid>?1 ORDER BY uid LIMIT 1");
    int rc = store_ints(st, q, after, &next, 1);
    if (rc == 0)
        *uid = (uid_t)next;
    return rc;
}

int store_ready_head(struct store *st, uid_t uid, const char *place, const struct job_row *after, struct job_row *out) {
#define HEAD "SELECT " COLUMNS " FROM jobs WHERE state=3 AND uid=?5 AND place"
#define BEHIND " AND priority<=?2 AND (priority<?2 OR turn>?3 OR (turn=?3 AND id>?4))"
#define ORDER " ORDER BY priority DESC, turn, id LIMIT 1"
    sqlite3_stmt *q;
    if (*place)
        q = after ? store_sql(st, 111, HEAD "<>'' AND place=?1" BEHIND ORDER)
                  : store_sql(st, 112, HEAD "<>'' AND place=?1" ORDER);
    else
        q = after ? store_sql(st, 110, HEAD "=''" BEHIND ORDER) : store_sql(st, 27, HEAD "=''" ORDER);
#undef HEAD
#undef BEHIND
#undef ORDER
    if (!q)
        return -EIO;
    bind_int(q, 5, uid);
    if (*place)
        bind_text(q, 1, place);
    if (after) {
        bind_int(q, 2, after->job.priority);
        bind_int(q, 3, after->turn);
        bind_int(q, 4, (int64_t)after->job.id);
    }
    return read_one(st, q, out);
}

int store_ready_place(struct store *st, uid_t uid, char place[PLACE_MAX]) {
    sqlite3_stmt *q = store_sql(st, 113,
                                "SELECT place FROM jobs WHERE state=3 AND uid=?2 AND place<>'' AND place>?1 "
                                "ORDER BY place LIMIT 1");
    if (!q)
        return -EIO;
    bind_int(q, 2, uid);
    bind_text(q, 1, place);
    int rc = store_step(st, q);
    if (rc <= 0)
        return rc < 0 ? rc : -ENOENT;
    column_copy(q, 0, place, PLACE_MAX);
    store_end(q);
    return 0;
}

/* Turn about among what is a user's: a lane is (group, priority). A job joins behind its own lane's last, but never
 * before the place that is served now; so lanes alternate however many jobs each has, and a lane that was idle has no
 * credit. */
int store_ready_turn(struct store *st, const struct job *j, int64_t *turn) {
    sqlite3_stmt *q = store_sql(
        st, 28,
        "SELECT max(ifnull((SELECT max(turn)+1 FROM jobs WHERE state=3 AND grp=?1 AND uid=?2 AND priority=?3), 0),"
        " ifnull(min(ifnull(a, b), ifnull(b, a)), 0)) FROM (SELECT"
        " (SELECT min(turn) FROM jobs WHERE state=3 AND uid=?2 AND place='' AND priority=?3) AS a,"
        " (SELECT min(turn) FROM jobs WHERE state=3 AND uid=?2 AND place<>'' AND place='p' AND priority=?3) AS b)");
    if (!q)
        return -EIO;
    bind_int(q, 1, (int64_t)j->group);
    bind_int(q, 2, j->uid);
    bind_int(q, 3, j->priority);
    int rc = store_step(st, q);
    if (rc <= 0)
        return rc < 0 ? rc : -EIO;
    *turn = sqlite3_column_int64(q, 0);
    store_end(q);
    return 0;
}

int64_t store_next_due(struct store *st) {
    sqlite3_stmt *q =
        store_sql(st, 29, "SELECT min(not_before) FROM jobs WHERE state=2 AND not_before<>0 AND not_before>0");
    int64_t due = 0;
    if (q && store_step(st, q) > 0) {
        due = sqlite3_column_int64(q, 0);
        store_end(q);
    }
    return due;
}

int store_due_by(struct store *st, int64_t latest) {
    sqlite3_stmt *q =
        store_sql(st, 39, "UPDATE jobs SET not_before=?1 WHERE state=2 AND not_before<>0 AND not_before>?1");
    if (q)
        bind_int(q, 1, latest);
    return store_run(st, q);
}

int store_ids(struct store *st, enum store_set set, int64_t bound, uint64_t after, uint64_t *ids, int max) {
    static const char *const sql[] = {
        [SET_DUE] = "SELECT id FROM jobs WHERE state=2 AND not_before<>0 AND not_before>0 AND not_before<=?1 ORDER BY "
                    "not_before LIMIT ?3",
        [SET_UNPLACED] =
            "SELECT id FROM jobs WHERE state=2 AND not_before<>0 AND not_before=-1 AND id>?2 ORDER BY id LIMIT ?3",
        [SET_RUNNING] = "SELECT id FROM jobs WHERE state=4 AND id>?2 ORDER BY id LIMIT ?3",
        [SET_FLUSHED] = "SELECT id FROM jobs WHERE state=0 AND flags=1 AND id>?2 ORDER BY id LIMIT ?3",
        [SET_ORPHANS] = "SELECT id FROM jobs WHERE shelf=4 AND id>?2 ORDER BY id LIMIT ?3",
        [SET_PARTS] = "SELECT id FROM jobs WHERE stream<>0 AND stream=?1 AND id>?2 ORDER BY id LIMIT ?3",
        [SET_SEALED] = "SELECT id FROM jobs WHERE grp=?1 AND shelf=0 AND id>?2 AND state=0 AND flags&4 AND name NOT "
                       "LIKE '.%' ORDER BY id LIMIT ?3",
    };
    sqlite3_stmt *q = store_sql(st, 30 + set, sql[set]); /* 30..36 */
    int n = 0;
    if (!q)
        return 0;
    bind_int(q, 1, bound);
    bind_int(q, 2, (int64_t)after);
    bind_int(q, 3, max);
    while (n < max && store_step(st, q) > 0)
        ids[n++] = (uint64_t)sqlite3_column_int64(q, 0);
    store_end(q);
    return n;
}
