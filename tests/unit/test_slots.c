/* Leases over hosts that are simulated here: what crosses on a long way, and how much is looked at for one call. The
 * scheduler and its database are real. Needs $PPFS_WORKER. */
#include "net/clock.h"
#include "net/session/frame.h"
#include "sched/leases/state.h"
#include "tests/unit/fakehosts.h"

/* --- what crosses ------------------------------------------------------------------------------------------------ */

static void call_frame(uint64_t job, uint64_t id) {
    char body[64] = {1, 0, 0, 0}; /* by hash */
    memset(body + 4, 'h', 32);
    append(job, FRAME_CALL, id, body, 44);
}

/* Two calls, one of them (or both) cancelled some ticks later; the calls after it are answered all the same. */
static void cross(struct fake *fake, const char *kinds, unsigned after, unsigned which) {
    char magic[FRAME_MAGIC_SIZE], name[32];
    static unsigned count;
    memcpy(magic, FRAME_MAGIC, sizeof magic);
    magic[FRAME_PORTABLE_AT] = 1;
    snprintf(name, sizeof name, "x%u", count++);
    script = kinds;
    uint64_t job = begin(name, magic, sizeof magic);
    tick();
    call_frame(job, 1);
    call_frame(job, 2);
    for (unsigned i = 0; i < after; i++)
        tick();
    if (which & 1)
        append(job, FRAME_CANCEL, 1, "", 0);
    if (which & 2)
        append(job, FRAME_CANCEL, 2, "", 0);
    tick();
    call_frame(job, 3);
    struct stream *st = stream_find(s, job);
    assert_non_null(st);
    for (int i = 0; i < 200 && (st->next_call < 3 || st->row.call < st->next_call); i++)
        tick();
    if (st->row.call != 3)
        fail_msg("answers %s, cancelled %u after %u ticks: %llu of 3 are answered", kinds, which, after,
                 (unsigned long long)st->row.call);
    if (!strchr(kinds, 'e') && fake->h.failed)
        fail_msg("answers %s, cancelled %u after %u ticks: a call failed that nobody cancelled", kinds, which, after);
    fake->h.failed = 0;
    assert_int_equal(sched_cancel(s, job, getuid()), 0);
    for (int i = 0; i < 10; i++)
        tick();
}

static void test_every_answer_crosses_every_cancel(void **state) {
    static const char *const scripts[] = {"v", "e", "nv", "pv", "npv", "ppe", "ne", "........v", "n........v"};
    struct fake *f = add_host(1, 100);
    delay = 3;
    for (size_t i = 0; i < sizeof scripts / sizeof *scripts; i++)
        for (unsigned after = 0; after < 24; after++)
            for (unsigned which = 1; which <= 3; which++)
                cross(f, scripts[i], after, which);
    for (int i = 0; i < 20; i++)
        tick();
    assert_int_equal(f->h.used, 0);
    assert_int_equal(f->h.idle, 0);
    assert_int_equal(s->leases->calls_sent, 0);
    assert_int_equal(s->leases->count, 0);
}

/* --- parts ------------------------------------------------------------------------------------------------------- */

static int parts_of(uint64_t stream) {
    uint64_t ids[8];
    return store_ids(s->store, SET_PARTS, (int64_t)stream, 0, ids, 8);
}

/* After a commit that failed a stream is not in memory for a second. */
static void test_a_stream_that_is_not_in_memory_takes_its_parts_along(void **state) {
    char magic[FRAME_MAGIC_SIZE];
    static const char body[] = "\0\0\x0e\0{\"hold\": true}\x80\x04)}\x86.";
    memcpy(magic, FRAME_MAGIC, sizeof magic);
    magic[FRAME_PORTABLE_AT] = 1;
    add_host(1, 100);
    uint64_t job = begin("parts", magic, sizeof magic);
    tick();
    append(job, FRAME_CALL, 1, body, sizeof body - 1);
    for (int i = 0; i < 5; i++)
        tick();
    assert_int_equal(parts_of(job), 1);
    stream_rolled_back(s);
    assert_null(stream_find(s, job));
    assert_int_equal(sched_cancel(s, job, getuid()), 0);
    assert_int_equal(parts_of(job), 0);
}

static void count_live(const void *node, VISIT visit, void *n) {
    const struct run *r = *(struct run *const *)node;
    *(unsigned *)n += (visit == postorder || visit == leaf) && r->stream && r->fate != FATE_DROPPED;
}

static unsigned live_parts(void) {
    unsigned n = 0;
    run_each(s, count_live, &n);
    return n;
}

static unsigned all_parts_of(uint64_t stream) {
    uint64_t ids[512];
    int n = store_ids(s->store, SET_PARTS, (int64_t)stream, 0, ids, 512);
    assert_true(n >= 0);
    return (unsigned)n;
}

