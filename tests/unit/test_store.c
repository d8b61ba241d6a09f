/* The store on a real database: turn about, tallies, transactions, what a second opening finds. */
#include "sched/db/store_bodies.h"
#include "sched/db/store_deps.h"
#include "sched/db/store_functions.h"
#include "sched/db/store_groups.h"
#include "sched/db/store_jobs.h"
#include "sched/db/store_nodes.h"
#include "sched/db/store_streams.h"
#include "sched/sched.h"
#include "sched/db/sums.h"
#include "tests/unit/storerig.h"

static uint64_t ready(uint64_t group, uid_t uid, int priority, const char *name) {
    struct job_row r = {
        .job = {
            .id = store_next_id(st), .group = group, .state = JOB_QUEUED, .uid = uid, .priority = priority, .cpus = 1}};
    strcpy(r.job.name, name);
    assert_int_equal(store_ready_turn(st, &r.job, &r.turn), 0);
    assert_int_equal(store_job_insert(st, &r, ""), 0);
    return r.job.id;
}

static void expect_next(uint64_t id) {
    struct job_row r;
    assert_int_equal(store_ready_head(st, 1, "", NULL, &r), 0);
    assert_int_equal(r.job.id, id);
    r.job.state = JOB_RUNNING;
    assert_int_equal(store_job_save(st, &r, SAVE_QUEUE), 0);
}

static void test_turn_about(void **state) {
    uint64_t a1 = ready(0, 1, 0, "a1"), a2 = ready(0, 1, 0, "a2"), a3 = ready(0, 1, 0, "a3");
    uint64_t b1 = ready(7, 1, 0, "b1"), b2 = ready(7, 1, 0, "b2"), high = ready(0, 1, 9, "high");
    uint64_t other = ready(0, 2, 99, "other"); /* of another user: not in this order at all */
    expect_next(high);
    expect_next(a1);
    expect_next(b1);
    expect_next(a2);
    uint64_t c1 = ready(8, 1, 0, "c1"); /* a newcomer has no credit for the time it was not there, and no debt */
    expect_next(b2);
    expect_next(c1);
    expect_next(a3);
    struct job_row r;
    assert_int_equal(store_ready_head(st, 1, "", NULL, &r), -ENOENT);
    uid_t uid = 0;
    assert_int_equal(store_ready_user(st, -1, &uid), 0);
    assert_int_equal(uid, 2);
    assert_int_equal(store_ready_user(st, uid, &uid), -ENOENT);
    assert_int_equal(store_ready_head(st, 2, "", NULL, &r), 0);
    assert_int_equal(r.job.id, other);
}

/* Long work of users is done in turn, whoever has more or older of it. */
static void test_long_work_in_turn(void **state) {
    const uid_t of[] = {5, 5, 5, 9};
    const int64_t turns[] = {5, 9, 5, 9};
    int64_t settling = -1, opening = -1, giving_up = -1;
    uint64_t id, groups[4];
    bool succeeded;
    char name[JOB_NAME_MAX + 1];
    struct giving_up g;
    for (uint64_t i = 0; i < 4; i++) {
        struct group g = {.id = store_next_id(st), .uid = of[i]};
        struct job j = {.id = 100 + i, .uid = of[i]};
        snprintf(g.name, sizeof g.name, "g%d", (int)i);
        groups[i] = g.id;
        assert_int_equal(store_group_insert(st, &g), 0);
        assert_int_equal(store_group_set_opening(st, g.id, true), 0);
        assert_int_equal(store_give_up(st, g.id, of[i], "why"), 0);
        assert_int_equal(store_settle_add(st, &j, true), 0);
    }
    for (int i = 0; i < 4; i++) {
        assert_int_equal(store_settle_next(st, &settling, &id, &succeeded, name), 0);
        assert_true(settling == turns[i] && id == (turns[i] == 5 ? 100 : 103));
        assert_int_equal(store_group_next_opener(st, &opening, &id), 0);
        assert_true(opening == turns[i] && id == groups[turns[i] == 5 ? 0 : 3]);
        assert_int_equal(store_giving_up(st, &giving_up, &g), 0);
        assert_true(giving_up == turns[i] && g.group == groups[turns[i] == 5 ? 0 : 3]);
    }
}

