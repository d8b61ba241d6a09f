
#include "tests/unit/leaserig.h"

struct fixture fix;

static void on_output(void *arg, uint64_t job, enum output_kind stream, const void *bytes, size_t size) {
    assert_int_equal(job, LEASE);
    struct call *c = &fix.calls[fix.first];
    if (stream == OUTPUT_RESULT || stream == OUTPUT_TRACE) { /* of a single call */
        assert_true(size < sizeof(c->text));
        memcpy(c->text, bytes, size);
        return;
    }
    assert_in_range(stream, OUTPUT_STDOUT, OUTPUT_STDERR);
    size_t room = sizeof(c->output[0]) - 1 - strlen(c->output[stream]);
    strncat(c->output[stream], bytes, size < room ? size : room);
    c->printed += size;
}

static void on_answer(void *arg, uint64_t lease, uint32_t number, enum answer_kind kind, const void *bytes,
                      size_t size) {
    struct call *c = &fix.calls[number];

    assert_int_equal(lease, LEASE);
    assert_false(c->answered || fix.done);
    assert_true(number >= fix.first);
    if (kind == ANSWER_NEED && size) {
        assert_int_equal(size, 32);
        if (fix.need) {
            fix.need(bytes, lease);
            return;
        }
        fix.needs++;
        runner_function(fix.runner, lease, bytes, fix.function, fix.function_size, NULL);
        return;
    }
    size_t take = size < KEEP - c->kept ? size : KEEP - c->kept;
    if (take)
        memcpy(c->text + c->kept, bytes, take);
    c->kept += take;
    c->size += size;
    if (kind == ANSWER_PART)
        return;
    c->kind = kind;
    c->answered = true;
    fix.answers++;
    fix.first = number + 1;
}

static void on_done(void *arg, uint64_t job, const struct work_outcome *o) {
    assert_int_equal(job, LEASE);
    assert_false(fix.done);
    fix.done = true;
    fix.outcome = *o;
}

static void on_trouble(void *arg, const char *sentence) {
    print_message("%s\n", sentence);
}

static void on_patience(evutil_socket_t fd, short what, void *arg) {
    fix.gave_up = true;
}

void loop_for_ms(int ms, const bool *flag) {
    struct event *timer = evtimer_new(fix.base, on_patience, NULL);
    struct timeval pause = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};

    fix.gave_up = false;
    event_add(timer, &pause);
    while (!(flag && *flag) && !fix.gave_up)
        event_base_loop(fix.base, EVLOOP_ONCE);
    event_free(timer);
}

void loop_until(const bool *flag) {
    loop_for_ms(PATIENCE_S * 1000, flag);
    assert_true(*flag);
}

int setup(void **state) {
    const char *path = getenv("PPFS_WORKER");
    struct pool_config config = {.worker_path = path ? path : "./ppfs-worker", .workers = 1};
    struct runner_events events = {.output = on_output, .done = on_done, .answer = on_answer, .trouble = on_trouble};

    unsetenv("VIRTUAL_ENV");
    memset(&fix, 0, sizeof(fix));
    fix.first = 1;
    fix.calls = calloc(CALLS, sizeof(*fix.calls));
    fix.base = event_base_new();
    if (!fix.calls || pool_create(&fix.pool, fix.base, &config, &events, NULL))
        return -1;
    pool_runner(fix.pool, &fix.runner);
    return 0;
}

int teardown(void **state) {
    pool_destroy(fix.pool);
    event_base_free(fix.base);
    free(fix.calls);
    assert_nothing_left();
    return 0;
}

struct work lease_work(enum work_kind kind) {
    return (struct work){.job = LEASE,
                         .kind = kind,
                         .attempt = 1,
                         .name = "s",
                         .node = "local",
                         .cwd = "/",
                         .uid = geteuid(),
                         .gid = getegid()};
}

void begin(struct work w) {
    fix.done = false;
    fix.first = 1;
    memset(fix.calls, 0, CALLS * sizeof(*fix.calls));
    assert_int_equal(runner_start(fix.runner, &w), 0);
}

static void finish(void) {
    assert_int_equal(runner_finish(fix.runner, LEASE), 0);
    loop_until(&fix.done);
}

void finish_well(void) {
    finish();
    if (fix.outcome.end != WORK_DONE)
        print_message("end %d: %s\n", fix.outcome.end, fix.outcome.why);
    assert_int_equal(fix.outcome.end, WORK_DONE);
}

void json(uint32_t number, const char *text) {
    assert_int_equal(runner_call(fix.runner, LEASE, number, CALL_JSON, text, strlen(text), NULL), 0);
}

size_t put_string(char *to, const char *text, size_t size) {
    uint32_t n = (uint32_t)size;

    to[0] = 'X';
    memcpy(to + 1, &n, 4);
    memcpy(to + 5, text, size);
    return size + 5;
}

size_t pickle_args(char *to, const char *text, size_t size) {
    size_t at = 2;

    memcpy(to, "\x80\x03", 2);
    at += put_string(to + at, text, size);
    memcpy(to + at, "\x85}\x86.", 4);
    return at + 4;
}

void pickled(uint32_t number, const char *name, const char *text) {
    char bytes[KEEP];
    size_t at = (size_t)snprintf(bytes, sizeof(bytes),
                                 "\x80\x03"
                                 "cbuiltins\n%s\n",
                                 name);

    at += put_string(bytes + at, text, strlen(text));
    memcpy(bytes + at, "\x85}\x87.", 4);
    assert_int_equal(runner_call(fix.runner, LEASE, number, CALL_PICKLE, bytes, at + 4, NULL), 0);
}

void hashed(uint32_t number, char hash, const char *text, size_t size) {
    char *bytes = malloc(size + 64);

    assert_non_null(bytes);
    memset(bytes, hash, 32);
    assert_int_equal(
        runner_call(fix.runner, LEASE, number, CALL_HASH, bytes, 32 + pickle_args(bytes + 32, text, size), NULL), 0);
    free(bytes);
}

void function(const char *pickle, size_t size) {
    fix.function = pickle;
    fix.function_size = size;
}