/* Its jobs go in slices. Meanwhile none of them runs, or begins. */
static void test_a_stream_with_many_parts_is_removed_in_slices(void **state) {
    char magic[FRAME_MAGIC_SIZE];
    static const char body[] = "\0\0\x0e\0{\"retries\": 9}\x80\x04)}\x86.";
    memcpy(magic, FRAME_MAGIC, sizeof magic);
    magic[FRAME_PORTABLE_AT] = 1;
    add_host(2, 100);
    uint64_t job = begin("parts", magic, sizeof magic);
    tick();
    for (uint64_t id = 1; id <= 400; id++)
        append(job, FRAME_CALL, id, body, sizeof body - 1);
    tick();
    assert_in_range(all_parts_of(job), 1, 128); /* nor are they made in one turn */
    while (all_parts_of(job) < 350)             /* some have ended */
        tick();
    assert_in_range(live_parts(), 1, 2);
    int64_t slice = s->slice_us;
    s->slice_us = -1;
    assert_int_equal(sched_cancel(s, job, getuid()), 0);
    unsigned left = all_parts_of(job), before;
    assert_in_range(left, 250, 399);
    assert_int_equal(live_parts(), 0);
    for (before = left; left > 100; before = left) {
        tick();
        left = all_parts_of(job);
        assert_in_range(left, before - 64, before - 1);
        assert_int_equal(live_parts(), 0);
    }
    s->slice_us = slice;
    assert_true(tick_in_vain()); /* it has removed them all, and nothing of that was kept */
    assert_int_equal(all_parts_of(job), left);
    for (int i = 0; i < 10; i++)
        tick();
    assert_int_equal(all_parts_of(job), 0);
    assert_false(s->leaving);
}

/* Of calls with options {"hold": true}, with those ids. Returns the stream. */
static uint64_t begin_held(unsigned count, bool same_id) {
    char magic[FRAME_MAGIC_SIZE];
    static const char body[] = "\0\0\x0e\0{\"hold\": true}\x80\x04)}\x86.";
    memcpy(magic, FRAME_MAGIC, sizeof magic);
    magic[FRAME_PORTABLE_AT] = 1;
    add_host(1, 100);
    uint64_t job = begin("held", magic, sizeof magic);
    tick();
    for (uint64_t id = 1; id <= count; id++)
        append(job, FRAME_CALL, same_id ? 7 : id, body, sizeof body - 1);
    for (int i = 0; i < 20 && all_parts_of(job) < count; i++)
        tick();
    assert_int_equal(all_parts_of(job), count);
    return job;
}

static void test_calls_that_are_held_at_the_end_fail_in_slices(void **state) {
    struct job j;
    uint64_t job = begin_held(400, false);
    unsigned left = 400, before;
    open_for_writing = false;
    assert_int_equal(sched_flush(s, job, 0, false, false, NULL, NULL), 0);
    sched_release(s, job);
    do {
        before = left;
        tick();
        left = all_parts_of(job);
        assert_in_range(left, before > 64 ? before - 64 : 0, before ? before - 1 : 0);
    } while (left);
    for (int i = 0; i < 3; i++)
        tick();
    assert_int_equal(sched_job(s, job, &j), 0);
    assert_int_equal(j.state, JOB_DONE);
}

static void test_calls_of_one_id_are_not_all_cancelled_at_once(void **state) {
    uint64_t job = begin_held(400, true);
    append(job, FRAME_CANCEL, 7, "", 0);
    tick();
    assert_in_range(all_parts_of(job), 400 - 65, 399);
}

/* --- commits that fail ------------------------------------------------------------------------------------------- */

static void test_an_end_counts_once_however_often_it_is_written(void **state) {
    static const char text[] = "{\"call\": \"m.f\"}";
    struct fake *f = add_host(1, 100);
    struct job j;
    uint64_t job = begin("job", text, sizeof text - 1);
    open_for_writing = false;
    assert_int_equal(sched_flush(s, job, 0, false, false, NULL, NULL), 0);
    sched_release(s, job);
    tick();
    for (int i = 0; i < 5; i++)
        tick_in_vain();
    assert_int_equal(sched_job(s, job, &j), 0);
    assert_int_equal(j.state, JOB_RUNNING);
    assert_int_equal(f->h.done, 0);
    tick();
    assert_int_equal(sched_job(s, job, &j), 0);
    assert_int_equal(j.state, JOB_DONE);
    assert_int_equal(f->h.done, 1);
    assert_int_equal(f->h.run_us, JOB_US);
    unsigned known = estimate_known(s, &j);
    assert_false(estimate_sure(&f->h, known)); /* it has run once */
    assert_true(estimate_us(&f->h, known) > JOB_US - 1);
}

