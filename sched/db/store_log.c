/* The write-ahead log: when it goes into the database, and the room on the disk for what it adds there. */
#include <errno.h>
#include <fcntl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "sched/db/store_int.h"

#define UNRESERVED (512 << 10)    /* bytes that the log may add with no room reserved: half of the ballast */
#define RESERVE (4 << 20)         /* bytes reserved at a time */
#define RESERVE_LEAVES (16 << 20) /* with less room on the disk only the need of the log is reserved */

static int committed(void *arg, sqlite3 *db, const char *name, int pages) {
    ((struct store *)arg)->log_pages = (unsigned)pages;
    return SQLITE_OK;
}

/* Replaces SQLite's own checkpoints, which run inside the commit that makes the log long. */
void store_checkpoint_asked(struct store *st) {
    st->page_size = store_pragma(st, "PRAGMA page_size");
    sqlite3_wal_hook(st->db, committed, st);
}

/* The salt in its header, new with each beginning. */
uint64_t store_log_id(const struct store *st) {
    uint64_t salt;
    return pread(st->wal, &salt, sizeof salt, 16) == sizeof salt ? salt : 0;
}

int64_t store_log_bytes(const struct store *st) {
    return st->log_pages * st->page_size;
}

/* Prepared once, as it runs every few commits. */
static int64_t page_count(struct store *st) {
    int64_t count = 0;
    store_integers(st, &count, 1, SQL_PAGE_COUNT);
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
    /* A filesystem without reservations has room until a write fails. */
    if (fallocate(st->file, FALLOC_FL_KEEP_SIZE, 0, size) < 0 && errno != EOPNOTSUPP && errno != ENOSYS)
        return false;
    st->reserved_bytes = size;
    return true;
}

void store_log_keep(struct store *st) {
    for (off_t size = STORE_LOG_KEPT; st->full && size >= LITTLE; size /= 2)
        if (fallocate(st->wal, FALLOC_FL_KEEP_SIZE, 0, size) == 0)
            return;
}

/* On a full disk other programs would take the room that is cut off. */
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
