/* What the store counts of each user, after anything that may be done: as it is when counted anew. */
#include "sched/db/store_bodies.h"
#include "sched/db/store_functions.h"
#include "sched/db/store_groups.h"
#include "sched/db/store_jobs.h"
#include "sched/db/store_streams.h"
#include "sched/db/store_users.h"
#include "tests/unit/storerig.h"

#define USERS 3
#define MADE 64

static void do_something(uint64_t ids[MADE]) {
    static const uint64_t groups[] = {0, 7};
    int at = rand() % MADE;
    struct job_row r;
    char bytes[700] = "";
    uint64_t *id = &ids[at];
    bool there = *id && store_job_get(st, *id, &r) == 0;
    enum job_body b = rand() % 5;
    if (!there) {
        r = (struct job_row){.job = {.id = *id = store_next_id(st),
                                     .group = groups[at % 2],
                                     .uid = (uid_t)(rand() % USERS),
                                     .cpus = 1,
                                     .flushed = rand() % 2}};
        snprintf(r.job.name, sizeof r.job.name, "n%" PRIu64, *id);
        r.job.draft = true;
        if (rand() % 4 == 0)
            r.job.shelf = SHELF_PART;
        assert_int_equal(store_job_insert(st, &r, ""), 0);
        return;
    }
    switch (rand() % 9) {
    case 0: assert_int_equal(store_body_put(st, *id, b, bytes, (size_t)rand() % sizeof bytes), 0); break;
    case 1: assert_int_equal(store_body_put_file(st, *id, b, rand() % 100000, 1, NULL), 0); break;
    case 2: assert_int_equal(store_body_resize(st, *id, b, rand() % 100000), 0); break;
    case 3: assert_int_equal(store_bodies_delete(st, *id, b), 0); break;
    case 4:
        if (store_log_size(st, *id, BODY_RESULT) == 0)
            assert_int_equal(store_body_put_file(st, *id, BODY_RESULT, 0, BODY_LOG, NULL), 0);
        if (rand() % 2)
            assert_int_equal(store_log_append(st, *id, BODY_RESULT, store_log_size(st, *id, BODY_RESULT), bytes,
                                              1 + (size_t)rand() % 600),
                             0);
        else
            assert_int_equal(store_log_append_file(st, *id, BODY_RESULT, store_log_size(st, *id, BODY_RESULT),
                                                   1 + (size_t)rand() % 600, NULL),
                             0);
        break;
    case 5:
        r.job.uid = (uid_t)(rand() % USERS);
        assert_int_equal(store_job_save(st, &r, SAVE_NAME | (rand() % 2 ? SAVE_QUEUE : 0)), 0);
        break;
    case 6:
        r.job.flushed = rand() % 2;
        r.sealed = rand() % 2;
        r.job.state = rand() % JOB_STATES;
        r.job.shelf = rand() % SHELVES;
        assert_int_equal(store_job_save(st, &r, SAVE_QUEUE | SAVE_SHELF), 0);
        break;
    case 7:
        assert_int_equal(store_bodies_delete(st, *id, BODY_SPEC), 0);
        assert_int_equal(store_job_delete(st, *id), 0);
        break;
    default: assert_int_equal(store_body_put(st, ids[(at + 1) % MADE], BODY_SPEC, "xx", 2), 0);
    }
}

static void test_counts_are_as_counted_anew(void **state) {
    struct user_counts kept[USERS], counted;
    uint64_t ids[MADE] = {0};
    srand(5);
    assert_int_equal(store_count_users(st), 0);
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < 200; i++)
            do_something(ids);
        struct group g = {.id = store_next_id(st), .name = {(char)('a' + round)}, .uid = (uid_t)(round % USERS)};
        assert_int_equal(store_group_insert(st, &g), 0);
        if (round % 3 == 1) {
            g.uid = (uid_t)(rand() % USERS);
            assert_int_equal(store_group_save(st, &g), 0);
        } else if (round % 3 == 2) {
            assert_int_equal(store_group_delete(st, g.id), 0);
        }
        if (round % 4 == 3)
            store_rollback(st);
        else
            assert_int_equal(store_commit(st), 0);
        uint8_t hash[32] = {(uint8_t)round};
        g.id = store_next_id(st); /* of a function, with no job */
        assert_int_equal(store_body_put_file(st, g.id, BODY_SPEC, 1000 + round, 1, NULL), 0);
        assert_int_equal(store_function_put(st, (uid_t)(round % USERS), hash, 0, NULL, 0, g.id), 0);
        assert_int_equal(store_commit(st), 0);
        for (uid_t uid = 0; uid < USERS; uid++)
            assert_int_equal(store_user_counts(st, uid, &kept[uid]), 0);
        store_close(st);
        assert_int_equal(store_open(&st, dir, why, sizeof why), 0);
        assert_int_equal(store_count_users(st), 0);
        for (uid_t uid = 0; uid < USERS; uid++) {
            assert_int_equal(store_user_counts(st, uid, &counted), 0);
            assert_int_equal(kept[uid].drafts, counted.drafts);
            assert_int_equal(kept[uid].jobs, counted.jobs);
            assert_int_equal(kept[uid].bytes, counted.bytes);
            assert_int_equal(kept[uid].kept, counted.kept);
            assert_true(counted.bytes > 0 && counted.jobs > 0 && counted.drafts > 0);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_counts_are_as_counted_anew, setup, teardown)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
