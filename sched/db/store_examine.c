/* Examines a state directory that no ppfs uses: the findings of SQLite, missing parts of the newest schema, wrong sums
 * of bytes, and rows that no ppfs writes. */
#include "sched/db/store_examine.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "net/printable.h"
#include "sched/db/store_columns.h"
#include "sched/db/store_int.h"

#define FOUND_MAX 1000 /* lines, after which it gives up */
#define LOCKED_MS 5000 /* wait for another program that has the database locked, as SQLite does while it closes it */

struct examination {
    sqlite3 *db;
    const char *dir;
    examine_found *told;
    void *arg;
    unsigned found;
};

#define NOBODY false, 0

static void found(struct examination *e, bool group, int64_t id, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
static void found(struct examination *e, bool group, int64_t id, const char *format, ...) {
    char line[1024];
    va_list args;
    if (e->found++ >= FOUND_MAX)
        return;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    for (char *c = line; (c = strchr(c, '\n'));)
        *c = ' ';
    printable(line, sizeof line);
    e->told(e->arg, line, group, id);
}

/* Each row is a sentence, and the number of a job, or of a directory. Missing tables and columns are told elsewhere. */
static void rows(struct examination *e, bool group, const char *text) {
    sqlite3_stmt *q = NULL;
    int rc = sqlite3_prepare_v2(e->db, text, -1, &q, NULL);
    while (rc == SQLITE_OK && (rc = sqlite3_step(q)) == SQLITE_ROW) {
        found(e, group, sqlite3_column_int64(q, 1), "%s", (const char *)sqlite3_column_text(q, 0));
        rc = e->found > FOUND_MAX ? SQLITE_DONE : SQLITE_OK;
    }
    if (rc != SQLITE_DONE && rc != SQLITE_OK && rc != SQLITE_ERROR)
        found(e, NOBODY, "ppfs.db cannot be read: %s", sqlite3_errmsg(e->db));
    sqlite3_finalize(q);
}

/* Compares the names with those of an empty database of the newest schema. */
static void examine_schema(struct examination *e) {
    sqlite3 *model = NULL;
    sqlite3_stmt *names = NULL, *there = NULL;
    if (sqlite3_open(":memory:", &model) == SQLITE_OK && store_schema(model) &&
        sqlite3_prepare_v2(model, "SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL", -1, &names,
                           NULL) == SQLITE_OK &&
        sqlite3_prepare_v2(e->db, "SELECT 1 FROM sqlite_master WHERE type=?1 AND name=?2", -1, &there, NULL) ==
            SQLITE_OK)
        while (sqlite3_step(names) == SQLITE_ROW) {
            sqlite3_bind_value(there, 1, sqlite3_column_value(names, 0));
            sqlite3_bind_value(there, 2, sqlite3_column_value(names, 1));
            if (sqlite3_step(there) != SQLITE_ROW)
                found(e, NOBODY, "%s %s is missing", sqlite3_column_text(names, 0), sqlite3_column_text(names, 1));
            sqlite3_reset(there);
        }
    else
        found(e, NOBODY, "ppfs.db cannot be examined: %s", sqlite3_errmsg(there || !names ? e->db : model));
    sqlite3_finalize(names);
    sqlite3_finalize(there);
    sqlite3_close(model);
}

static const char *body_name(int64_t id) {
    static const char *const names[BODIES] = {[BODY_SPEC] = "job file", [BODY_WAITING] = "waiting input"};
    const char *name = names[id & (BODIES - 1)];
    return name ? name : "result or output";
}

/* 0, or 1 where a block is not what was written. */
static int check_file(const char *path, uint64_t start, uint64_t size, const void *sums, size_t sums_size) {
    static char bytes[SUM_BLOCK];
    struct part p;
    int rc = 0, fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    for (uint64_t at = 0; at < size && rc == 0; at += SUM_BLOCK) {
        rc = part_of(&p, start, size, sums, sums_size, start + at, 1);
        if (rc == 0 && pread(fd, bytes, p.size, (off_t)p.start) != (ssize_t)p.size)
            rc = -EIO;
        if (rc == 0)
            rc = part_check(&p, bytes);
    }
    if (fd >= 0)
        close(fd);
    return rc < 0;
}

/* size bytes from start in it; sums NULL: not known. */
static void examine_file(struct examination *e, int64_t id, int64_t start, int64_t size, int64_t file, const void *sums,
                         size_t sums_size) {
    char path[4096];
    struct stat st;
    snprintf(path, sizeof path, "%s/spool/%" PRId64 "-%d-%" PRId64, e->dir, id / BODIES, (int)(id % BODIES), file);
    if (stat(path, &st) < 0)
        found(e, false, id / BODIES, "the %s of job %" PRId64 " is missing: %s", body_name(id), id / BODIES, path);
    else if (st.st_size < start + size)
        found(e, false, id / BODIES, "the %s of job %" PRId64 " is cut: %s", body_name(id), id / BODIES, path);
    else if (sums && check_file(path, (uint64_t)start, (uint64_t)size, sums, sums_size))
        found(e, false, id / BODIES, "the %s of job %" PRId64 " is damaged: %s", body_name(id), id / BODIES, path);
}

static void examine_bytes(struct examination *e, const char *text,
                          bool (*sound)(int64_t, int64_t, const void *, size_t)) {
    sqlite3_stmt *q = NULL;
    int rc = sqlite3_prepare_v2(e->db, text, -1, &q, NULL);
    while (rc == SQLITE_OK && sqlite3_step(q) == SQLITE_ROW && e->found <= FOUND_MAX) {
        int64_t id = sqlite3_column_int64(q, 0), size = sqlite3_column_int64(q, 1), file = sqlite3_column_int64(q, 2);
        bool filed = file > 0 || sqlite3_column_type(q, 3) == SQLITE_INTEGER;
        int column = filed ? 4 : 3;
        const void *data = sqlite3_column_blob(q, column);
        size_t have = data ? (size_t)sqlite3_column_bytes(q, column) : 0;
        if (filed) {
            if (sqlite3_column_type(q, 4) != SQLITE_BLOB)
                data = NULL;
            examine_file(e, id, sqlite3_column_int64(q, 5), size, file > 0 ? file : BODY_LOG, data, have);
            continue;
        }
        if (file == 0 && ((int64_t)have != size || (sqlite3_column_type(q, 4) != SQLITE_NULL &&
                                                    !sound(id, sqlite3_column_int64(q, 4), data, have))))
            found(e, false, id / BODIES, "the %s of job %" PRId64 " is damaged", body_name(id), id / BODIES);
    }
    sqlite3_finalize(q);
}

static bool log_sound(int64_t log, int64_t sum, const void *bytes, size_t size) {
    return sum == store_sum(bytes, size);
}

static void examine_sums(struct examination *e) {
    struct job_row r;
    sqlite3_stmt *q = NULL;
    int rc = sqlite3_prepare_v2(e->db, "SELECT " JOB_COLUMN_NAMES " FROM jobs", -1, &q, NULL);
    while (rc == SQLITE_OK && sqlite3_step(q) == SQLITE_ROW && e->found <= FOUND_MAX) {
        store_job_read(q, &r);
        if (r.job.damaged)
            found(e, false, (int64_t)r.job.id, "the row of job %" PRIu64 " (%s) is damaged", r.job.id, r.job.name);
    }
    sqlite3_finalize(q);
}

static void examine_rows(struct examination *e) {
    rows(e, false,
         "SELECT printf('job %d (%s) is in state %d, which there is not', id, name, state), id FROM jobs"
         " WHERE typeof(state)<>'integer' OR state NOT BETWEEN " DRAFT " AND " CANCELLED);
    rows(e, false,
         "SELECT printf('job %d (%s) is listed in %d, which there is not', id, name, shelf), id FROM jobs"
         " WHERE typeof(shelf)<>'integer' OR shelf NOT BETWEEN " IN_JOBS " AND " PART);
    rows(e, false,
         "SELECT printf('job %d is named %s, which is no name', id, quote(name)), id FROM jobs"
         " WHERE shelf<>" PART " AND (instr(name, '/') OR name IN ('', '.', '..') OR length(CAST(name AS BLOB))>255)");
    rows(e, true,
         "SELECT printf('group %d is named %s, which is no name', id, quote(name)), id FROM groups WHERE id<>0 AND"
         " (instr(name, '/') OR name IN ('', '.', '..') OR length(CAST(name AS BLOB))>255)");
    rows(e, false,
         "SELECT printf('job %d (%s) is in group %d, which there is not', id, name, grp), id FROM jobs"
         " WHERE shelf<>" PART " AND grp NOT IN (SELECT id FROM groups)");
    rows(e, true,
         "WITH RECURSIVE below(id) AS (SELECT 0 UNION SELECT groups.id FROM groups JOIN below ON parent=below.id)"
         " SELECT printf('group %d (%s) is in no directory', id, name), id FROM groups"
         " WHERE id NOT IN (SELECT id FROM below)");
    rows(e, false,
         "SELECT printf('job %d (%s) is a call of stream %d, which there is not', id, name, stream), id FROM jobs"
         " WHERE shelf=" PART
         " AND array<>id AND stream NOT IN (SELECT id FROM jobs UNION ALL SELECT stream FROM leaving)");
    rows(e, false,
         "SELECT printf('job %d (%s) is an element of array %d, which there is not', id, name, array), id FROM jobs"
         " WHERE array NOT IN (0, id) AND array NOT IN (SELECT arrays.id FROM arrays JOIN jobs USING(id))");
    examine_sums(e);
    examine_bytes(e, "SELECT id, size, file, data, sum, 0 FROM bodies", store_body_sound);
    examine_bytes(e,
                  "SELECT log, CASE typeof(data) WHEN 'integer' THEN data ELSE length(data) END, 0, data, sum, start"
                  " FROM logs WHERE typeof(data)<>'integer' OR log NOT IN (SELECT log FROM trash)",
                  log_sound);
}

static void examine(struct examination *e) {
    sqlite3_stmt *q = NULL;
    int version = -1, ours = store_schema_version();
    if (sqlite3_prepare_v2(e->db, "PRAGMA user_version", -1, &q, NULL) == SQLITE_OK && sqlite3_step(q) == SQLITE_ROW)
        version = sqlite3_column_int(q, 0);
    if (version < 0)
        found(e, NOBODY, "ppfs.db cannot be read: %s", sqlite3_errmsg(e->db));
    sqlite3_finalize(q);
    if (version < 0)
        return;
    if (version != ours) {
        found(e, NOBODY, "ppfs.db was written by %s ppfs (schema %d, this one has %d): %s",
              version > ours ? "a newer" : "an older", version, ours,
              version > ours ? "examine it with that version" : "mount it once, then examine it");
        return;
    }
    rows(e, false,
         "SELECT printf('ppfs.db: %s', integrity_check), 0 FROM pragma_integrity_check(100) WHERE "
         "integrity_check<>'ok'");
    examine_schema(e);
    examine_rows(e);
}

void store_examine_each(sqlite3 *db, const char *sql, bool group, examine_found *told, void *arg) {
    rows(&(struct examination){.db = db, .told = told, .arg = arg}, group, sql);
}

void store_examine_rows(sqlite3 *db, const char *dir, examine_found *told, void *arg) {
    examine_rows(&(struct examination){.db = db, .dir = dir, .told = told, .arg = arg});
}

int store_examine_open(const char *dir, sqlite3 **db, int *lock) {
    char path[4096];
    snprintf(path, sizeof path, "%s/lock", dir);
    *lock = open(path, O_RDONLY | O_CLOEXEC);
    if (*lock >= 0 && flock(*lock, LOCK_SH | LOCK_NB) < 0)
        return -EBUSY;
    snprintf(path, sizeof path, "%s/ppfs.db", dir);
    if (access(path, R_OK) < 0)
        return -errno;
    int rc = sqlite3_open_v2(path, db, SQLITE_OPEN_READONLY | SQLITE_OPEN_NOFOLLOW, NULL);
    sqlite3_busy_timeout(*db, LOCKED_MS);
    if (rc == SQLITE_OK) /* one that stands in a table's place may have rows without end */
        rc = sqlite3_db_config(*db, SQLITE_DBCONFIG_ENABLE_VIEW, 0, NULL);
    return rc == SQLITE_OK ? 0 : -EIO;
}

struct teller {
    examine_told *told;
    void *arg;
};

static void tell(void *arg, const char *line, bool group, int64_t id) {
    const struct teller *t = arg;
    t->told(t->arg, line);
}

int store_examine(const char *dir, examine_told *told, void *arg) {
    struct teller to = {told, arg};
    struct examination e = {.dir = dir, .told = tell, .arg = &to};
    int lock, rc = store_examine_open(dir, &e.db, &lock);
    if (rc == -EIO && e.db) {
        found(&e, NOBODY, "ppfs.db cannot be opened: %s", sqlite3_errmsg(e.db));
        rc = 0;
    } else if (rc == 0)
        examine(&e);
    sqlite3_close(e.db);
    if (lock >= 0)
        close(lock);
    if (e.found > FOUND_MAX)
        e.found = FOUND_MAX;
    return rc < 0 ? rc : (int)e.found;
}
