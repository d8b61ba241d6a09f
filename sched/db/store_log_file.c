/* The write-ahead log as a file: a commit is one write, where SQLite writes twice for each page. Unwritten bytes belong
 * to no commit that has returned. And the database as a file: a checkpoint writes neighbouring pages together.
 */
#include <stdlib.h>
#include <string.h>

#include "sched/db/store_int.h"

#define FRAME_HEADER 24     /* bytes before each page, as SQLite's file format has it */
#define PAGES_AFTER 4       /* where in it: how many pages the database has after this commit; 0: it goes on */
#define GATHERED (64 << 10) /* bytes of one write: SQLite's own write no more than its largest page */

struct log_file { /* behind the struct of SQLite's own layer */
    const sqlite3_io_methods *disk;
    sqlite3_io_methods methods;
    enum { ANY, PAGE, LAST_PAGE } next; /* the expected next write */
    int size;                           /* bytes gathered ... */
    sqlite3_int64 at;                   /* ... that go here */
    sqlite3_int64 end;                  /* end of the last write, -1: another operation came since */
    bool copying;                       /* the database: inside a checkpoint */
    int failed;                         /* of gathered pages in it, until SQLite is told ... */
    bool stays;                         /* ... or for good, as it did not ask */
    char *bytes;
};

static sqlite3_vfs layer, *disk;

static struct log_file *of(sqlite3_file *f) {
    return (struct log_file *)((char *)f + disk->szOsFile);
}

static int let_go(sqlite3_file *f) {
    struct log_file *l = of(f);
    int size = l->size;
    l->size = 0;
    l->next = ANY;
    l->end = -1;
    return size ? l->disk->xWrite(f, l->bytes, size, l->at) : SQLITE_OK;
}

static bool is_commit(const void *header) {
    return memcmp((const char *)header + PAGES_AFTER, "\0\0\0\0", 4) != 0;
}

/* Whether the page follows. SQLite writes a header alone for a page that it changes again in the log, after reading
 * it. */
static bool is_followed(const struct log_file *l, int size, sqlite3_int64 at) {
    return size == FRAME_HEADER && l->next == ANY && at == l->end;
}

/* Gathers frames of a commit; any other write happens at once. */
static int on_write(sqlite3_file *f, const void *bytes, int size, sqlite3_int64 at) {
    struct log_file *l = of(f);
    bool header = is_followed(l, size, at), page = l->next == PAGE;
    if (l->size && (at != l->at + l->size || l->size + size > GATHERED)) {
        int rc = let_go(f);
        if (rc != SQLITE_OK)
            return rc;
    }
    if (size > GATHERED)
        return l->disk->xWrite(f, bytes, size, at);
    if (!l->size)
        l->at = at;
    memcpy(l->bytes + l->size, bytes, (size_t)size);
    l->size += size;
    l->next = ANY;
    if (header)
        l->next = is_commit(bytes) ? LAST_PAGE : PAGE;
    int rc = header || page ? SQLITE_OK : let_go(f);
    l->end = rc == SQLITE_OK ? at + size : -1;
    return rc;
}

static int on_read(sqlite3_file *f, void *bytes, int size, sqlite3_int64 at) {
    int rc = of(f)->failed ? of(f)->failed : let_go(f);
    return rc == SQLITE_OK ? of(f)->disk->xRead(f, bytes, size, at) : rc;
}

static int on_truncate(sqlite3_file *f, sqlite3_int64 size) {
    int rc = let_go(f);
    return rc == SQLITE_OK ? of(f)->disk->xTruncate(f, size) : rc;
}

static int on_sync(sqlite3_file *f, int flags) {
    int rc = let_go(f);
    return rc == SQLITE_OK ? of(f)->disk->xSync(f, flags) : rc;
}

static int on_size(sqlite3_file *f, sqlite3_int64 *size) {
    int rc = let_go(f);
    return rc == SQLITE_OK ? of(f)->disk->xFileSize(f, size) : rc;
}

/* Drops gathered pages, which belong to a rolled back transaction. */
static int on_close(sqlite3_file *f) {
    free(of(f)->bytes);
    return of(f)->disk->xClose(f);
}

static int on_page(sqlite3_file *f, const void *bytes, int size, sqlite3_int64 at) {
    struct log_file *l = of(f);
    if (l->size && (!l->copying || at != l->at + l->size || l->size + size > GATHERED)) {
        int rc = let_go(f);
        if (rc != SQLITE_OK)
            return rc;
    }
    if (!l->copying || size > GATHERED)
        return l->disk->xWrite(f, bytes, size, at);
    l->at = l->size ? l->at : at;
    memcpy(l->bytes + l->size, bytes, (size_t)size);
    l->size += size;
    return SQLITE_OK;
}

/* SQLite does not ask how the end of the copying went, but cuts the file then, which fails. Should it not, as where a
 * reader is behind: the error stays, and with it the log, and nothing is read of pages that may be old. */
static int on_control(sqlite3_file *f, int what, void *arg) {
    struct log_file *l = of(f);
    int rc = let_go(f);
    if (rc != SQLITE_OK)
        l->failed = rc;
    l->stays |= what == SQLITE_FCNTL_CKPT_START && l->failed != SQLITE_OK;
    if (what == SQLITE_FCNTL_CKPT_START || what == SQLITE_FCNTL_CKPT_DONE)
        l->copying = what == SQLITE_FCNTL_CKPT_START;
    return l->disk->xFileControl(f, what, arg);
}

static int on_truncate_copy(sqlite3_file *f, sqlite3_int64 size) {
    struct log_file *l = of(f);
    int failed = l->failed;
    if (!l->stays)
        l->failed = SQLITE_OK;
    return failed == SQLITE_OK ? on_truncate(f, size) : failed;
}

static int on_open(sqlite3_vfs *v, const char *path, sqlite3_file *f, int flags, int *opened) {
    struct log_file *l = of(f);
    int rc = disk->xOpen(disk, path, f, flags, opened);
    if (rc != SQLITE_OK || !(flags & (SQLITE_OPEN_WAL | SQLITE_OPEN_MAIN_DB)))
        return rc;
    *l = (struct log_file){.disk = f->pMethods, .methods = *f->pMethods, .end = -1, .bytes = malloc(GATHERED)};
    if (!l->bytes) {
        f->pMethods->xClose(f);
        f->pMethods = NULL;
        return SQLITE_NOMEM;
    }
    l->methods.xClose = on_close;
    l->methods.xRead = on_read;
    l->methods.xWrite = on_write;
    l->methods.xTruncate = on_truncate;
    l->methods.xSync = on_sync;
    l->methods.xFileSize = on_size;
    if (flags & SQLITE_OPEN_MAIN_DB) {
        l->methods.xWrite = on_page;
        l->methods.xTruncate = on_truncate_copy;
        l->methods.xFileControl = on_control;
    }
    f->pMethods = &l->methods;
    return SQLITE_OK;
}

const char *store_log_layer(void) {
    if (disk)
        return layer.zName;
    disk = sqlite3_vfs_find(NULL);
    layer = *disk;
    layer.zName = "ppfs";
    layer.szOsFile = disk->szOsFile + (int)sizeof(struct log_file);
    layer.xOpen = on_open;
    return sqlite3_vfs_register(&layer, 0) == SQLITE_OK ? layer.zName : NULL;
}
