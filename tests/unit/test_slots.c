/* Leases over hosts that are simulated here: what crosses on a long way, and how much is looked at for one call. The
 * scheduler and its database are real. Needs $PPFS_WORKER. */
#include "net/clock.h"
#include "net/session/frame.h"
#include "tests/unit/schedrig.h"
#include "sched/hosts/state.h"
#include "sched/leases/state.h"

#define WRITE 32768u /* bytes of one write */

#define JOB_US 2000000 /* what a job says that it took */

enum word { START, CALL, FUNCTION, FINISH, RECALL, KILL, ANSWER, RECALLED, DONE };
struct message {
    struct message *next;
    enum word word;
    uint64_t lease;
    uint32_t number;
    enum answer_kind kind;
    size_t size;
    unsigned due;
};
struct way {
    struct message *first, **end;
};

struct slot { /* one lease of a simulated worker */
    uint64_t lease;
    struct {
        uint32_t first, count; /* calls that wait, their numbers in ring */
        uint32_t ring[256];
    } calls;
    uint32_t current; /* 0: none */
    unsigned at;      /* in its script */
    bool waits;       /* for a FUNCTION */
    bool finishing;
};

struct fake {
    struct host h; /* first: the scheduler frees it */
    struct way there, back;
    struct slot slots[16];
    double us; /* what a call takes there */
};

static unsigned now, delay; /* ticks */
static const char *script;  /* of every call, a letter an answer: v e n p; . takes a tick */
static uint64_t answered;

/* --- messages ---------------------------------------------------------------------------------------------------- */

static void say(struct way *w, struct message m) {
    struct message *copy = malloc(sizeof *copy);
    assert_non_null(copy);
    *copy = m;
    copy->next = NULL;
    copy->due = now + delay;
    if (!w->first)
        w->end = &w->first;
    *w->end = copy;
    w->end = &copy->next;
}

static bool hear(struct way *w, struct message *m) {
    struct message *first = w->first;
    if (!first || first->due > now)
        return false;
    *m = *first;
    w->first = first->next;
    free(first);
    return true;
}

static struct slot *slot_of(struct fake *f, uint64_t lease) {
    for (unsigned i = 0; i < 16; i++)
        if (f->slots[i].lease == lease)
            return &f->slots[i];
    return NULL;
}

static int to_start(void *self, const struct work *w) {
    struct fake *f = self;
    say(&f->there, (struct message){.word = START, .lease = w->job});
    return 0;
}
static int to_call(void *self, uint64_t lease, uint32_t number, enum call_format format, const void *bytes, size_t size,
                   struct shared_buffer *shared) {
    struct fake *f = self;
    say(&f->there, (struct message){.word = CALL, .lease = lease, .number = number});
    return 0;
}
static int to_function(void *self, uint64_t lease, const uint8_t hash[32], const void *bytes, size_t size,
                       struct shared_buffer *shared) {
    struct fake *f = self;
    say(&f->there, (struct message){.word = FUNCTION, .lease = lease});
    return 0;
}
static int to_finish(void *self, uint64_t lease) {
    struct fake *f = self;
    say(&f->there, (struct message){.word = FINISH, .lease = lease});
    return 0;
}
static uint32_t to_recall(void *self, uint64_t lease, uint32_t number) {
    struct fake *f = self;
    say(&f->there, (struct message){.word = RECALL, .lease = lease, .number = number});
    return RUNNER_LATER;
}
static void to_kill(void *self, uint64_t job) {
    struct fake *f = self;
    say(&f->there, (struct message){.word = KILL, .lease = job});
}
static const struct runner_ops ops = {to_start,     to_call, to_function, to_finish,     to_recall,
                                      ignore_flush, to_kill, ignore_hold, ignore_resize, NULL};

/* --- the workers ------------------------------------------------------------------------------------------------- */

static void end(struct fake *f, struct slot *sl, enum word why_ended) {
    say(&f->back, (struct message){.word = DONE, .lease = sl->lease, .number = why_ended == KILL});
    *sl = (struct slot){0};
}

