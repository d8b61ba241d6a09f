/* Gives room of removed jobs in the database file back to the disk, a few pages at a time. */
#include "net/clock.h"
#include "sched/db/store_int.h"

#define INCREMENTAL 2        /* value of PRAGMA auto_vacuum */
#define SLACK (2 << 20)      /* free bytes that are not worth the work: ... */
#define SLACK_LEFT (1 << 20) /* ... and so many are left for the next jobs */
/* bytes in use: a database that cannot shrink is rewritten at its opening up to that size */
#define ANEW_MAX (64 << 20)

int64_t store_bytes_free(struct store *st) {
    return (int64_t)store_pragma(st, "PRAGMA freelist_count") * store_pragma(st, "PRAGMA page_size");
}

int64_t store_bytes_used(struct store *st) {
    return (int64_t)store_pragma(st, "PRAGMA page_count") * store_pragma(st, "PRAGMA page_size") - store_bytes_free(st);
}

/* A checkpoint cuts the file. */
static bool finish(struct store *st) {
    if (st->shrinking)
        store_checkpoint(st, true);
    st->shrinking = false;
    return false;
}

/* Databases of before auto_vacuum, which is set before the first table, are rewritten once. If that fails they stay as
 * they are. */
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
    int64_t bytes = store_bytes_free(st);
    if (bytes <= (st->shrinking ? SLACK_LEFT : SLACK))
        return finish(st);
    st->shrinking = true;
    do {
        int64_t before = bytes;
        int rc = sqlite3_exec(st->db, "PRAGMA incremental_vacuum(16)", NULL, NULL, NULL);
        bytes = store_bytes_free(st);
        /* no room for the log, or another reader: tried after the next change */
        if (rc != SQLITE_OK || bytes >= before)
            return finish(st);
    } while (bytes > SLACK_LEFT && clock_us() < until);
    return true;
}
