/* The log goes into the database file, and that becomes smaller again: what removed jobs leave in it goes back to the
 * disk, a few pages at a time. */
#include <errno.h>
#include <fcntl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "net/clock.h"
#include "sched/db/store_int.h"

#define INCREMENTAL 2          /* what PRAGMA auto_vacuum says */
#define SLACK 512              /* free pages that are not worth the work: ... */
#define SLACK_LEFT 256         /* ... so many are left, for what comes next */
#define UNRESERVED (512 << 10) /* bytes that the log may add to the database with no room kept: half of the ballast */
#define RESERVE (4 << 20)      /* bytes that are reserved for the database at a time */
#define RESERVE_LEAVES (16 << 20) /* where the disk has less room no more is reserved than the log will add */
/* bytes in use up to which a database that cannot shrink is written anew when it is opened */
#define ANEW_MAX (64 << 20)

int store_pragma(struct store *st, const char *pragma) {
    sqlite3_stmt *q = NULL;
    int value = -1;
    if (sqlite3_prepare_v2(st->db, pragma, -1, &q, NULL) == SQLITE_OK && sqlite3_step(q) == SQLITE_ROW)
        value = sqlite3_column_int(q, 0);
    sqlite3_finalize(q);
    return value;
}

int64_t store_bytes_free(struct store *st) {
    return (int64_t)store_pragma(st, "PRAGMA freelist_count") * store_pragma(st, "PRAGMA page_size");
}

int64_t store_bytes_used(struct store *st) {
    return (int64_t)store_pragma(st, "PRAGMA page_count") * store_pragma(st, "PRAGMA page_size") - store_bytes_free(st);
}

static int committed(void *arg, sqlite3 *db, const char *name, int pages) {
    (void)db;
    (void)name;
    ((struct store *)arg)->log_pages = (unsigned)pages;
    return SQLITE_OK;
}

/* In place of SQLite's own, which does it inside the commit that makes the log long. */
void store_checkpoint_asked(struct store *st) {
    st->page_size = store_pragma(st, "PRAGMA page_size");
    sqlite3_wal_hook(st->db, committed, st);
}

/* The salt in its header, which SQLite makes anew with each beginning. */
uint64_t store_log_id(const struct store *st) {
    uint64_t salt;
    return pread(st->wal, &salt, sizeof salt, 16) == sizeof salt ? salt : 0;
}

unsigned store_log_pages(const struct store *st) {
    return st->log_pages;
}

/* Asked for every few commits, so prepared once. */
static int64_t page_count(struct store *st) {
    sqlite3_stmt *q = store_sql(st, 143, "PRAGMA page_count");
    int64_t count = store_step(st, q) > 0 ? sqlite3_column_int64(q, 0) : 0;
    store_end(q);
    return count;
}

bool store_reserve(struct store *st) {
    int64_t size = page_count(st) * st->page_size;
    struct stat file;
    struct statvfs disk;
    /* Not its size: pages that were free when the log was copied are holes in it. */
    if (size <= st->reserved_bytes ||
        (fstat(st->file, &file) == 0 && size <= (int64_t)file.st_blocks * 512 + (st->full ? 0 : UNRESERVED)))
        return true;
    if (fstatvfs(st->file, &disk) == 0 && (int64_t)(disk.f_bavail * disk.f_frsize) > RESERVE_LEAVES)
        size += RESERVE;
    /* A filesystem that reserves nothing has room until it says otherwise. */
    if (fallocate(st->file, FALLOC_FL_KEEP_SIZE, 0, size) < 0 && errno != EOPNOTSUPP && errno != ENOSYS)
        return false;
    st->reserved_bytes = size;
    return true;
}

/* On a full disk others would have what is cut off before the log had it back. */
static bool is_to_be_cut(const struct store *st) {
    struct stat log;
    return !st->full || fstat(st->wal, &log) < 0 || log.st_size > STORE_LOG_KEPT;
}

void store_checkpoint(struct store *st, bool cut) {
    bool cuts = cut && is_to_be_cut(st);
    int mode = cuts ? SQLITE_CHECKPOINT_TRUNCATE : SQLITE_CHECKPOINT_PASSIVE;
    st->reserved_bytes = 0; /* SQLite cuts the file behind its last page */
    if (sqlite3_wal_checkpoint_v2(st->db, NULL, mode, NULL, NULL) == SQLITE_OK && cuts) {
        st->log_pages = 0;
        store_log_keep(st);
    }
}

/* The file is cut when the log goes into it. */
static bool finish(struct store *st) {
    if (st->shrinking)
        store_checkpoint(st, true);
    st->shrinking = false;
    return false;
}

/* Those that were made before ppfs asked for it (auto_vacuum, set before the first table) are written anew, once. Where
 * that fails they stay as they are. */
void store_make_shrinkable(struct store *st) {
    if (store_pragma(st, "PRAGMA auto_vacuum") != INCREMENTAL && store_bytes_used(st) <= ANEW_MAX) {
        st->shrinking = sqlite3_exec(st->db, "VACUUM", NULL, NULL, NULL) == SQLITE_OK;
        finish(st);
    }
    st->shrinks = store_pragma(st, "PRAGMA auto_vacuum") == INCREMENTAL;
}

bool store_shrink(struct store *st, int64_t until) {
    if (!st->shrinks || st->changed)
        return false;
    int pages = store_pragma(st, "PRAGMA freelist_count");
    if (pages <= (st->shrinking ? SLACK_LEFT : SLACK))
        return finish(st);
    st->shrinking = true;
    do {
        int before = pages;
        int rc = sqlite3_exec(st->db, "PRAGMA incremental_vacuum(16)", NULL, NULL, NULL);
        pages = store_pragma(st, "PRAGMA freelist_count");
        /* no room for the log, or another program reads: after the next change */
        if (rc != SQLITE_OK || pages >= before)
            return finish(st);
    } while (pages > SLACK_LEFT && clock_us() < until);
    return true;
}
