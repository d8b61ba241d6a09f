/* Inside the store: the connection and its prepared statements. Only store*.c include this. */
#ifndef PPFS_STORE_INT_H
#define PPFS_STORE_INT_H
#include <sqlite3.h>
#include <sys/stat.h>

#include "sched/db/store.h"

/* Every statement has a number; its text stands in the file that uses it (store_jobs_sql and so on). */
#define STORE_STATEMENTS 144
#define TALLY_MAX 256 /* groups whose tally is gathered before it is written */

struct store {
    sqlite3 *db;
    char *dir;
    int wal;
    int file;               /* the database's, for its room; SQLite's locks go when it is closed */
    int64_t reserved_bytes; /* room that was kept for it since the last checkpoint */
    unsigned log_pages;
    int64_t page_size; /* bytes */
    bool changed, full, unchecked;
    bool busy;               /* another program kept a statement from its work, and no commit has succeeded since */
    bool shrinks, shrinking; /* free pages can be given back; some were, and the file is still to be cut */
    bool no_room;            /* a statement of this transaction found the disk full */
    uint64_t faults;         /* see store_faults */
    bool damaged;
    dev_t dev; /* of the file that is open ... */
    ino_t ino;
    bool gone;            /* ... which the last commit did not find under its name */
    int64_t full_checked; /* monotonic us */
    uint64_t next_id, reserved;
    int64_t function_bytes; /* put since it was last looked how many there are, and those: at most so many */
    sqlite3_stmt *statements[STORE_STATEMENTS];
    struct {
        uint64_t group;
        struct tally delta;
    } tallies[TALLY_MAX];
    size_t tally_count;
    uint64_t *touched; /* groups whose tally row changed in this transaction */
    size_t touched_count, touched_cap;
};

/* The statement, prepared on first use. NULL after an error (which is in the connection). */
sqlite3_stmt *store_sql(struct store *st, unsigned number, const char *text);
/* Begins the transaction when there is none. 0 or -errno. */
int store_begin(struct store *st);
/* Steps and resets: 0 after the last row, 1 when there is a row (not reset: call store_end), -errno. */
int store_step(struct store *st, sqlite3_stmt *q);
void store_end(sqlite3_stmt *q); /* resets and unbinds; accepts NULL */
/* Begins, steps a statement without rows to its end, resets it. */
int store_run(struct store *st, sqlite3_stmt *q);
int store_errno(struct store *st, int rc);
/* The n integers of the one row that it finds for key, its only parameter. 0 or -errno, -ENOENT; q NULL: -EIO. */
int store_ints(struct store *st, sqlite3_stmt *q, int64_t key, int64_t *out, int n);
int store_pragma(struct store *st, const char *pragma); /* its number, -1 after an error */
int64_t store_bytes_free(struct store *st);             /* of the file: that hold nothing */
int64_t store_bytes_used(struct store *st);
void store_make_shrinkable(struct store *st);  /* when it is opened */
void store_checkpoint_asked(struct store *st); /* when it is opened: no checkpoint comes by itself */
int store_tally_flush(struct store *st);
bool store_ballast_take(struct store *st);  /* false: there is no room for it */
void store_ballast_leave(struct store *st); /* where the disk is full: what there is of it, for the next start */
bool store_ballast_drop(struct store *st);  /* false: there was none */
void store_ballast_give(struct store *st);  /* while the store is open: what the log had becomes room too */
bool store_finds_no_room(const struct store *st, int rc); /* rc: -errno of what has failed */
void store_log_keep(
    struct store *st);        /* where the disk is full: the log has room for what is removed, whoever writes */
void store_check_allow(void); /* store_check runs again, after store_check_stop */

static inline void bind_text(sqlite3_stmt *q, int i, const char *text) {
    sqlite3_bind_text(q, i, text, -1, SQLITE_STATIC);
}
static inline void bind_int(sqlite3_stmt *q, int i, int64_t n) {
    sqlite3_bind_int64(q, i, n);
}
static inline void column_copy(sqlite3_stmt *q, int i, char *buf, size_t size) {
    const unsigned char *t = sqlite3_column_text(q, i);
    size_t n = t ? (size_t)sqlite3_column_bytes(q, i) : 0;
    if (n >= size)
        n = size - 1;
    for (size_t k = 0; k < n; k++)
        buf[k] = (char)t[k];
    buf[n] = 0;
}
#endif
