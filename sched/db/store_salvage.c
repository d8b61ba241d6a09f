/* Salvage: rows are copied one by one from a database that may be damaged anywhere into a new one, on which the
 * examination is then made; a job, or a directory, of which it finds anything wrong is left out. Where pages are
 * damaged a row that is not there may be one that cannot be found: then a job that needs one is left out, too. */
#include "sched/db/store_salvage.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "net/printable.h"
#include "sched/db/file_bytes.h"
#include "sched/db/store_int.h"

#define TABLE_SQL 2048

struct salvage {
    sqlite3 *old, *new;
    const char *from, *to;
    examine_told *told;
    void *arg;
    int lines, pass; /* pass: what the last examination left out */
    bool made;
    bool damaged; /* pages or indexes of the old one */
};

static void say(struct salvage *v, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void say(struct salvage *v, const char *format, ...) {
    char line[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    printable(line, sizeof line);
    v->lines++;
    v->told(v->arg, line);
}

static int run(struct salvage *v, const char *sql) {
    return sqlite3_exec(v->new, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : -EIO;
}

/* Runs a statement of one number. */
static int run_of(struct salvage *v, const char *sql, int64_t n) {
    sqlite3_stmt *q = NULL;
    int rc = sqlite3_prepare_v2(v->new, sql, -1, &q, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_bind_int64(q, 1, n);
    if (rc == SQLITE_OK)
        rc = sqlite3_step(q) == SQLITE_DONE ? SQLITE_OK : SQLITE_ERROR;
    sqlite3_finalize(q);
    return rc == SQLITE_OK ? 0 : -EIO;
}

/* --- rows -------------------------------------------------------------------------------------------------------- */

struct table {
    const char *name;
    char columns[TABLE_SQL];
    int count;
    bool numbered;                       /* has a rowid */
    sqlite3_stmt *into, *named, *listed; /* the last two, of jobs: whether the indexes of the old one have that row */
    int64_t skipped;                     /* rows */
};

/* Whether an index has the row, too: one whose number or name was changed by a bit is not in it. NULL: it is gone. */
static bool confirmed(sqlite3_stmt *index, sqlite3_stmt *row) {
    if (!index)
        return true;
    for (int i = 1; i <= sqlite3_bind_parameter_count(index); i++)
        sqlite3_bind_value(index, i, sqlite3_column_value(row, i));
    int rc = sqlite3_step(index);
    sqlite3_reset(index);
    return rc == SQLITE_ROW;
}

static void take_row(struct table *t, sqlite3_stmt *row) {
    bool whole = confirmed(t->named, row) && confirmed(t->listed, row);
    for (int i = 0; i < t->count; i++)
        sqlite3_bind_value(t->into, i + 1, sqlite3_column_value(row, i + 1));
    if (!whole || sqlite3_step(t->into) != SQLITE_DONE || sqlite3_changes(sqlite3_db_handle(t->into)) != 1)
        t->skipped++;
    sqlite3_reset(t->into);
}

/* Rows between two numbers, exclusive; *last: the last that could be read. Whether it came to its end. */
static bool read_rows(struct salvage *v, struct table *t, int64_t after, int64_t before, bool down, int64_t *last) {
    char sql[TABLE_SQL * 2];
    sqlite3_stmt *q = NULL;
    snprintf(sql, sizeof sql,
             t->numbered ? "SELECT rowid, %s FROM %s NOT INDEXED WHERE rowid>?1 AND rowid<?2 ORDER BY rowid%s"
                         : "SELECT 0, %s FROM %s%.0s",
             t->columns, t->name, down ? " DESC" : "");
    int rc = sqlite3_prepare_v2(v->old, sql, -1, &q, NULL);
    if (rc == SQLITE_OK && t->numbered) {
        sqlite3_bind_int64(q, 1, after);
        sqlite3_bind_int64(q, 2, before);
    }
    while (rc == SQLITE_OK && (rc = sqlite3_step(q)) == SQLITE_ROW) {
        int64_t id = sqlite3_column_int64(q, 0);
        if (t->numbered && (id <= after || id >= before))
            break; /* out of order */
        take_row(t, q);
        *last = id;
        if (down)
            before = id;
        else
            after = id;
        rc = SQLITE_OK;
    }
    sqlite3_finalize(q);
    return rc == SQLITE_DONE;
}

/* Upwards until a page is damaged, downwards until one is, and what can be found between the two. */
static void read_table(struct salvage *v, struct table *t) {
    int64_t low = -1, high = INT64_MAX - 1, last;
    if (read_rows(v, t, low, high, false, &low))
        return;
    v->damaged = true;
    if (!t->numbered || read_rows(v, t, low, high, true, &high)) {
        say(v, "table %s: not all of it can be read", t->name);
        return;
    }
    for (int64_t step = 1; step < high - low && step < INT64_MAX / 4;) {
        int64_t from = last = low + step;
        bool all = read_rows(v, t, from, high, false, &last);
        if (last != from || all) /* behind the damaged page: what was leapt over */
            read_rows(v, t, low, from + 1, true, &(int64_t){0});
        if (all)
            break;
        step = last == from ? step * 2 : 1;
        low = last == from ? low : last;
    }
    say(v, "table %s: not all of it can be read", t->name);
}

static sqlite3_stmt *index_of(struct salvage *v, const char *sql) {
    sqlite3_stmt *q = NULL;
    sqlite3_prepare_v2(v->old, sql, -1, &q, NULL);
    return q;
}

static int copy_table(struct salvage *v, const char *name) {
    struct table t = {.name = name, .numbered = true};
    char sql[TABLE_SQL * 2], marks[512] = "";
    sqlite3_stmt *q = NULL;
    int rc = sqlite3_prepare_v2(
        v->new, "SELECT name, (SELECT wr FROM pragma_table_list(?1)) FROM pragma_table_info(?1)", -1, &q, NULL);
    sqlite3_bind_text(q, 1, name, -1, SQLITE_STATIC);
    for (; rc == SQLITE_OK && sqlite3_step(q) == SQLITE_ROW; t.count++) {
        size_t n = strlen(t.columns);
        snprintf(t.columns + n, sizeof t.columns - n, "%s%s", n ? "," : "", sqlite3_column_text(q, 0));
        strcat(marks, n ? ",?" : "?");
        t.numbered = !sqlite3_column_int(q, 1);
    }
    sqlite3_finalize(q);
    snprintf(sql, sizeof sql, "INSERT OR IGNORE INTO %s(%s) VALUES(%s)", name, t.columns, marks);
    if (rc != SQLITE_OK || sqlite3_prepare_v2(v->new, sql, -1, &t.into, NULL) != SQLITE_OK)
        return -EIO;
    if (v->damaged && strcmp(name, "jobs") == 0) { /* the columns' order is that of the first schema */
        t.named =
            index_of(v, "SELECT 1 FROM jobs INDEXED BY job_names WHERE id=?1 AND grp=?2 AND name=?3 AND side IS ?4");
        t.listed =
            index_of(v, "SELECT 1 FROM jobs INDEXED BY job_shelves WHERE id=?1 AND grp=?2 AND shelf=?6 AND ?3=?3");
    }
    read_table(v, &t);
    if (t.skipped)
        say(v, "table %s: %" PRId64 " rows are left out, which no ppfs has written so", name, t.skipped);
    sqlite3_finalize(t.into);
    sqlite3_finalize(t.named);
    sqlite3_finalize(t.listed);
    return 0;
}

static int copy_tables(struct salvage *v) {
    char *names[64];
    unsigned count = 0;
    sqlite3_stmt *q = NULL;
    int rc = run(v, "DELETE FROM groups; DELETE FROM meta");
    if (rc == 0 && sqlite3_prepare_v2(v->new,
                                      "SELECT name FROM sqlite_master WHERE type='table' AND name NOT LIKE 'sqlite%'"
                                      " AND name NOT IN ('kept', 'kept_counts')", /* as set_right() says */
                                      -1, &q, NULL) != SQLITE_OK)
        rc = -EIO;
    while (rc == 0 && sqlite3_step(q) == SQLITE_ROW && count < 64)
        if ((names[count] = strdup((const char *)sqlite3_column_text(q, 0))))
            count++;
    sqlite3_finalize(q);
    for (unsigned i = 0; i < count; i++) {
        rc = rc == 0 ? copy_table(v, names[i]) : rc;
        free(names[i]);
    }
    if (rc == 0)
        rc = run(v, "INSERT OR IGNORE INTO groups(id, parent, name, dotted, uid, gid, mode, created, request)"
                    " VALUES(0, NULL, '', 0, 0, 0, 493, 0, 0)");
    return rc;
}

/* --- what is not whole ------------------------------------------------------------------------------------------- */

static int leave_job(struct salvage *v, int64_t id) {
    static const char *const of[] = {"UPDATE arrays SET lost=1 WHERE id=(SELECT array FROM jobs WHERE id=?1)",
                                     "DELETE FROM jobs WHERE id=?1",
                                     "DELETE FROM bodies WHERE id BETWEEN ?1*8 AND ?1*8+7",
                                     "DELETE FROM logs WHERE log BETWEEN ?1*8 AND ?1*8+7",
                                     "DELETE FROM deps WHERE job=?1",
                                     "DELETE FROM streams WHERE id=?1",
                                     "DELETE FROM arrays WHERE id=?1",
                                     "DELETE FROM keeps WHERE job=?1"};
    int rc = 0;
    for (unsigned i = 0; i < sizeof of / sizeof *of && rc == 0; i++)
        rc = run_of(v, of[i], id);
    return rc;
}

static void wrong(void *arg, const char *line, bool group, int64_t id) {
    struct salvage *v = arg;
    say(v, "left out: %s", line);
    if (id == 0 || (group ? run_of(v, "DELETE FROM groups WHERE id=?1 AND id<>0", id) : leave_job(v, id)))
        v->pass = -EIO;
    else if (v->pass >= 0)
        v->pass++;
}

/* Jobs that need what may have been lost. */
static const char *const missing[] = {
    "SELECT printf('%s may have lost its result', name), id FROM jobs WHERE state=" DONE " AND shelf<>" PART
    " AND array<>id AND NOT EXISTS(SELECT 1 FROM bodies WHERE bodies.id IN (jobs.id*8+1, jobs.id*8+2))",
    "SELECT printf('%s has lost its job file', name), id FROM jobs WHERE state " ACTIVE " AND array IN (0, id)"
    " AND NOT EXISTS(SELECT 1 FROM bodies WHERE bodies.id=jobs.id*8)",
    "SELECT printf('%s may have lost what it waits for', name), id FROM jobs WHERE state=" WAITING
    " AND not_before=0 AND NOT EXISTS(SELECT 1 FROM deps WHERE job=jobs.id)",
    "SELECT printf('%s may have lost some of its calls or answers', name), id FROM jobs WHERE id IN (SELECT id>>3"
    " FROM bodies WHERE file=" IN_LOG " AND id&7<>" WAITING_BODY
    " AND size<>(SELECT total(CASE typeof(data) WHEN 'integer' THEN data ELSE length(data) END)"
    " FROM logs WHERE log=bodies.id))",
    "SELECT printf('%s has lost how far it is', name), id FROM jobs WHERE state " ACTIVE
    " AND id IN (SELECT id>>3 FROM bodies WHERE file=" IN_LOG ") AND id NOT IN (SELECT id FROM streams)",
};

static int leave_out(struct salvage *v) {
    for (unsigned i = 0; v->damaged && i < sizeof missing / sizeof *missing; i++)
        store_examine_each(v->new, missing[i], false, wrong, v);
    do {
        if (v->pass < 0)
            return v->pass;
        v->pass = 0;
        store_examine_rows(v->new, v->from, wrong, v);
    } while (v->pass);
    store_examine_each(v->new,
                       "SELECT DISTINCT printf('job %d, of which there are only bytes', id>>3), id>>3 FROM bodies"
                       " WHERE id>>3 NOT IN (SELECT id FROM jobs)",
                       false, wrong, v);
    return v->pass < 0 ? v->pass : 0;
}

/* As store_tally_add counts: for a group and all above it. Elements of arrays that are no jobs yet count, too, and
 * groups that are opening; elements that were cancelled before they were jobs are not known any more. */
static int count_again(struct salvage *v) {
    return run(
        v, "WITH RECURSIVE up(id, top) AS (SELECT id, id FROM groups"
           " UNION SELECT up.id, parent FROM up JOIN groups ON groups.id=top WHERE parent IS NOT NULL),"
           " own(grp, active, running, done, failed, cancelled) AS ("
           "SELECT grp, state " ACTIVE ", state=" RUNNING ", state=" DONE ", state=" FAILED ", state=" CANCELLED
           " FROM jobs WHERE shelf<" ORPHAN " UNION ALL SELECT grp, size-next, 0, 0, 0, 0 FROM arrays"
           " UNION ALL SELECT id, 1, 0, 0, 0, 0 FROM groups WHERE opening=1)"
           " UPDATE groups SET active=n.active, running=n.running, done=n.done, failed=n.failed, cancelled=n.cancelled"
           " FROM (SELECT top, ifnull(sum(active), 0) AS active, ifnull(sum(running), 0) AS running,"
           " ifnull(sum(done), 0) AS done, ifnull(sum(failed), 0) AS failed, ifnull(sum(cancelled), 0) AS cancelled"
           " FROM up LEFT JOIN own ON grp=up.id GROUP BY top) AS n WHERE groups.id=n.top");
}

/* Who waits for a job that is not there is told that it did not succeed. */
static int set_right(struct salvage *v) {
    if (v->lines && count_again(v) < 0)
        return -EIO;
    return run(v, "DELETE FROM meta WHERE key='kept';" /* the next daemon counts anew for --keep-results */
                  "DELETE FROM deps WHERE job NOT IN (SELECT id FROM jobs);"
                  "INSERT OR IGNORE INTO settle(dep, succeeded, name, uid) SELECT dep, 0, 'a job that was lost', "
                  "min(uid) FROM deps"
                  " JOIN jobs ON jobs.id=job WHERE dep NOT IN (SELECT id FROM jobs) GROUP BY dep;"
                  "INSERT INTO meta(key, value) SELECT 'next_id', max(ifnull((SELECT max(id) FROM jobs), 0),"
                  " ifnull((SELECT max(id) FROM groups), 0), ifnull((SELECT max(first+size) FROM arrays), 0),"
                  " ifnull((SELECT max(id)>>3 FROM bodies), 0))+1000 WHERE true"
                  " ON CONFLICT(key) DO UPDATE SET value=max(CAST(value AS INTEGER), excluded.value)");
}

/* --- files ------------------------------------------------------------------------------------------------------- */

static int copy_file(int from, int to, const char *name) {
    struct stat st;
    int rc = 0, in = openat(from, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (in < 0 || fstat(in, &st) < 0 || !S_ISREG(st.st_mode)) {
        if (in >= 0)
            close(in);
        return 0; /* the examination has told of it */
    }
    int out = openat(to, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, st.st_mode & 0700);
    if (out < 0)
        rc = errno == EEXIST ? 0 : -errno;
    for (uint64_t at = 0, size = (uint64_t)st.st_size; out >= 0 && rc == 0 && at < size;) {
        int64_t n = file_copy_range(in, out, size - at, at, at);
        rc = n < 0 ? (int)n : 0;
        at = n <= 0 ? size : at + (uint64_t)n;
    }
    close(in);
    if (out >= 0)
        close(out);
    return rc;
}

/* All files of spool/ (what no row names is removed at the next start), and those by which nodes know this ppfs. */
static int copy_files(struct salvage *v) {
    static const char *const kept[] = {"id", "key", "join.key"};
    int rc = 0, from = open(v->from, O_RDONLY | O_DIRECTORY | O_CLOEXEC),
        to = open(v->to, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (unsigned i = 0; i < sizeof kept / sizeof *kept && rc == 0; i++)
        rc = copy_file(from, to, kept[i]);
    if (rc == 0 && mkdirat(to, "spool", 0700) < 0 && errno != EEXIST)
        rc = -errno;
    int spool = openat(from, "spool", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int copy = openat(to, "spool", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = spool >= 0 ? fdopendir(spool) : NULL;
    for (struct dirent *e; d && rc == 0 && (e = readdir(d));)
        rc = copy_file(spool, copy, e->d_name);
    if (rc == 0 && syncfs(to) < 0)
        rc = -errno;
    if (d)
        closedir(d);
    if (copy >= 0)
        close(copy);
    if (from >= 0)
        close(from);
    if (to >= 0)
        close(to);
    return rc;
}

/* What make() and copy_files() have made. */
static void remove_all(const char *dir) {
    static const char *const made[] = {"spool", ""};
    for (unsigned i = 0; i < 2; i++) {
        char path[4096];
        snprintf(path, sizeof path, "%s/%s", dir, made[i]);
        DIR *d = opendir(path);
        for (struct dirent *e; d && (e = readdir(d));)
            unlinkat(dirfd(d), e->d_name, 0);
        if (d)
            closedir(d);
        rmdir(path);
    }
}

/* --- all of it --------------------------------------------------------------------------------------------------- */

static int make(struct salvage *v) {
    char why[512], path[4096];
    struct store *st;
    if ((mkdir(v->to, 0700) < 0 && errno != EEXIST) || (rmdir(v->to) < 0) || mkdir(v->to, 0700) < 0)
        return errno == EEXIST ? -ENOTEMPTY : -errno;
    v->made = true;
    int rc = store_open(&st, v->to, why, sizeof why);
    if (rc < 0)
        return rc;
    store_close(st);
    snprintf(path, sizeof path, "%s/ppfs.db", v->to);
    if (sqlite3_open_v2(path, &v->new, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOFOLLOW, NULL) != SQLITE_OK)
        return -EIO;
    return run(v, "BEGIN IMMEDIATE");
}

/* Looks whether the old one is damaged. 0, -EIO: it cannot be read, -EPROTO: its schema is not ours. */
static int check_old(struct salvage *v) {
    sqlite3_stmt *q = NULL;
    v->damaged = sqlite3_prepare_v2(v->old, "PRAGMA integrity_check(1)", -1, &q, NULL) != SQLITE_OK ||
                 sqlite3_step(q) != SQLITE_ROW || strcmp((const char *)sqlite3_column_text(q, 0), "ok") != 0;
    sqlite3_finalize(q);
    q = NULL;
    int version = -1;
    if (sqlite3_prepare_v2(v->old, "PRAGMA user_version", -1, &q, NULL) == SQLITE_OK && sqlite3_step(q) == SQLITE_ROW)
        version = sqlite3_column_int(q, 0);
    sqlite3_finalize(q);
    if (version < 0)
        return -EIO;
    return version == store_schema_version() ? 0 : -EPROTO;
}

int store_salvage(const char *from, const char *to, examine_told *told, void *arg) {
    struct salvage v = {.from = from, .to = to, .told = told, .arg = arg};
    int lock, rc = store_examine_open(from, &v.old, &lock);
    if (rc == 0)
        rc = check_old(&v);
    if (rc == 0)
        rc = make(&v);
    if (rc == 0)
        rc = copy_tables(&v);
    if (rc == 0)
        rc = leave_out(&v);
    if (rc == 0)
        rc = set_right(&v);
    if (rc == 0)
        rc = copy_files(&v);
    if (rc == 0)
        rc = run(&v, "COMMIT");
    sqlite3_close(v.old);
    sqlite3_close(v.new);
    if (rc < 0 && v.made)
        remove_all(to);
    if (lock >= 0)
        close(lock);
    return rc < 0 ? rc : v.lines;
}
