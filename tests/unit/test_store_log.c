/* The database's log as a crash or a bad disk may leave it: cut, or with a bit that is another, at every page of it.
 * What was committed before that place is there, nothing behind it is, and the database can be opened. */
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "sched/db/store_int.h"
#include "tests/unit/storerig.h"

#define COMMITS 8
#define PAGE 1024
#define HEADER 32         /* bytes of the log before its first page ... */
#define FRAME (24 + PAGE) /* ... and of each of them */
#define LARGE (64 << 10)  /* bytes of a body */
#define MANY 400          /* such bodies: more than SQLite keeps in memory before it writes them */
#define UNCUT ((off_t)1 << 40)

static int writes;            /* of SQLite */
static off_t full_at = UNCUT; /* what lies behind this in a file finds the disk full */
ssize_t pwrite64(int fd, const void *bytes, size_t size, off_t at);
ssize_t pwrite64(int fd, const void *bytes, size_t size, off_t at) {
    ssize_t (*next)(int, const void *, size_t, off_t);
    *(void **)&next = dlsym(RTLD_NEXT, "pwrite64");
    errno = ENOSPC;
    writes++;
    return at + (off_t)size > full_at ? -1 : next(fd, bytes, size, at);
}

static uint64_t jobs[COMMITS];
static off_t ends[COMMITS]; /* of the log after each commit */
static char copy_dir[80];

static uint64_t add(const char *name) {
    struct job_row r = {.job = {.id = store_next_id(st), .state = JOB_QUEUED, .uid = 1, .cpus = 1}};
    snprintf(r.job.name, sizeof r.job.name, "%s", name);
    assert_int_equal(store_job_insert(st, &r, ""), 0);
    return r.job.id;
}

static void commit_some(const char *prefix) {
    for (int i = 0; i < COMMITS; i++) {
        char name[32];
        snprintf(name, sizeof name, "%s%d", prefix, i);
        jobs[i] = add(name);
        assert_int_equal(store_body_put(st, jobs[i], BODY_SPEC, name, strlen(name)), 0);
        assert_int_equal(store_commit(st), 0);
        ends[i] = HEADER + store_log_bytes(st) / PAGE * FRAME;
    }
}

static void copy(const char *name, off_t size, off_t flip) {
    char from[128], to[128], bytes[1 << 16];
    snprintf(from, sizeof from, "%s/%s", dir, name);
    snprintf(to, sizeof to, "%s/%s", copy_dir, name);
    int in = open(from, O_RDONLY | O_CLOEXEC), out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(in >= 0 && out >= 0);
    off_t at = 0;
    for (ssize_t n; at < size && (n = read(in, bytes, sizeof bytes)) > 0; at += n) {
        n = n < size - at ? n : (ssize_t)(size - at);
        if (flip >= at && flip < at + n)
            bytes[flip - at] ^= 1 << (flip % 8);
        assert_int_equal(write(out, bytes, (size_t)n), n);
    }
    close(in);
    close(out);
}

/* As ppfs finds the files when all of its processes were killed here. */
static struct store *open_copy(off_t size, off_t flip) {
    struct store *found = NULL;
    char command[128];
    snprintf(copy_dir, sizeof copy_dir, "%s/copy", dir);
    snprintf(command, sizeof command, "rm -rf %s", copy_dir);
    assert_int_equal(system(command), 0);
    assert_int_equal(mkdir(copy_dir, 0700), 0);
    copy("ppfs.db", UNCUT, -1);
    copy("ppfs.db-wal", size, flip);
    if (store_open(&found, copy_dir, why, sizeof why) < 0)
        fail_msg("cut to %lld, flipped %lld: %s", (long long)size, (long long)flip, why);
    return found;
}

static void expect_until(off_t size, off_t flip) {
    off_t sound = flip >= 0 ? flip : size;
    struct store *found = open_copy(size, flip);
    for (int i = 0; i < COMMITS; i++) {
        struct job_row r;
        int rc = store_job_get(found, jobs[i], &r);
        if (rc != (ends[i] <= sound ? 0 : -ENOENT))
            fail_msg("cut to %lld, flipped %lld: commit %d, which ends at %lld, %s", (long long)size, (long long)flip,
                     i, (long long)ends[i], rc ? "is not there" : "is there");
    }
    store_close(found);
}

static void expect_everywhere(void) {
    for (off_t at = HEADER; at <= ends[COMMITS - 1]; at += FRAME) {
        expect_until(at, -1);
        expect_until(at - 1, -1);
        expect_until(at + 24 + at % PAGE, -1);
        if (at < ends[COMMITS - 1]) {
            expect_until(UNCUT, at + at / FRAME % 24);
            expect_until(UNCUT, at + 24 + at % PAGE);
        }
    }
    expect_until(0, -1);
    for (off_t at = 0; at < HEADER; at += 4)
        expect_until(UNCUT, at);
    expect_until(UNCUT, -1);
}

static void test_a_log_that_is_cut(void **state) {
    store_checkpoint(st, true);
    commit_some("a");
    expect_everywhere();
}

/* Its end is followed by what it had before it was begun anew. */
static void test_a_log_with_old_pages_behind(void **state) {
    commit_some("a");
    commit_some("b");
    off_t longest = ends[COMMITS - 1];
    store_checkpoint(st, false);
    commit_some("c");
    assert_true(ends[COMMITS - 1] < longest);
    expect_everywhere();
}

