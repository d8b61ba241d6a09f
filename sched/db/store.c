/* The connection: opening, schema and its versions, transactions, a full disk, identifiers. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sched/db/store_int.h"

#define ID_BLOCK 1000 /* identifiers reserved with one write */
#define BUSY_MS 100   /* wait for another program, again with each retry */
/* bytes: a database up to that size is checked before the mount is ready, a larger one afterwards */
#define CHECK_AT_OPEN (64 << 20)

/* Each entry takes the schema from version i to i + 1. Entries are never changed, only added, so their states and kinds
 * are the numbers that were written at that time. */
static const char *const migrations[] = {
    "CREATE TABLE meta(key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE groups(id INTEGER PRIMARY KEY, parent INTEGER, name TEXT NOT NULL, dotted INTEGER NOT NULL,"
    " hidden INTEGER NOT NULL DEFAULT 0, opening INTEGER NOT NULL DEFAULT 0, uid INTEGER NOT NULL, gid INTEGER NOT "
    "NULL,"
    " mode INTEGER NOT NULL, created INTEGER NOT NULL, request INTEGER NOT NULL, options TEXT NOT NULL DEFAULT '',"
    " active INTEGER NOT NULL DEFAULT 0, running INTEGER NOT NULL DEFAULT 0,"
    " done INTEGER NOT NULL DEFAULT 0, failed INTEGER NOT NULL DEFAULT 0, cancelled INTEGER NOT NULL DEFAULT 0);"
    "CREATE UNIQUE INDEX group_names ON groups(parent, name);"
    "CREATE INDEX group_order ON groups(parent, id);"
    "CREATE INDEX group_opening ON groups(id) WHERE opening=1;"
    "INSERT INTO groups(id, parent, name, dotted, uid, gid, mode, created, request) VALUES(0, NULL, '', 0, 0, 0, 493, "
    "0, 0);"
    "CREATE TABLE jobs(id INTEGER PRIMARY KEY, grp INTEGER NOT NULL, name TEXT NOT NULL, side INTEGER,"
    " state INTEGER NOT NULL, shelf INTEGER NOT NULL, flags INTEGER NOT NULL, kind INTEGER NOT NULL,"
    " uid INTEGER NOT NULL, gid INTEGER NOT NULL, mode INTEGER NOT NULL, priority INTEGER NOT NULL, cpus INTEGER NOT "
    "NULL,"
    " turn INTEGER NOT NULL, attempt INTEGER NOT NULL, failures INTEGER NOT NULL, deaths INTEGER NOT NULL,"
    " exit_status INTEGER NOT NULL, exit_signal INTEGER NOT NULL, error INTEGER NOT NULL,"
    " created INTEGER NOT NULL, queued INTEGER NOT NULL, started INTEGER NOT NULL, ended INTEGER NOT NULL,"
    " user_us INTEGER NOT NULL, system_us INTEGER NOT NULL, maxrss INTEGER NOT NULL, not_before INTEGER NOT NULL,"
    " request INTEGER NOT NULL, why TEXT NOT NULL, options TEXT NOT NULL DEFAULT '', cwd TEXT NOT NULL DEFAULT '');"
    /* side: 1 draft, 0 current, NULL forgotten but open (so that its name is free) */
    "CREATE UNIQUE INDEX job_names ON jobs(grp, name, side);"
    "CREATE INDEX job_shelves ON jobs(grp, shelf, id);"
    "CREATE INDEX job_ready ON jobs(priority DESC, turn, id) WHERE state=3;"
    "CREATE INDEX job_lanes ON jobs(grp, uid, priority, turn) WHERE state=3;"
    "CREATE INDEX job_due ON jobs(not_before) WHERE state=2 AND not_before<>0;"
    "CREATE INDEX job_running ON jobs(id) WHERE state=4;"
    "CREATE INDEX job_flushed ON jobs(id) WHERE state=0 AND flags=1;"
    "CREATE INDEX job_orphans ON jobs(id) WHERE shelf=4;"
    /* id = job * 8 + body */
    "CREATE TABLE bodies(id INTEGER PRIMARY KEY, size INTEGER NOT NULL, file INTEGER NOT NULL, data BLOB);"
    "CREATE TABLE deps(job INTEGER NOT NULL, dep INTEGER NOT NULL, PRIMARY KEY(job, dep)) WITHOUT ROWID;"
    "CREATE INDEX deps_on ON deps(dep);"
    "CREATE TABLE settle(dep INTEGER PRIMARY KEY, succeeded INTEGER NOT NULL, name TEXT NOT NULL);",
    /* streams */
    "ALTER TABLE jobs ADD COLUMN stream INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE jobs ADD COLUMN call INTEGER NOT NULL DEFAULT 0;"
    "CREATE INDEX job_of_stream ON jobs(stream) WHERE stream<>0;"
    "CREATE TABLE logs(id INTEGER PRIMARY KEY, log INTEGER NOT NULL, start INTEGER NOT NULL, data BLOB NOT NULL);"
    "CREATE UNIQUE INDEX log_order ON logs(log, start);"
    "CREATE TABLE trash(log INTEGER PRIMARY KEY);"
    "CREATE TABLE streams(id INTEGER PRIMARY KEY, at INTEGER NOT NULL, call INTEGER NOT NULL, line INTEGER NOT NULL, "
    "suspect INTEGER NOT NULL, deaths INTEGER NOT NULL, answered BLOB NOT NULL);"
    "CREATE TABLE functions(hash BLOB PRIMARY KEY, used INTEGER NOT NULL, data BLOB NOT NULL);",
    /* nodes; pickles (kinds 1 and 8) run only where they are understood, so queued ones have a place */
    "ALTER TABLE jobs ADD COLUMN place TEXT NOT NULL DEFAULT '';"
    "ALTER TABLE jobs ADD COLUMN node TEXT NOT NULL DEFAULT '';"
    "UPDATE jobs SET place='p' WHERE kind IN (1, 8) AND state<5;"
    "DROP INDEX job_ready;"
    "CREATE INDEX job_ready ON jobs(priority DESC, turn, id) WHERE state=3 AND place='';"
    "CREATE INDEX job_placed ON jobs(place, priority DESC, turn, id) WHERE state=3 AND place<>'';"
    "CREATE TABLE nodes(address TEXT PRIMARY KEY, state INTEGER NOT NULL, cpus INTEGER NOT NULL) WITHOUT ROWID;",
    /* turns between users come first */
    "DROP INDEX job_ready; DROP INDEX job_placed; DROP INDEX job_lanes;"
    "CREATE INDEX job_ready ON jobs(uid, priority DESC, turn, id) WHERE state=3 AND place='';"
    "CREATE INDEX job_placed ON jobs(uid, place, priority DESC, turn, id) WHERE state=3 AND place<>'';"
    "CREATE INDEX job_lanes ON jobs(uid, grp, priority, turn) WHERE state=3;",
    /* functions and values belong to a user: that of the last stream that has named them, or of the oldest unfinished
     * one */
    "CREATE TABLE named(uid INTEGER NOT NULL, hash BLOB NOT NULL, used INTEGER NOT NULL, data BLOB NOT NULL, PRIMARY "
    "KEY(uid, hash));"
    "INSERT INTO named(uid, hash, used, data) SELECT coalesce((SELECT uid FROM jobs WHERE id=used),"
    " (SELECT uid FROM jobs WHERE id=(SELECT min(id) FROM streams)), 0), hash, used, data FROM functions;"
    "DROP TABLE functions;"
    "ALTER TABLE named RENAME TO functions;"
    "CREATE INDEX function_files ON functions(data) WHERE typeof(data)='integer';",
    /* keys of nodes */
    "CREATE TABLE keys(name TEXT PRIMARY KEY, secret BLOB NOT NULL) WITHOUT ROWID;",
    /* checksums of data that are bytes; NULL: written before there were any */
    "ALTER TABLE bodies ADD COLUMN sum INTEGER; ALTER TABLE logs ADD COLUMN sum INTEGER;",
    /* groups with too many failed jobs, whose other jobs are being cancelled */
    "CREATE TABLE giving_up(grp INTEGER PRIMARY KEY, why TEXT NOT NULL);",
    /* and whose limit that is */
    "ALTER TABLE giving_up ADD COLUMN uid INTEGER NOT NULL DEFAULT 0;",
    /* turns between users in long work */
    "CREATE INDEX group_openers ON groups(uid, id) WHERE opening=1;"
    "ALTER TABLE settle ADD COLUMN uid INTEGER NOT NULL DEFAULT 0;"
    "CREATE INDEX settle_users ON settle(uid, dep);"
    "CREATE INDEX giving_up_users ON giving_up(uid, grp);",
    /* failed jobs of each user in groups with max_fails=, and users whose jobs are being cancelled (by: the owner of
     * the limit; at: the last job looked at) */
    "CREATE TABLE fails(grp INTEGER NOT NULL, uid INTEGER NOT NULL, n INTEGER NOT NULL, PRIMARY KEY(grp, uid)) "
    "WITHOUT ROWID;"
    "CREATE TABLE given_up(uid INTEGER NOT NULL, grp INTEGER NOT NULL, by INTEGER NOT NULL, at INTEGER NOT NULL,"
    " why TEXT NOT NULL, PRIMARY KEY(uid, grp)) WITHOUT ROWID;"
    "INSERT INTO given_up SELECT DISTINCT jobs.uid, g.grp, g.uid, 0, g.why FROM giving_up AS g JOIN jobs ON "
    "jobs.grp=g.grp;"
    "DROP TABLE giving_up; ALTER TABLE given_up RENAME TO giving_up;",
    /* orders for all waiting jobs of a group */
    "CREATE TABLE controlling(number INTEGER PRIMARY KEY, uid INTEGER NOT NULL, top INTEGER NOT NULL, what INTEGER NOT "
    "NULL,"
    " value INTEGER NOT NULL, grp INTEGER NOT NULL, job INTEGER NOT NULL);"
    "CREATE UNIQUE INDEX controlling_of ON controlling(uid, top, what);"
    "CREATE INDEX controlling_users ON controlling(uid, number);",
    /* arrays: of a job file with array= its group, and the cursor (next) over its elements, whose ids begin at first.
     * due: NULL, 1 to be looked at, 2 its user's quota keeps it back. Of an element, array is that job and call its
     * index. */
    "CREATE TABLE arrays(id INTEGER PRIMARY KEY, grp INTEGER NOT NULL, uid INTEGER NOT NULL, first INTEGER NOT NULL,"
    " next INTEGER NOT NULL, size INTEGER NOT NULL, due INTEGER, held INTEGER NOT NULL DEFAULT 0,"
    " list TEXT NOT NULL);"
    "CREATE INDEX array_due ON arrays(due, uid, id) WHERE due IS NOT NULL;"
    "ALTER TABLE groups ADD COLUMN array INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE jobs ADD COLUMN array INTEGER NOT NULL DEFAULT 0;"
    "CREATE INDEX job_of_array ON jobs(array, state) WHERE array<>0;",
    /* ended jobs that are to be forgotten */
    ("CREATE TABLE keeps(job INTEGER PRIMARY KEY, kind INTEGER NOT NULL, at INTEGER NOT NULL);"
     "CREATE INDEX keeps_first ON keeps(kind, at);"),
    /* an element that is no job yet is found by its id */
    "CREATE INDEX array_first ON arrays(first);",
    /* lost: an element that did not succeed was forgotten. The count of those that wait meets none that pause. */
    "ALTER TABLE arrays ADD COLUMN lost INTEGER NOT NULL DEFAULT 0;"
    "DROP INDEX job_of_array; CREATE INDEX job_of_array ON jobs(array, state, not_before) WHERE array<>0;",
    /* turns between users whose jobs pause or fit no node */
    "CREATE INDEX job_pauses ON jobs(uid, not_before) WHERE state=2 AND not_before<>0;",
    /* groups that are opening count as jobs that have not ended */
    "DROP INDEX group_opening;"
    "WITH RECURSIVE up(top, id) AS (SELECT id, id FROM groups WHERE opening=1"
    " UNION SELECT up.top, groups.parent FROM up JOIN groups USING(id) WHERE groups.parent IS NOT NULL)"
    "UPDATE groups SET active=active+(SELECT count(*) FROM up WHERE up.id=groups.id) WHERE id IN (SELECT id FROM up);",
    /* the ended jobs of --keep-results, and how many of them each user has */
    ("CREATE TABLE kept(job INTEGER PRIMARY KEY, uid INTEGER NOT NULL, ended INTEGER NOT NULL);"
     "CREATE INDEX kept_order ON kept(uid, ended);"
     "CREATE TABLE kept_counts(uid INTEGER PRIMARY KEY, n INTEGER NOT NULL);"
     "CREATE INDEX kept_most ON kept_counts(n);"
     "CREATE TRIGGER kept_more AFTER INSERT ON kept BEGIN INSERT INTO kept_counts(uid, n) VALUES(new.uid, 1)"
     " ON CONFLICT(uid) DO UPDATE SET n=n+1; END;"
     "CREATE TRIGGER kept_fewer AFTER DELETE ON kept BEGIN UPDATE kept_counts SET n=n-1 WHERE uid=old.uid; END;"),
    /* files of a group .G that will be queued, not its drafts .x: in order, and by user */
    "CREATE INDEX job_sealed ON jobs(grp, id) WHERE state=0 AND flags&4 AND substr(name, 1, 1)<>'.';"
    "CREATE INDEX job_sealers ON jobs(grp, uid) WHERE state=0 AND flags&4 AND substr(name, 1, 1)<>'.';"
    /* streams that have ended, with jobs of calls that are still to be removed */
    "CREATE TABLE leaving(stream INTEGER PRIMARY KEY);",
    /* of the columns in store_columns.h, NULL: not known */
    "ALTER TABLE jobs ADD COLUMN sum INTEGER;",
};
#define SCHEMA_VERSION ((int)(sizeof migrations / sizeof *migrations))

