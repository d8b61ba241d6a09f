/* The check for damage: on a connection of its own, in any thread. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "sched/db/store_int.h"

/* The running check: one step of SQLite, which may take minutes. */
static struct {
    pthread_mutex_t lock;
    sqlite3 *db; /* NULL: none runs */
    atomic_bool stop;
} checking = {.lock = PTHREAD_MUTEX_INITIALIZER};

static int is_stopped(void *arg) {
    return atomic_load(&checking.stop);
}

static void check_is(sqlite3 *db) {
    pthread_mutex_lock(&checking.lock);
    checking.db = db;
    pthread_mutex_unlock(&checking.lock);
}

void store_check_allow(void) {
    atomic_store(&checking.stop, false);
}

/* The progress handler sees the flag before the step begins; the step looks for the interrupt at each page. */
void store_check_stop(void) {
    pthread_mutex_lock(&checking.lock);
    atomic_store(&checking.stop, true);
    if (checking.db)
        sqlite3_interrupt(checking.db);
    pthread_mutex_unlock(&checking.lock);
}

void store_check(const char *dir, char *found, size_t size) {
    char path[4096];
    sqlite3 *db = NULL;
    sqlite3_stmt *q = NULL;
    snprintf(path, sizeof path, "%s/ppfs.db", dir);
    int rc = sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX, NULL);
    sqlite3_progress_handler(db, 1, is_stopped, NULL);
    check_is(db);
    if (rc != SQLITE_OK || sqlite3_prepare_v2(db, "PRAGMA quick_check(1)", -1, &q, NULL) != SQLITE_OK ||
        sqlite3_step(q) != SQLITE_ROW)
        snprintf(found, size, "%s", sqlite3_errmsg(db));
    else if (strcmp((const char *)sqlite3_column_text(q, 0), "ok") != 0)
        snprintf(found, size, "%s", sqlite3_column_text(q, 0));
    else
        found[0] = 0;
    for (char *c = found; (c = strchr(c, '\n'));) /* becomes part of a sentence */
        *c = ' ';
    check_is(NULL);
    if (is_stopped(NULL))
        found[0] = 0; /* it was stopped before its end */
    sqlite3_finalize(q);
    sqlite3_close(db);
}