static void set_place(uint64_t id, const char *place) {
    struct job_row r;
    assert_int_equal(store_job_get(st, id, &r), 0);
    strcpy(r.place, place);
    assert_int_equal(store_job_save(st, &r, SAVE_QUEUE), 0);
}

/* A ready queue for each constraint, each in its own order; that of those that run anywhere does not see the others. */
static void test_places(void **state) {
    uint64_t a1 = ready(0, 1, 0, "a1"), p1 = ready(0, 1, 0, "p1"), p2 = ready(0, 1, 5, "p2"), g1 = ready(0, 1, 0, "g1"),
             p3 = ready(0, 1, 0, "p3");
    char place[CONSTRAINT_MAX] = "";
    struct job_row r;
    assert_int_equal(store_ready_place(st, 1, place), -ENOENT);
    set_place(p1, "p");
    set_place(p2, "p");
    set_place(p3, "p");
    set_place(g1, "-gpu*");
    assert_int_equal(store_ready_head(st, 1, "p", NULL, &r), 0);
    assert_int_equal(r.job.id, p2);
    assert_string_equal(r.place, "p");
    assert_int_equal(store_ready_head(st, 1, "p", &r, &r), 0);
    assert_int_equal(r.job.id, p1);
    assert_int_equal(store_ready_head(st, 1, "p", &r, &r), 0);
    assert_int_equal(r.job.id, p3);
    assert_int_equal(store_ready_head(st, 1, "p", &r, &r), -ENOENT);
    assert_int_equal(store_ready_place(st, 1, place), 0);
    assert_string_equal(place, "-gpu*");
    assert_int_equal(store_ready_place(st, 1, place), 0);
    assert_string_equal(place, "p");
    assert_int_equal(store_ready_place(st, 1, place), -ENOENT);
    expect_next(a1);
    assert_int_equal(store_ready_head(st, 1, "", NULL, &r), -ENOENT);
}

static void test_nodes(void **state) {
    char address[NODE_NAME_MAX + 1] = "";
    int kept, cpus;
    assert_int_equal(store_node_next(st, address, &kept, &cpus), -ENOENT);
    assert_int_equal(store_node_put(st, "b:2", NODE_UP, -1), 0);
    assert_int_equal(store_node_put(st, "a:1", NODE_UP, -1), 0);
    assert_int_equal(store_node_put(st, "a:1", NODE_DRAIN, 7), 0);
    assert_int_equal(store_node_next(st, address, &kept, &cpus), 0);
    assert_string_equal(address, "a:1");
    assert_int_equal(kept, NODE_DRAIN);
    assert_int_equal(cpus, 7);
    assert_int_equal(store_node_delete(st, "b:2"), 0);
    assert_int_equal(store_node_next(st, address, &kept, &cpus), -ENOENT);
    assert_int_equal(store_node_get(st, "b:2", &kept, &cpus), -ENOENT);
    assert_int_equal(store_node_get(st, "a:1", &kept, &cpus), 0);
}

static void test_rollback_and_reopen(void **state) {
    uint64_t kept = ready(0, 1, 0, "kept");
    assert_int_equal(store_commit(st), 0);
    uint64_t lost = ready(0, 1, 0, "lost");
    store_rollback(st);
    struct job_row r;
    assert_int_equal(store_job_get(st, lost, &r), -ENOENT);
    store_close(st);
    assert_int_equal(store_open(&st, dir, why, sizeof why), 0);
    assert_int_equal(store_job_get(st, kept, &r), 0);
    assert_string_equal(r.job.name, "kept");
    assert_true(store_next_id(st) > kept);
}

static void test_names_are_one(void **state) {
    struct job_row r = {.job = {.id = 7, .state = JOB_DRAFT, .draft = true, .name = "x"}};
    assert_int_equal(store_job_insert(st, &r, ""), 0);
    r.job.id = 8;
    assert_int_equal(store_job_insert(st, &r, ""), -EEXIST);
    r.job.draft = false;
    assert_int_equal(store_job_insert(st, &r, ""), 0);
}

