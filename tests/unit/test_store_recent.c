/* Rows that are kept in memory: what is read is what the database has, whatever changed it, and costs no statement
 * while nothing did. */
#include <dlfcn.h>

#include "sched/db/store_bodies.h"
#include "sched/db/store_jobs.h"
#include "tests/unit/storerig.h"

#define JOBS 200 /* more than are kept, so that several have one place */

static uint64_t steps; /* of SQLite */
int sqlite3_step(void *statement);
int sqlite3_step(void *statement) {
    int (*next)(void *);
    *(void **)&next = dlsym(RTLD_NEXT, "sqlite3_step");
    steps++;
    return next(statement);
}

static struct model {
    struct job_row row; /* id 0: it is not there */
    int64_t size;       /* of its body, -1: none */
} now[JOBS], committed[JOBS];

static void name_it(struct job_row *r) {
    snprintf(r->job.name, sizeof r->job.name, "j%" PRIu64 "-%d", r->job.id, rand() % 1000);
}

static void expect_same(const struct model *m, uint64_t id) {
    struct job_row r = {0};
    struct body b = {0};
    assert_int_equal(store_job_get(st, id, &r), m->row.job.id ? 0 : -ENOENT);
    assert_int_equal(store_body_get(st, id, BODY_SPEC, &b), m->size >= 0 ? 0 : -ENOENT);
    assert_true(m->size < 0 || b.size == m->size);
    if (!m->row.job.id)
        return;
    assert_string_equal(r.job.name, m->row.job.name);
    assert_int_equal(r.job.priority, m->row.job.priority);
    assert_int_equal(r.job.not_before, m->row.job.not_before);
    assert_int_equal(r.job.shelf, m->row.job.shelf);
    int found = store_job_find(st, 0, m->row.job.name, false, &r);
    assert_int_equal(found, m->row.job.shelf == SHELF_ORPHAN ? -ENOENT : 0);
    assert_true(found || r.job.id == id);
}

static void change(struct model *m, uint64_t id) {
    struct job_row *r = &m->row;
    char old[sizeof r->job.name], bytes[100] = "";
    strcpy(old, r->job.name);
    if (!r->job.id) {
        *r = (struct job_row){.job = {.id = id, .state = JOB_WAITING, .not_before = 1 + rand() % 100}};
        name_it(r);
        assert_int_equal(store_job_insert(st, r, ""), 0);
    } else if (rand() % 4 == 0) {
        assert_int_equal(store_job_delete(st, id), 0);
        *r = (struct job_row){0};
    } else if (rand() % 2) {
        name_it(r);
        r->job.shelf = rand() % 3 ? SHELF_JOBS : SHELF_ORPHAN;
        assert_int_equal(store_job_save(st, r, SAVE_NAME | SAVE_SHELF), 0);
    } else {
        r->job.priority = rand() % 100;
        assert_int_equal(store_job_save(st, r, SAVE_QUEUE), 0);
    }
    struct job_row found;
    if (*old && strcmp(old, r->job.name) != 0)
        assert_int_equal(store_job_find(st, 0, old, false, &found), -ENOENT);
    m->size = rand() % 3 ? rand() % 100 : -1;
    if (m->size >= 0)
        assert_int_equal(store_body_put(st, id, BODY_SPEC, bytes, (size_t)m->size), 0);
    else
        assert_int_equal(store_bodies_delete(st, id, BODY_SPEC), 0);
}

static void all_due_by(int64_t latest) {
    assert_true(store_due_by(st, latest) >= 0);
    for (struct model *m = now; m < now + JOBS; m++)
        if (m->row.job.id && m->row.job.not_before > latest)
            m->row.job.not_before = latest;
}

static void test_what_is_read_is_what_is_there(void **state) {
    srand(7);
    for (int i = 0; i < JOBS; i++)
        now[i].size = committed[i].size = -1;
    for (int round = 0; round < 400; round++) {
        for (int i = 0; i < 20; i++) {
            int at = rand() % JOBS;
            if (rand() % 2)
                change(&now[at], (uint64_t)at + 1);
            expect_same(&now[at], (uint64_t)at + 1);
            expect_same(&now[at], (uint64_t)at + 1);
        }
        if (rand() % 5 == 0)
            all_due_by(1 + rand() % 100);
        bool back = rand() % 3 == 0;
        if (back)
            store_rollback(st);
        else
            assert_int_equal(store_commit(st), 0);
        memcpy(back ? now : committed, back ? committed : now, sizeof now);
        for (int i = 0; i < JOBS; i++)
            expect_same(&now[i], (uint64_t)i + 1);
    }
}

static void test_a_row_is_read_once(void **state) {
    struct job_row r = {.job = {.id = store_next_id(st), .state = JOB_QUEUED, .name = "x"}};
    struct body b;
    assert_int_equal(store_job_insert(st, &r, ""), 0);
    assert_int_equal(store_body_put(st, r.job.id, BODY_SPEC, "x", 1), 0);
    assert_int_equal(store_commit(st), 0);
    uint64_t before = steps;
    for (int i = 0; i < 10; i++) {
        assert_int_equal(store_job_get(st, r.job.id, &r), 0);
        assert_int_equal(store_job_find(st, 0, "x", false, &r), 0);
        assert_int_equal(store_body_get(st, r.job.id, BODY_SPEC, &b), 0);
    }
    assert_in_range(steps - before, 1, 2);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {TEST(test_what_is_read_is_what_is_there), TEST(test_a_row_is_read_once)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