int store_touch(struct store *st) {
    return store_begin(st);
}

bool store_changed(const struct store *st) {
    return st->changed;
}

/* --- transactions ------------------------------------------------------------------------------------------------ */

static void ended(struct store *st) {
    st->changed = false;
    st->error = 0;
}

void store_rollback(struct store *st) {
    if (!sqlite3_get_autocommit(st->db))
        store_step(st, store_query(st, SQL_ROLLBACK));
    if (st->no_room)
        store_ballast_give(st);
    st->no_room = false;
    st->tally_count = 0;
    st->touched_count = 0;
    st->reserved = st->next_id; /* the reservation may have been rolled back with the rest */
    ended(st);
}

/* Whether the open file has lost its name or its directory: its changes would be lost at the end. */
static bool is_gone(const struct store *st) {
    char path[4096];
    struct stat db, wal;
    snprintf(path, sizeof path, "%s/ppfs.db", st->dir);
    return stat(path, &db) < 0 || db.st_dev != st->dev || db.st_ino != st->ino ||
           (st->wal >= 0 && fstat(st->wal, &wal) == 0 && !wal.st_nlink);
}

int store_commit(struct store *st) {
    int rc = st->error;
    if (rc == 0 && st->changed)
        rc = store_tally_flush(st);
    if (rc == 0 && st->changed && is_gone(st))
        rc = store_failed_by(st, -EIO, "its file was moved or removed");
    if (rc == 0 && st->changed)
        rc = store_step(st, store_query(st, SQL_COMMIT));
    if (rc < 0)
        store_rollback(st);
    ended(st);
    return rc;
}