static void test_what_was_answered_is_not_run_again(void **state) {
    char magic[FRAME_MAGIC_SIZE];
    struct fake *f = add_host(2, 100);
    unsigned vain = 0;
    memcpy(magic, FRAME_MAGIC, sizeof magic);
    magic[FRAME_PORTABLE_AT] = 1;
    uint64_t frames = begin("frames", magic, sizeof magic), json = lines("lines.jsonl", 12), before = answered;
    tick();
    for (uint64_t id = 1; id <= 12; id++)
        call_frame(frames, id);
    tick();
    for (int i = 0; i < 60; i++) /* a disk that is full: what changes nothing is committed all the same */
        if (i % 16 == 15)
            tick();
        else
            vain += tick_in_vain();
    for (int i = 0; i < 40; i++)
        tick();
    assert_non_null(stream_find(s, frames));
    assert_int_equal(stream_find(s, frames)->row.call, 12);
    assert_int_equal(stream_find(s, json)->row.call, 12);
    assert_true(vain > 10);
    /* A call that runs while a commit fails is killed with its lease, and runs again; those had not answered. */
    assert_int_equal(answered - before, 24);
    assert_int_equal(f->h.done, 24);
}

/* As an older ppfs wrote down which calls are answered. */
static void test_a_bit_a_call(void **state) {
    char magic[FRAME_MAGIC_SIZE], bits[] = "\xaa\x0a";
    struct buffer kept = {bits, 2, 2};
    struct stream_row row = {.at = FRAME_MAGIC_SIZE};
    memcpy(magic, FRAME_MAGIC, sizeof magic);
    magic[FRAME_PORTABLE_AT] = 1;
    struct fake *f = add_host(1, 100);
    uint64_t job = begin("old", magic, sizeof magic), before = answered;
    tick();
    f->h.cpus = 0;
    for (uint64_t id = 1; id <= 12; id++)
        call_frame(job, id);
    assert_int_equal(store_stream_put(s->store, job, &row, &kept), 0);
    tick();
    assert_int_equal(store_stream_put(s->store, job, &row, &kept), 0);
    assert_int_equal(sched_commit(s), 0);
    stream_rolled_back(s);
    f->h.cpus = 1;
    host_changed(&f->h);
    assert_int_equal(stream_recover(s, false), 0);
    for (int i = 0; i < 40; i++)
        tick();
    assert_int_equal(answered - before, 6);
    assert_int_equal(stream_find(s, job)->row.call, 12);
}

static void count_busy(struct fake *f) {
    for (unsigned i = 0; i < 16; i++)
        answered += f->slots[i].current != 0;
}

static void test_a_stream_fills_all_slots(void **state) {
    static char dots[2048];
    memset(dots, '.', sizeof dots - 1);
    script = dots;
    unsigned slots = 0;
    for (; slots < 10000; slots += 16)
        add_host(16, 100);
    lines("long.jsonl", slots);
    uint64_t busy = 0;
    for (int i = 0; i < 1000 && busy < slots; i++) {
        tick();
        answered = 0;
        each_fake(count_busy);
        busy = answered;
    }
    assert_int_equal(busy, slots);
}

/* --- how much is looked at --------------------------------------------------------------------------------------- */

static unsigned function;

static void note_speed(struct fake *f) {
    estimate_note(&f->h, function, f->us, 32);
    estimate_note(&f->h, function, f->us, 32);
}

static uint64_t most; /* steps of one turn */

static void turn_counted(void) {
    uint64_t before = s->steps;
    tick();
    most = s->steps - before > most ? s->steps - before : most;
    each_fake(note_speed);
}

/* Steps for a call that nobody else is beside. */
static double one_by_one(uint64_t job) {
    const char line[] = "{\"call\": \"m.f\"}\n";
    uint64_t before = s->steps;
    for (unsigned i = 0; i < 100; i++) {
        uint64_t done = answered;
        assert_int_equal(sched_write(s, job, line, sizeof line - 1, (uint64_t)stream_find(s, job)->in_size, NULL, NULL),
                         0);
        for (unsigned n = 0; n < 1000 && answered == done; n++)
            turn_counted();
        assert_int_equal(answered, done + 1);
    }
    return (double)(s->steps - before) / 100;
}

/* Two streams of one function, one after the other, on hosts of two speeds. Returns the steps for a call of the second.
 * */