static void obey(struct fake *f, const struct message *m) {
    struct slot *sl = slot_of(f, m->word == START ? 0 : m->lease);
    if (!sl)
        return;
    if (m->word == START) {
        sl->lease = m->lease;
    } else if (m->word == CALL) {
        assert_true(sl->calls.count < 256);
        sl->calls.ring[(sl->calls.first + sl->calls.count++) % 256] = m->number;
    } else if (m->word == FUNCTION) {
        sl->waits = false;
    } else if (m->word == FINISH) {
        sl->finishing = true;
    } else if (m->word == KILL) {
        end(f, sl, KILL);
    } else {
        uint32_t limit = m->number;
        while (sl->calls.count && sl->calls.ring[(sl->calls.first + sl->calls.count - 1) % 256] >= m->number)
            sl->calls.count--;
        if (sl->current >= limit)
            limit = sl->current + 1;
        say(&f->back, (struct message){.word = RECALLED, .lease = m->lease, .number = limit});
    }
}

static void work(struct fake *f, struct slot *sl) {
    if (sl->waits)
        return;
    if (!(sl->lease & LEASE_BIT)) { /* a job: it is done */
        end(f, sl, FINISH);
        return;
    }
    if (!sl->current && sl->calls.count) {
        sl->current = sl->calls.ring[sl->calls.first];
        sl->calls.first = (sl->calls.first + 1) % 256;
        sl->calls.count--;
        sl->at = 0;
        return;
    }
    if (!sl->current) {
        if (sl->finishing)
            end(f, sl, FINISH);
        return;
    }
    char what = script[sl->at++];
    if (what == '.')
        return;
    static const uint8_t kinds[] = {
        ['v'] = ANSWER_VALUE, ['e'] = ANSWER_ERROR, ['p'] = ANSWER_PART, ['n'] = ANSWER_NEED};
    struct message m = {.word = ANSWER, .lease = sl->lease, .number = sl->current, .size = what == 'n' ? 32 : 5};
    m.kind = kinds[(unsigned char)what];
    sl->waits = what == 'n';
    say(&f->back, m);
    if (!script[sl->at])
        sl->current = 0;
}

static void tell(struct fake *f, const struct message *m) {
    static const char body[32] = "\x80\x04K\x01.";
    struct work_outcome o = {
        .attempt = 1, .wall_us = JOB_US, .end = m->number ? WORK_SIGNALED : WORK_DONE, .status = m->number ? 9 : 0};
    if (m->word == ANSWER && m->kind <= ANSWER_ERROR)
        answered++;
    if (m->word == ANSWER)
        host_events.answer(&f->h, m->lease, m->number, m->kind, body, m->size);
    else if (m->word == RECALLED)
        host_events.recalled(&f->h, m->lease, m->number);
    else
        host_events.done(&f->h, m->lease, &o);
}

static void each_fake(void (*what)(struct fake *f)) {
    for (struct host *h = s->hosts->all, *next; h; h = next) {
        next = h->next;
        if (!h->pool)
            what((struct fake *)h);
    }
}

static void live(struct fake *f) {
    struct message m;
    while (hear(&f->there, &m))
        obey(f, &m);
    for (unsigned i = 0; i < 16; i++)
        if (f->slots[i].lease)
            work(f, &f->slots[i]);
    while (hear(&f->back, &m))
        tell(f, &m);
}

static void turn(void) {
    now++;
    each_fake(live);
    event_del(s->lease_timer); /* comes after so many turns, not after so much time: steps are counted */
    if (now % 64 == 0)
        lease_timer(-1, 0, s);
    s->leases->reclaim_at = now % 16 ? clock_us() + 1000000 : 0;
    rig_turn();
    struct lease *l; /* its calls have taken what its host is to take, or the steps would depend on the clock */
    LIST_FOREACH(l, &s->leases->heard, heard_of)
        l->heard = l->last + (int64_t)((struct fake *)l->host)->us * l->got;
}

static void tick(void) {
    turn();
    assert_int_equal(sched_commit(s), 0);
}