/* What failed first is what the commit refuses for, whoever looked; the next transaction knows nothing of it. */
static void test_a_transaction_in_which_something_failed_is_not_committed(void **state) {
    struct job_row r = {.job = {.id = 7, .name = "x"}}, got;
    assert_int_equal(store_job_insert(st, &r, ""), 0);
    assert_int_equal(store_failed(st), 0);
    assert_int_equal(store_job_insert(st, &r, ""), -EEXIST);
    store_fail(st, -ENOMEM);
    assert_int_equal(store_failed(st), -EEXIST);
    assert_int_equal(store_commit(st), -EEXIST);
    assert_non_null(strstr(store_error(st), "UNIQUE"));
    assert_int_equal(store_failed(st), 0);
    assert_int_equal(store_job_get(st, 7, &got), -ENOENT);
    assert_int_equal(store_job_insert(st, &r, ""), 0);
    assert_int_equal(store_commit(st), 0);
    assert_int_equal(store_fail(st, -EIO), -EIO); /* where nothing has changed, too */
    assert_int_equal(store_commit(st), -EIO);
    assert_int_equal(store_job_get(st, 7, &got), 0);
}

/* Each form of save writes its columns, and no other. */
static void test_a_row_is_saved(void **state) {
    struct job_row got, r = {.job = {.id = 7,
                                     .group = 1,
                                     .name = "a",
                                     .state = JOB_WAITING,
                                     .cpus = 3,
                                     .created = 11,
                                     .flushed = true,
                                     .maxrss_kib = 12,
                                     .why = "because",
                                     .node = "n"},
                             .turn = 5,
                             .place = "p",
                             .stream = 8,
                             .call = 9,
                             .copy = true};
    assert_int_equal(store_job_insert(st, &r, "/"), 0);
    assert_int_equal(store_job_get(st, 7, &got), 0);
    assert_memory_equal(&r, &got, sizeof r);
    r = (struct job_row){
        .job = {.id = 7, .name = "b", .state = JOB_DONE, .shelf = SHELF_RESULTS, .node = "m"}, .stream = 8, .call = 9};
    r.job.created = 11;
    assert_int_equal(store_job_save(st, &r, 0), 0);
    assert_int_equal(store_job_get(st, 7, &got), 0);
    assert_string_equal(got.job.node, "m");
    assert_int_equal(got.job.cpus, 0);
    assert_string_equal(got.job.name, "a");
    assert_int_equal(got.job.state, JOB_WAITING);
    assert_int_equal(got.job.shelf, SHELF_JOBS);
    assert_true(got.job.damaged); /* the row is another than the caller has */
    assert_int_equal(store_job_save(st, &r, SAVE_NAME | SAVE_SHELF | SAVE_QUEUE), 0);
    assert_int_equal(store_job_get(st, 7, &got), 0);
    assert_memory_equal(&r, &got, sizeof r);
}

static void test_tallies(void **state) {
    struct group g = {.id = store_next_id(st), .parent = 0, .name = "G"},
                 h = {.id = store_next_id(st), .parent = g.id, .name = "H"};
    struct tally t;
    assert_int_equal(store_group_insert(st, &g), 0);
    assert_int_equal(store_group_insert(st, &h), 0);
    assert_int_equal(store_tally_add(st, h.id, &(struct tally){.active = 3}), 0);
    assert_int_equal(store_tally_add(st, h.id, &(struct tally){.active = (uint64_t)-1, .done = 1}), 0);
    assert_int_equal(store_tally_get(st, 0, &t), 0);
    assert_int_equal(t.active, 2);
    assert_int_equal(t.done, 1);
    assert_int_equal(store_tally_get(st, g.id, &t), 0);
    assert_int_equal(t.active, 2);
}

static void test_dependencies(void **state) {
    assert_int_equal(store_dep_add(st, 2, 0, 1, &(int){DEP_LOOKS}), 0);
    assert_int_equal(store_dep_add(st, 3, 0, 2, &(int){DEP_LOOKS}), 0);
    assert_int_equal(store_dep_add(st, 1, 0, 3, &(int){DEP_LOOKS}), -ELOOP);
    assert_int_equal(store_dep_add(st, 9, 1, 3, &(int){DEP_LOOKS}), -ELOOP); /* a call of 1 */
    assert_int_equal(store_dep_add(st, 1, 0, 4, &(int){0}), -E2BIG);
    assert_true(store_dep_any(st, 1));
    uint64_t id;
    assert_int_equal(store_settle_jobs(st, 1, &id, 1), 1);
    assert_int_equal(id, 2);
    assert_false(store_dep_any(st, 1));
}