static double steps_a_call(unsigned hosts, double *single) {
    unsigned calls = hosts * 2 * 20;
    for (unsigned i = 0; i < hosts; i++)
        add_host(2, i % 2 ? 1000 : 40000);
    function = estimate_function(s, estimate_key_text("m.f", 3));
    each_fake(note_speed);
    uint64_t first = lines("first.jsonl", calls), done = answered;
    for (unsigned i = 0; i < 4000 && answered - done < calls; i++)
        turn_counted();
    assert_int_equal(answered - done, calls);
    uint64_t second = lines("second.jsonl", calls), before = s->steps;
    done = answered;
    for (unsigned i = 0; i < 4000 && answered - done < calls; i++)
        turn_counted();
    assert_int_equal(answered - done, calls);
    before = s->steps - before;
    *single = one_by_one(second);
    assert_int_equal(sched_cancel(s, first, getuid()), 0);
    assert_int_equal(sched_cancel(s, second, getuid()), 0);
    for (int i = 0; i < 10; i++)
        tick();
    return (double)before / calls;
}

static double few, few_single;

static void test_steps_on_ten_hosts(void **state) {
    few = steps_a_call(10, &few_single);
    assert_true(few > 0);
}

static void test_steps_on_a_thousand_hosts(void **state) {
    most = 0;
    double single, many = steps_a_call(1000, &single);
    printf(
        "# %.1f steps for a call on 10 hosts, %.1f on 1000; %.1f and %.1f for one alone; the longest turn took %llu\n",
        few, many, few_single, single, (unsigned long long)most);
    assert_true(many < few * 1.25);
    assert_true(single < few_single * 1.25);
    assert_true(most < 30000); /* with two thousand leases, that come and go */
}

static uint64_t page[32];
static unsigned page_count;

static bool on_page(void *arg, const char *name, uint64_t id) {
    assert_int_equal(id, sched_node_id(name));
    page[page_count++] = id;
    return page_count < 32;
}

/* As `ls -l nodes` does: page after page of names, then a look at each. Returns the steps for a node. */
static double steps_a_look(unsigned hosts) {
    unsigned listed = 0;
    while (s->hosts->count < hosts)
        add_host(1, 100);
    uint64_t before = s->steps, after = 0, id;
    struct node n;
    do {
        page_count = 0;
        sched_page_nodes(s, after, on_page, NULL);
        for (unsigned i = 0; i < page_count; i++) {
            assert_true(page[i] > after);
            after = page[i];
            assert_int_equal(sched_node(s, after, 0, &n), 0);
            assert_int_equal(sched_find_node(s, n.name, &id), 0);
            assert_int_equal(id, after);
        }
        listed += page_count;
    } while (page_count == 32);
    assert_int_equal(listed, hosts);
    assert_int_equal(sched_node(s, 1, 0, &n), -ENOENT);
    return (double)(s->steps - before) / hosts;
}

static void test_a_look_at_a_node_meets_no_others(void **state) {
    double ten = steps_a_look(10), thousand = steps_a_look(1000);
    printf("# %.1f steps for a node of 10, %.1f of 1000\n", ten, thousand);
    assert_true(ten >= 1);
    assert_true(thousand < ten * 4); /* it grows with the logarithm */
}

static bool on_node(void *arg, const struct node *n) {
    ++*(unsigned *)arg;
    return true;
}

/* As `cat stats` does: one look at each, and nothing of its functions where none is in doubt. */
static void test_a_table_of_nodes_takes_a_step_a_node(void **state) {
    while (s->hosts->count < 1000)
        add_host(1, 100);
    unsigned listed = 0;
    uint64_t before = s->steps;
    assert_int_equal(sched_list_nodes(s, false, on_node, &listed), 0);
    assert_int_equal(sched_sum_nodes(s).slots, listed - 1); /* this machine has none here */
    assert_int_equal(listed, 1000);
    assert_int_equal(s->steps - before, listed);
}

int main(void) {
#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
    const struct CMUnitTest tests[] = {TEST(test_every_answer_crosses_every_cancel),
                                       TEST(test_a_stream_that_is_not_in_memory_takes_its_parts_along),
                                       TEST(test_a_stream_with_many_parts_is_removed_in_slices),
                                       TEST(test_calls_that_are_held_at_the_end_fail_in_slices),
                                       TEST(test_calls_of_one_id_are_not_all_cancelled_at_once),
                                       TEST(test_an_end_counts_once_however_often_it_is_written),
                                       TEST(test_what_was_answered_is_not_run_again),
                                       TEST(test_a_bit_a_call),
                                       TEST(test_a_stream_fills_all_slots),
                                       TEST(test_a_look_at_a_node_meets_no_others),
                                       TEST(test_a_table_of_nodes_takes_a_step_a_node),
                                       TEST(test_steps_on_ten_hosts),
                                       TEST(test_steps_on_a_thousand_hosts)};
    return cmocka_run_group_tests_name("slots", tests, NULL, NULL);
}