bool store_unchecked(const struct store *st) {
    return st->unchecked;
}

/* Keeps the file locked from here on, which spares each statement a dozen locks. */
void store_checked(struct store *st) {
    st->unchecked = false;
    sqlite3_exec(st->db, "PRAGMA locking_mode=EXCLUSIVE", NULL, NULL, NULL);
    sqlite3_busy_timeout(st->db, BUSY_MS);
}

int store_wal(const struct store *st) {
    return st->wal;
}

/* --- opening ----------------------------------------------------------------------------------------------------- */

int store_schema_version(void) {
    return SCHEMA_VERSION;
}

bool store_schema(sqlite3 *db) {
    int rc = SQLITE_OK;
    for (int v = 0; v < SCHEMA_VERSION && rc == SQLITE_OK; v++)
        rc = sqlite3_exec(db, migrations[v], NULL, NULL, NULL);
    return rc == SQLITE_OK;
}

/* A transaction of its own: an interrupted migration leaves the old version. */
static int migrate(struct store *st, int version) {
    char pragma[64];
    int rc = sqlite3_exec(st->db, "BEGIN IMMEDIATE", NULL, NULL, NULL);
    for (int v = version; v < SCHEMA_VERSION && rc == SQLITE_OK; v++)
        rc = sqlite3_exec(st->db, migrations[v], NULL, NULL, NULL);
    snprintf(pragma, sizeof pragma, "PRAGMA user_version=%d", SCHEMA_VERSION);
    if (rc == SQLITE_OK)
        rc = sqlite3_exec(st->db, pragma, NULL, NULL, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_exec(st->db, "COMMIT", NULL, NULL, NULL);
    return store_errno(st, rc);
}

static int refuse(struct store *st, const char *path, const char *what, char *why, size_t why_size) {
    int code = sqlite3_errcode(st->db);
    if ((code & 0xff) == SQLITE_BUSY) {
        snprintf(why, why_size, "%s is open in another program (%s): end that, and try again", path,
                 sqlite3_errmsg(st->db));
        return -EBUSY;
    }
    if (store_finds_no_room(st, store_errno_of(st, code))) {
        snprintf(why, why_size, "%s %s, for its disk is full: make room there, and try again", path, what);
        return -ENOSPC;
    }
    snprintf(why, why_size, "%s %s (%s): move it away, or name another directory with --state", path, what,
             sqlite3_errmsg(st->db));
    return -EIO;
}

static int prepare(struct store *st, const char *path, char *why, size_t why_size) {
    static const char setup[] = "PRAGMA synchronous=NORMAL; PRAGMA temp_store=MEMORY; PRAGMA cache_size=-16384;"
                                "PRAGMA journal_size_limit=67108864; PRAGMA trusted_schema=OFF;";
    char found[256];
    sqlite3_busy_timeout(st->db, 5000);
    /* Plans must not depend on bound values, or statements would be prepared anew for each. */
    sqlite3_db_config(st->db, SQLITE_DBCONFIG_ENABLE_QPSG, 1, NULL);
    /* Both only of one without tables (store_make_shrinkable). Small pages: a file job writes 22 of them, most for one
     * short row. */
    sqlite3_exec(st->db, "PRAGMA page_size=1024; PRAGMA auto_vacuum=INCREMENTAL", NULL, NULL, NULL);
    if (sqlite3_exec(st->db, "PRAGMA journal_mode=WAL", NULL, NULL, NULL) != SQLITE_OK ||
        sqlite3_exec(st->db, setup, NULL, NULL, NULL) != SQLITE_OK)
        return refuse(st, path, "cannot be used", why, why_size);
    int version = store_pragma(st, "PRAGMA user_version");
    if (version > SCHEMA_VERSION) {
        snprintf(why, why_size, "%s was written by a newer ppfs (schema %d, this one knows %d): use that version", path,
                 version, SCHEMA_VERSION);
        return -EPROTO;
    }
    if (version < 0 || (version < SCHEMA_VERSION && migrate(st, version) < 0))
        return refuse(st, path, "cannot be brought up to date", why, why_size);
    st->unchecked = store_bytes_used(st) > CHECK_AT_OPEN;
    if (!st->unchecked) {
        store_check(st->dir, found, sizeof found);
        if (*found) {
            snprintf(why, why_size,
                     "%s is damaged (%s; ppfs --check says more): move it away, or name another directory with --state",
                     path, found);
            return -EIO;
        }
    }
    store_make_shrinkable(st);
    store_checkpoint_asked(st);
    store_recent_begin(st);
    return 0;
}

static int begin(struct store *st, const char *path, char *why, size_t why_size) {
    if (sqlite3_open_v2(path, &st->db,
                        SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_NOFOLLOW,
                        store_log_layer()) != SQLITE_OK)
        return refuse(st, path, "cannot be opened", why, why_size);
    return prepare(st, path, why, why_size);
}

/* Finds another program that has it open now, and not at the first job. */
static int take_alone(struct store *st, const char *path, char *why, size_t why_size) {
    store_checked(st);
    if (sqlite3_exec(st->db, "BEGIN IMMEDIATE; COMMIT", NULL, NULL, NULL) == SQLITE_OK)
        return 0;
    return refuse(st, path, "cannot be written", why, why_size);
}

int store_open(struct store **out, const char *dir, char *why, size_t why_size) {
    char path[4096];
    struct store *st = calloc(1, sizeof *st);
    int64_t next = 1;
    if (!st || !(st->dir = strdup(dir))) {
        free(st);
        snprintf(why, why_size, "out of memory");
        return -ENOMEM;
    }
    st->wal = st->file = -1;
    store_check_allow();
    int rc = -EIO;
    if (snprintf(path, sizeof path, "%s/ppfs.db", dir) >= (int)sizeof path - 8) {
        snprintf(why, why_size, "%s: the path is too long", dir);
        goto out;
    }
    /* SQLite would let others read it; its log gets the same mode */
    st->file = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    struct stat file = {0};
    if (st->file >= 0)
        fstat(st->file, &file);
    st->dev = file.st_dev;
    st->ino = file.st_ino;
    if (store_finds_no_room(st, -EIO)) /* SQLite would map a file that is shorter than its size */
        store_ballast_drop(st);
    rc = begin(st, path, why, why_size);
    if (rc == -ENOSPC && store_ballast_drop(st)) { /* SQLite makes two files */
        sqlite3_close(st->db);
        st->db = NULL;
        why[0] = 0;
        st->error = 0;
        rc = begin(st, path, why, why_size);
    }
    if (rc < 0)
        goto out;
    rc = store_meta_get(st, "next_id", &next);
    if (rc < 0 && rc != -ENOENT) {
        rc = refuse(st, path, "cannot be read", why, why_size);
        goto out;
    }
    st->next_id = st->reserved = (uint64_t)next;
    st->function_bytes = INT64_MAX / 2; /* not known: the first put looks */
    st->full = !store_ballast_take(st);
    if (!st->unchecked && (rc = take_alone(st, path, why, why_size)) < 0)
        goto out;
    strcat(path, "-wal");
    st->wal = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (st->wal < 0) { /* made by the first write */
        store_meta_set(st, "next_id", next);
        store_commit(st);
        st->wal = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    }
    if (st->wal < 0) {
        rc = -errno;
        snprintf(why, why_size, "%s cannot be opened: %s", path, strerror(-rc));
        goto out;
    }
    store_log_keep(st);
    *out = st;
    return 0;
out:
    store_close(st);
    return rc;
}

void store_close(struct store *st) {
    if (!st)
        return;
    if (st->changed)
        store_rollback(st);
    for (unsigned i = 0; i < SQL_STATEMENTS; i++)
        sqlite3_finalize(st->statements[i]);
    sqlite3_close(st->db);
    store_ballast_leave(st); /* from the room of the log */
    if (st->wal >= 0)
        close(st->wal);
    if (st->file >= 0)
        close(st->file);
    free(st->touched);
    free(st->dir);
    free(st);
}

/* --- identifiers and single values ------------------------------------------------------------------------------- */

int store_meta_get(struct store *st, const char *key, int64_t *value) {
    char text[32];
    int rc = store_meta_get_text(st, key, text, sizeof text);
    if (rc == 0)
        *value = strtoll(text, NULL, 10);
    return rc;
}

int store_meta_set(struct store *st, const char *key, int64_t value) {
    char text[32];
    snprintf(text, sizeof text, "%" PRId64, value);
    return store_meta_set_text(st, key, text);
}

int store_meta_get_text(struct store *st, const char *key, char *out, size_t size) {
    sqlite3_stmt *q;
    int rc = store_row(st, &q, SQL_META_GET, TEXT(key));
    if (rc < 0)
        return rc;
    store_copy(q, 0, out, size);
    store_end(q);
    return 0;
}

/* The column stores a number as one. */
int store_meta_set_text(struct store *st, const char *key, const char *value) {
    return store_run(st, SQL_META_SET, TEXT(key), TEXT(value));
}

uint64_t store_next_ids(struct store *st, uint64_t n) {
    uint64_t first = st->next_id;
    if (first + n > st->reserved) {
        if (store_meta_set(st, "next_id", (int64_t)(first + n - 1 + ID_BLOCK)) < 0)
            return 0;
        st->reserved = first + n - 1 + ID_BLOCK;
    }
    st->next_id += n;
    return first;
}

uint64_t store_next_id(struct store *st) {
    return store_next_ids(st, 1);
}