static void test_bodies(void **state) {
    char buf[8];
    struct body b;
    assert_int_equal(store_body_put(st, 5, BODY_SPEC, "hello", 5), 0);
    assert_int_equal(store_body_read(st, 5, BODY_SPEC, buf, sizeof buf, 3), 2);
    assert_memory_equal(buf, "lo", 2);
    assert_int_equal(store_body_read(st, 5, BODY_SPEC, buf, sizeof buf, 99), 0);
    assert_int_equal(store_body_get(st, 5, BODY_RESULT, &b), -ENOENT);
    assert_int_equal(store_bodies_delete(st, 5, BODY_SPEC), 0);
    assert_int_equal(store_body_get(st, 5, BODY_SPEC, &b), -ENOENT);
}

static void expect_log(uint64_t offset, size_t want, const char *text, size_t in_file) {
    char buf[16];
    size_t filed;
    struct part part;
    assert_int_equal(store_log_read(st, 7, BODY_RESULT, buf, want, offset, &filed, &part), strlen(text));
    assert_memory_equal(buf, text, strlen(text));
    assert_int_equal(filed, in_file);
}

/* Rows, a piece that stands in the file, a row: 0 "abc" 3 "de" 5 [100] 105 "fg" 107. */
static void test_logs(void **state) {
    assert_int_equal(store_log_size(st, 7, BODY_RESULT), 0);
    assert_int_equal(store_log_append(st, 7, BODY_RESULT, 0, "abc", 3), 0);
    assert_int_equal(store_log_append(st, 7, BODY_RESULT, 3, "de", 2), 0);
    assert_int_equal(store_log_append_file(st, 7, BODY_RESULT, 5, 100, NULL), 0);
    assert_int_equal(store_log_size(st, 7, BODY_RESULT), 105);
    assert_int_equal(store_log_append(st, 7, BODY_RESULT, 105, "fg", 2), 0);
    assert_int_equal(store_log_append(st, 7, BODY_STDOUT, 0, "other", 5), 0);
    assert_int_equal(store_log_size(st, 7, BODY_RESULT), 107);
    expect_log(0, 16, "abcde", 0);
    expect_log(1, 3, "bcd", 0);
    expect_log(5, 16, "", 16);
    expect_log(100, 16, "", 5);
    expect_log(104, 16, "", 1);
    expect_log(105, 16, "fg", 0);
    expect_log(107, 16, "", 0);
    assert_int_equal(store_log_append(st, 7, BODY_RESULT, 105, "xx", 2), -EEXIST);
}

static int have(void *arg, const void *bytes, size_t size) {
    *(size_t *)arg = size;
    return 0;
}

enum { OWNER = 7, OTHER };

static bool kept(uint8_t name) {
    uint8_t hash[32] = {name};
    size_t size = 0;
    uint64_t body;
    int rc = store_function_get(st, OWNER, hash, have, &size, &body);
    assert_true(rc == -ENOENT || (rc == 0 && (body ? size == 0 && body == 1000u + name : size == 100)));
    return rc == 0;
}

static uint64_t dropped; /* the sum of the bodies that were dropped */

/* Odd ones are bodies of an id that has no job. */
static void name_function(uint8_t name, uint64_t stream, int64_t keep) {
    uint8_t hash[32] = {name};
    char bytes[100] = {0};
    uint64_t bodies[FUNCTION_SLICE], body = name % 2 ? 1000u + name : 0;
    int known = store_function_named(st, OWNER, hash, stream), n;
    assert_in_range(known, 0, 1);
    if (!known && body)
        assert_int_equal(store_body_put_file(st, body, BODY_SPEC, sizeof bytes, 1, NULL), 0);
    if (!known)
        assert_int_equal(store_function_put(st, OWNER, hash, stream, body ? NULL : bytes, sizeof bytes, body), 0);
    assert_in_range(n = store_functions_evict(st, keep, false, bodies), 0, FUNCTION_SLICE - 1);
    for (int i = 0; i < n; i++) {
        dropped += bodies[i];
        if (bodies[i])
            assert_int_equal(store_bodies_delete(st, bodies[i], BODY_SPEC), 0);
    }
}