static void put_large(uint64_t job, char fill) {
    static char bytes[LARGE];
    memset(bytes, fill, sizeof bytes);
    assert_int_equal(store_body_put(st, job, BODY_SPEC, bytes, sizeof bytes), 0);
}

static void expect_large(struct store *in, const uint64_t *many, int count, char fill) {
    static char bytes[LARGE];
    for (int i = 0; i < count; i++) {
        assert_int_equal(store_body_read(in, many[i], BODY_SPEC, bytes, sizeof bytes, 0), sizeof bytes);
        assert_true(bytes[0] == fill && bytes[LARGE - 1] == fill);
    }
}

/* Pages that went to the log within their transaction, and are changed again in it, are all there once it is committed;
 * nothing of it is there when it is taken back. */
static void test_more_than_is_kept_in_memory(void **state) {
    uint64_t many[MANY];
    store_checkpoint(st, true);
    commit_some("first"); /* SQLite asks for the log's size after the first commit of a new log alone */
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < MANY; i++) {
            char name[32];
            snprintf(name, sizeof name, "r%d-%d", round, i);
            many[i] = add(name);
            put_large(many[i], 'a');
            if (i % 50 == 0)
                expect_large(st, many, i + 1, 'a'); /* while they go to the log */
        }
        for (int i = 0; i < MANY; i++)
            put_large(many[i], 'b');
        if (round == 0)
            store_rollback(st);
    }
    assert_int_equal(store_commit(st), 0);
    struct store *found = open_copy(UNCUT, -1);
    expect_large(found, many, MANY, 'b');
    store_close(found);
}

/* Bytes of the database with what the log has: its last page says so. */
static off_t size_at_last(void) {
    unsigned char pages[4];
    char path[128];
    snprintf(path, sizeof path, "%s/ppfs.db-wal", dir);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_int_equal(pread(fd, pages, 4, HEADER + store_log_bytes(st) / PAGE * FRAME - FRAME + 4), 4);
    close(fd);
    return (off_t)(pages[0] << 24 | pages[1] << 16 | pages[2] << 8 | pages[3]) * PAGE;
}

/* Wherever a checkpoint meets a full disk, at its last page as well: nothing is lost; the next one copies it all. */
static void test_a_checkpoint_writes_pages_together_and_may_fail_anywhere(void **state) {
    uint64_t many[20];
    for (int round = 0; round < 20; round++) {
        char fill = (char)('a' + round);
        for (int i = 0; i < 20; i++) {
            char name[32];
            snprintf(name, sizeof name, "c%d-%d", round, i);
            many[i] = add(name);
            put_large(many[i], fill);
        }
        assert_int_equal(store_commit(st), 0);
        full_at = size_at_last() - 1 - round * LARGE;
        store_checkpoint(st, false);
        full_at = UNCUT;
        struct store *found = open_copy(UNCUT, -1);
        expect_large(found, many, 20, fill);
        store_close(found);
        writes = 0;
        store_checkpoint(st, false);
        assert_in_range(writes, 10, store_log_bytes(st) / PAGE / 8);
        found = open_copy(0, -1); /* the database alone */
        expect_large(found, many, 20, fill);
        store_close(found);
    }
}

static sqlite3 *other_database(const char *layer, const char *sql) {
    char path[96];
    sqlite3 *db;
    snprintf(path, sizeof path, "%s/other.db", dir);
    assert_int_equal(sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, layer), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    return db;
}

static int value_of(sqlite3 *db, char value[8]) {
    sqlite3_stmt *q = NULL;
    int rc = sqlite3_prepare_v2(db, "SELECT a FROM t", -1, &q, NULL);
    if (rc == SQLITE_OK && (rc = sqlite3_step(q)) == SQLITE_ROW)
        snprintf(value, 8, "%s", (const char *)sqlite3_column_text(q, 0));
    sqlite3_finalize(q);
    return rc;
}

/* SQLite then does not ask whether all was written. */
static void test_a_checkpoint_that_fails_while_a_reader_is_behind(void **state) {
    char value[8];
    sqlite3 *db = other_database(store_log_layer(), "PRAGMA page_size=1024; PRAGMA journal_mode=WAL;"
                                                    "PRAGMA wal_autocheckpoint=0; CREATE TABLE t(a);"
                                                    "INSERT INTO t VALUES('old'); PRAGMA wal_checkpoint;"
                                                    "UPDATE t SET a='new'");
    sqlite3 *reader = other_database(NULL, "BEGIN; SELECT * FROM t");
    assert_int_equal(sqlite3_exec(db, "CREATE TABLE u(a)", NULL, NULL, NULL), SQLITE_OK);
    full_at = PAGE;
    sqlite3_exec(db, "PRAGMA wal_checkpoint", NULL, NULL, NULL);
    full_at = UNCUT;
    sqlite3_db_release_memory(db);
    assert_true(value_of(db, value) != SQLITE_ROW || strcmp(value, "new") == 0);
    sqlite3_close(reader);
    sqlite3_close(db);
    db = other_database(NULL, "");
    assert_int_equal(value_of(db, value), SQLITE_ROW);
    assert_string_equal(value, "new");
    sqlite3_close(db);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_log_that_is_cut, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_log_with_old_pages_behind, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_checkpoint_writes_pages_together_and_may_fail_anywhere, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_checkpoint_that_fails_while_a_reader_is_behind, setup, teardown),
        cmocka_unit_test_setup_teardown(test_more_than_is_kept_in_memory, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