/* As on a disk that is full. What is to be done again a second later is done with the next turn. */
static bool tick_in_vain(void) {
    turn();
    if (!sched_dirty(s)) /* false: nothing is to be kept */
        return sched_commit(s) < 0;
    sched_check(s, -ENOSPC);
    assert_int_equal(sched_commit(s), -ENOSPC);
    event_active(s->retry, EV_TIMEOUT, 0);
    return true;
}

static void still(struct fake *f) {
    struct message m;
    unsigned was = now;
    now = UINT32_MAX - delay;
    while (hear(&f->there, &m) || hear(&f->back, &m))
        ;
    now = was;
}

/* --- the rig ----------------------------------------------------------------------------------------------------- */

static int setup(void **state) {
    now = delay = 0;
    open_for_writing = true;
    script = "v";
    return rig_setup();
}

static int teardown(void **state) {
    each_fake(still);
    return rig_teardown();
}

static struct fake *add_host(unsigned cpus, double us) {
    struct fake *f = calloc(1, sizeof *f);
    assert_non_null(f);
    static unsigned count;
    char name[32];
    snprintf(name, sizeof name, "fake%u", count++);
    f->us = us;
    rig_add(&f->h, cpus, &ops, name);
    return f;
}

static uint64_t begin(const char *name, const void *bytes, size_t size) {
    return rig_write(getuid(), getgid(), name, bytes, size);
}

static void append(uint64_t job, uint8_t kind, uint64_t id, const void *body, size_t size) {
    uint8_t bytes[256];
    frame_encode(bytes, kind, id, (uint32_t)size);
    memcpy(bytes + FRAME_HEADER, body, size);
    assert_int_equal(
        sched_write(s, job, bytes, FRAME_HEADER + size, (uint64_t)stream_find(s, job)->in_size, NULL, NULL), 0);
}

static uint64_t lines(const char *name, unsigned n) {
    static const char line[] = "{\"call\": \"m.f\"}\n";
    char *text = malloc(n * (sizeof line - 1) + 1);
    assert_non_null(text);
    for (unsigned i = 0; i < n; i++)
        strcpy(text + i * (sizeof line - 1), line);
    unsigned size = n * (unsigned)(sizeof line - 1);
    uint64_t job = begin(name, text, size < WRITE ? size : WRITE);
    for (unsigned at = WRITE; at < size; at += WRITE)
        assert_int_equal(sched_write(s, job, text + at, size - at < WRITE ? size - at : WRITE, at, NULL, NULL), 0);
    free(text);
    return job;
}

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
    assert_int_equal(sched_cancel(s, job), 0);
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
    assert_int_equal(sched_cancel(s, job), 0);
    assert_int_equal(parts_of(job), 0);
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
    assert_int_equal(sched_cancel(s, first), 0);
    assert_int_equal(sched_cancel(s, second), 0);
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
            assert_int_equal(sched_node(s, after, &n), 0);
            assert_int_equal(sched_find_node(s, n.name, &id), 0);
            assert_int_equal(id, after);
        }
        listed += page_count;
    } while (page_count == 32);
    assert_int_equal(listed, hosts);
    assert_int_equal(sched_node(s, 1, &n), -ENOENT);
    return (double)(s->steps - before) / hosts;
}

static void test_a_look_at_a_node_meets_no_others(void **state) {
    double ten = steps_a_look(10), thousand = steps_a_look(1000);
    printf("# %.1f steps for a node of 10, %.1f of 1000\n", ten, thousand);
    assert_true(ten >= 1);
    assert_true(thousand < ten * 4); /* it grows with the logarithm */
}

int main(void) {
#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
    const struct CMUnitTest tests[] = {TEST(test_every_answer_crosses_every_cancel),
                                       TEST(test_a_stream_that_is_not_in_memory_takes_its_parts_along),
                                       TEST(test_an_end_counts_once_however_often_it_is_written),
                                       TEST(test_what_was_answered_is_not_run_again),
                                       TEST(test_a_bit_a_call),
                                       TEST(test_a_stream_fills_all_slots),
                                       TEST(test_a_look_at_a_node_meets_no_others),
                                       TEST(test_steps_on_ten_hosts),
                                       TEST(test_steps_on_a_thousand_hosts)};
    return cmocka_run_group_tests_name("slots", tests, NULL, NULL);
}