/* Of more than is kept the least recently named go, but none that an unfinished stream may need. */
static void begin_stream(uint64_t id, uid_t uid) {
    struct stream_row row = {0};
    struct job_row r = {.job = {.id = id, .state = JOB_RUNNING, .uid = uid}};
    snprintf(r.job.name, sizeof r.job.name, "s%d", (int)id);
    assert_int_equal(store_job_insert(st, &r, ""), 0);
    assert_int_equal(store_stream_put(st, id, &row, &(const struct buffer){0}), 0);
}

static void test_functions(void **state) {
    for (uint8_t i = 1; i <= 8; i++)
        name_function(i, i, 800);
    name_function(1, 9, 800); /* named again: the newest now */
    for (uint8_t i = 1; i <= 8; i++)
        assert_true(kept(i));
    name_function(10, 10, 800);
    assert_true(kept(10) && kept(1) && kept(8) && kept(7) && kept(6) && kept(5));
    assert_false(kept(2) || kept(3) || kept(4));
    assert_int_equal(dropped, 1003);

    begin_stream(5, OTHER); /* keeps nothing of others */
    begin_stream(6, OWNER); /* has not ended */
    for (uint8_t i = 11; i <= 40; i++)
        name_function(i, i, 800);
    assert_false(kept(5));
    for (uint8_t i = 11; i <= 40; i++)
        assert_true(kept(i));
    assert_true(kept(6) && kept(7) && kept(1) && kept(10));
    assert_int_equal(store_stream_delete(st, 6), 0);
    for (uint8_t i = 41; i <= 50; i++)
        name_function(i, i, 800);
    assert_false(kept(6) || kept(10) || kept(40));
    assert_true(kept(50) && kept(49));

    assert_int_equal(store_commit(st), 0);
    store_close(st);
    assert_int_equal(store_open(&st, dir, why, sizeof why), 0);
    name_function(60, 60, 300); /* a new daemon looks how much there is */
    assert_true(kept(60) && kept(50));
    assert_false(kept(48) || kept(47));
}

/* Two streams that have not ended have named it. When the older one did so last, and ends, the other may still need it.
 * */
static void test_functions_of_two_streams(void **state) {
    begin_stream(3, OWNER);
    begin_stream(7, OWNER);
    name_function(2, 7, 800);
    name_function(2, 3, 800);
    assert_int_equal(store_stream_delete(st, 3), 0);
    for (uint8_t i = 11; i <= 40; i++)
        name_function(i, i, 800);
    assert_true(kept(2));
}

/* A body goes with the last who has it. */
static void test_functions_of_two_users(void **state) {
    uint8_t hash[32] = {3};
    uint64_t body, bodies[FUNCTION_SLICE];
    size_t size;
    name_function(3, 3, 800);
    assert_int_equal(store_function_get(st, OTHER, hash, have, &size, &body), -ENOENT);
    assert_int_equal(store_function_named(st, OTHER, hash, 9), 0);
    assert_int_equal(store_function_put(st, OTHER, hash, 3, NULL, 100, 1003), 0); /* as earlier versions shared it */
    assert_int_equal(store_function_get(st, OTHER, hash, have, &size, &body), 0);
    assert_int_equal(body, 1003);
    assert_int_equal(store_function_named(st, OTHER, hash, 9), 1);
    assert_int_equal(store_functions_evict(st, 150, false, bodies), 1); /* the owner's, who has named it longer ago */
    assert_int_equal(bodies[0], 0);
    assert_false(kept(3));
    assert_int_equal(store_functions_evict(st, 0, false, bodies), 1);
    assert_int_equal(bodies[0], 1003);
}

/* A header that is damaged is refused with a sentence, not used. */
static void test_damaged(void **state) {
    char path[128];
    store_close(st);
    st = NULL;
    snprintf(path, sizeof path, "%s/ppfs.db", dir);
    FILE *f = fopen(path, "r+");
    fputs("this is no database, it only stands where one was", f);
    fclose(f);
    assert_true(store_open(&st, dir, why, sizeof why) < 0);
    assert_non_null(strstr(why, "move it away"));
}

/* What a check that was stopped has seen by then says nothing. */
static void test_a_check_is_stopped(void **state) {
    char path[128], found[256], page[4096];
    store_close(st);
    st = NULL;
    store_check(dir, found, sizeof found);
    assert_string_equal(found, "");
    snprintf(path, sizeof path, "%s/ppfs.db", dir);
    FILE *f = fopen(path, "r+");
    memset(page, 0x55, sizeof page);
    fseek(f, sizeof page, SEEK_SET);
    fwrite(page, sizeof page, 1, f);
    fclose(f);
    store_check(dir, found, sizeof found);
    assert_string_not_equal(found, "");
    store_check_stop();
    store_check(dir, found, sizeof found);
    assert_string_equal(found, "");
    assert_true(store_open(&st, dir, why, sizeof why) < 0); /* another beginning, another check */
    assert_non_null(strstr(why, "damaged"));
}

/* No commit waits for the disk: the log goes into the database when it is told to, and begins anew after that. */
static void test_a_checkpoint_is_asked_for(void **state) {
    int64_t before = 0;
    for (int i = 0; i < 3000; i++) {
        assert_int_equal(store_meta_set(st, "x", i), 0);
        assert_int_equal(store_commit(st), 0);
        assert_true(store_log_bytes(st) > before);
        before = store_log_bytes(st);
    }
    store_checkpoint(st, false);
    store_meta_set(st, "x", 7);
    assert_int_equal(store_commit(st), 0);
    assert_in_range(store_log_bytes(st), 1, 10 << 10);
}

/* A job that is written and removed again: seven tables and indices, two commits. */
static void test_a_small_job_is_few_bytes_of_the_log(void **state) {
    int64_t before = store_log_bytes(st);
    for (int i = 0; i < 100; i++) {
        struct job_row r = {.job = {.id = store_next_id(st), .name = "small", .state = JOB_QUEUED, .uid = 1}};
        uint64_t id = r.job.id;
        assert_int_equal(store_job_insert(st, &r, ""), 0);
        assert_int_equal(store_body_put(st, id, BODY_SPEC, "x", 1), 0);
        assert_int_equal(store_commit(st), 0);
        assert_int_equal(store_bodies_delete(st, id, BODY_SPEC), 0);
        assert_int_equal(store_job_delete(st, id), 0);
        assert_int_equal(store_commit(st), 0);
    }
    assert_in_range(store_log_bytes(st) - before, 1, 100 * (14 << 10));
}

/* What was synced of a log says nothing of the one that has begun in its place. */
static void test_a_log_is_told_from_the_one_before(void **state) {
    uint64_t seen[4];
    for (int i = 0; i < 4; i++) {
        for (int j = 0; j < 3; j++) {
            assert_int_equal(store_meta_set(st, "x", 10 * i + j), 0);
            assert_int_equal(store_commit(st), 0);
            if (j)
                assert_true(store_log_id(st) == seen[i]);
            assert_true((seen[i] = store_log_id(st)) != 0);
        }
        for (int j = 0; j < i; j++)
            assert_true(seen[i] != seen[j]);
        store_checkpoint(st, i % 2);
    }
    assert_true(store_log_id(st) == 0); /* it was emptied */
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {TEST(test_turn_about),
                                       TEST(test_long_work_in_turn),
                                       TEST(test_places),
                                       TEST(test_nodes),
                                       TEST(test_rollback_and_reopen),
                                       TEST(test_names_are_one),
                                       TEST(test_a_transaction_in_which_something_failed_is_not_committed),
                                       TEST(test_a_row_is_saved),
                                       TEST(test_tallies),
                                       TEST(test_dependencies),
                                       TEST(test_bodies),
                                       TEST(test_logs),
                                       TEST(test_functions),
                                       TEST(test_functions_of_two_streams),
                                       TEST(test_functions_of_two_users),
                                       TEST(test_damaged),
                                       TEST(test_a_check_is_stopped),
                                       TEST(test_a_checkpoint_is_asked_for),
                                       TEST(test_a_small_job_is_few_bytes_of_the_log),
                                       TEST(test_a_log_is_told_from_the_one_before)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
