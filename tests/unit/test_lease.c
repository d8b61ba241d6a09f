/* Leases with real workers ($PPFS_WORKER, else ./ppfs-worker): calls that are sent ahead, what comes back for them, how
 * they are taken back, whose output is whose, and how a lease ends. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "net/session/frame.h"
#include <cmocka.h>

#include "tests/unit/scratch.h"
#include "worker/pool/pool.h"

enum { CALLS = 4096, KEEP = 4096, PATIENCE_S = 60, LEASE = 77 };

struct call {
    bool answered;
    enum answer_kind kind;
    size_t size, kept, printed; /* kept: of text; printed: of output */
    char text[KEEP + 1], output[2][256];
};

static struct fixture {
    struct event_base *base;
    struct pool *pool;
    struct runner runner; /* it */
    struct call *calls;   /* by number */
    uint32_t first;       /* the first that is not answered: output is its */
    uint32_t answers, needs;
    bool done, gave_up;
    const char *function;
    size_t function_size;
    void (*need)(const uint8_t *hash, uint64_t lease); /* NULL: every hash names that function */
    bool withheld;
    struct work_outcome outcome;
} fix;

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

static void loop_for_ms(int ms, const bool *flag) {
    struct event *timer = evtimer_new(fix.base, on_patience, NULL);
    struct timeval pause = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};

    fix.gave_up = false;
    event_add(timer, &pause);
    while (!(flag && *flag) && !fix.gave_up)
        event_base_loop(fix.base, EVLOOP_ONCE);
    event_free(timer);
}

static void loop_until(const bool *flag) {
    loop_for_ms(PATIENCE_S * 1000, flag);
    assert_true(*flag);
}

static int setup(void **state) {
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

static int teardown(void **state) {
    pool_destroy(fix.pool);
    event_base_free(fix.base);
    free(fix.calls);
    assert_nothing_left();
    return 0;
}

static struct work lease_work(enum work_kind kind) {
    return (struct work){.job = LEASE,
                         .kind = kind,
                         .attempt = 1,
                         .name = "s",
                         .node = "local",
                         .cwd = "/",
                         .uid = geteuid(),
                         .gid = getegid()};
}

static void begin(struct work w) {
    fix.done = false;
    fix.first = 1;
    memset(fix.calls, 0, CALLS * sizeof(*fix.calls));
    assert_int_equal(runner_start(fix.runner, &w), 0);
}

static void finish(void) {
    assert_int_equal(runner_finish(fix.runner, LEASE), 0);
    loop_until(&fix.done);
}

static void finish_well(void) {
    finish();
    if (fix.outcome.end != WORK_DONE)
        print_message("end %d: %s\n", fix.outcome.end, fix.outcome.why);
    assert_int_equal(fix.outcome.end, WORK_DONE);
}

static void json(uint32_t number, const char *text) {
    assert_int_equal(runner_call(fix.runner, LEASE, number, CALL_JSON, text, strlen(text), NULL), 0);
}

/* --- pickles by hand, protocol 3: the callable exec, a string, a tuple of one, no keywords --------------------------
 * */
static size_t put_string(char *to, const char *text, size_t size) {
    uint32_t n = (uint32_t)size;

    to[0] = 'X';
    memcpy(to + 1, &n, 4);
    memcpy(to + 5, text, size);
    return size + 5;
}

/* (text,), {} */
static size_t pickle_args(char *to, const char *text, size_t size) {
    size_t at = 2;

    memcpy(to, "\x80\x03", 2);
    at += put_string(to + at, text, size);
    memcpy(to + at, "\x85}\x86.", 4);
    return at + 4;
}

/* builtins.NAME, (text,), {} */
static void pickled(uint32_t number, const char *name, const char *text) {
    char bytes[KEEP];
    size_t at = (size_t)snprintf(bytes, sizeof(bytes),
                                 "\x80\x03"
                                 "cbuiltins\n%s\n",
                                 name);

    at += put_string(bytes + at, text, strlen(text));
    memcpy(bytes + at, "\x85}\x87.", 4);
    assert_int_equal(runner_call(fix.runner, LEASE, number, CALL_PICKLE, bytes, at + 4, NULL), 0);
}

static void hashed(uint32_t number, char hash, const char *text, size_t size) {
    char *bytes = malloc(size + 64);

    assert_non_null(bytes);
    memset(bytes, hash, 32);
    assert_int_equal(
        runner_call(fix.runner, LEASE, number, CALL_HASH, bytes, 32 + pickle_args(bytes + 32, text, size), NULL), 0);
    free(bytes);
}

static void function(const char *pickle, size_t size) {
    fix.function = pickle;
    fix.function_size = size;
}

static const char pickled_len[] = "\x80\x03"
                                  "cbuiltins\nlen\n.";

/* --- tests -------------------------------------------------------------------------------------------------------- */
static void json_calls_ahead(void **state) {
    char text[128];

    begin(lease_work(WORK_STREAM_JSON));
    for (uint32_t i = 1; i <= 1000; i++) {
        snprintf(text, sizeof(text), "{\"call\": \"operator.add\", \"args\": [%u, 1]}", i);
        json(i, text);
    }
    json(1001, "{\"call\": \"math.sqrt\", \"args\": [-1]}");
    json(1002, "{\"run\": [\"true\"]}");
    json(1003, "{\"call\": \"math.sqrt\", \"args\": [4], \"retries\": 2}");
    json(1004, "{\"call\": ");
    json(1005, "{\"call\": \"os.getenv\", \"args\": [\"PPFS_JOB\"]}");
    finish_well();
    assert_int_equal(fix.answers, 1005);
    for (uint32_t i = 1; i <= 1000; i++) {
        assert_int_equal(fix.calls[i].kind, ANSWER_VALUE);
        assert_int_equal(atoi(fix.calls[i].text), i + 1);
    }
    assert_int_equal(fix.calls[1001].kind, ANSWER_ERROR);
    assert_true(strncmp(fix.calls[1001].text, "ValueError: math domain error\nValueError", 40) == 0);
    assert_int_equal(fix.calls[1002].kind, ANSWER_NEED);
    assert_int_equal(fix.calls[1003].kind, ANSWER_NEED);
    assert_int_equal(fix.calls[1004].kind, ANSWER_ERROR);
    assert_non_null(strstr(fix.calls[1004].text, "not valid JSON"));
    assert_string_equal(fix.calls[1005].text, "\"s\"");
}

/* A large call is not copied: its memory is held until the worker has it, also when that dies. */
static void large_calls_are_lent(void **state) {
    enum { SIZE = 32 << 20 };
    char *memory = malloc(SIZE + 64);
    struct shared_buffer *shared = shared_buffer_new(memory);

    assert_non_null(memory);
    assert_non_null(shared);
    begin(lease_work(WORK_STREAM_FRAMES));
    fix.function = pickled_len;
    fix.function_size = sizeof(pickled_len) - 1;
    memset(memory, 'h', 32);
    char *text = malloc(SIZE);
    assert_non_null(text);
    memset(text, 'x', SIZE);
    size_t size = 32 + pickle_args(memory + 32, text, SIZE);
    free(text);
    assert_int_equal(runner_call(fix.runner, LEASE, 1, CALL_HASH, memory, size, shared), 0);
    assert_int_equal(shared->holders, 1 + size / FRAME_BODY_MAX); /* what is over is small */
    while (!fix.calls[1].answered)
        event_base_loop(fix.base, EVLOOP_ONCE);
    assert_int_equal(shared->holders, 1);
    assert_memory_equal(fix.calls[1].text + fix.calls[1].kept - 6, "J\x00\x00\x00\x02.", 6);
    assert_int_equal(runner_call(fix.runner, LEASE, 2, CALL_HASH, memory, size, shared), 0);
    runner_kill(fix.runner, LEASE);
    loop_until(&fix.done);
    assert_int_equal(shared->holders, 1);
    shared_buffer_release(shared);
}

static void pickled_calls(void **state) {
    begin(lease_work(WORK_STREAM_FRAMES));
    pickled(1, "len", "abc");
    pickled(2, "eval", "1/0");
    pickled(3, "eval", "(x for x in ())");
    assert_int_equal(runner_call(fix.runner, LEASE, 4, CALL_PICKLE,
                                 "\x80\x03"
                                 "cno_such\nthing\n.",
                                 19, NULL),
                     0);
    pickled(5, "eval", "__import__('sys').exit(3)");
    finish_well();
    assert_int_equal(fix.calls[1].kind, ANSWER_VALUE);
    assert_memory_equal(fix.calls[1].text, "\x80\x05K\x03.", 5);
    assert_int_equal(fix.calls[2].kind, ANSWER_ERROR);
    assert_int_equal(fix.calls[2].text[0], 1);
    uint32_t n;
    memcpy(&n, fix.calls[2].text + 4, 4);
    assert_in_range(n, 10, 300);
    assert_true(strncmp(fix.calls[2].text + 8 + n, "ZeroDivisionError: division by zero\nTraceback", 45) == 0);
    assert_int_equal(fix.calls[3].text[0], 2); /* cannot be pickled */
    assert_int_equal(fix.calls[4].text[0], 2);
    assert_non_null(strstr(fix.calls[4].text + 8, "could not be unpickled"));
    assert_int_equal(fix.calls[5].text[0], 1);
}

static void functions_are_asked_for_once(void **state) {
    begin(lease_work(WORK_STREAM_FRAMES));
    function(pickled_len, sizeof(pickled_len) - 1);
    hashed(1, 'a', "12", 2);
    for (uint32_t i = 2; i < 100; i++)
        hashed(i, i % 2 ? 'a' : 'b', "123", 3);
    finish_well();
    assert_int_equal(fix.needs, 2);
    assert_memory_equal(fix.calls[1].text, "\x80\x05K\x02.", 5);
    assert_memory_equal(fix.calls[99].text, "\x80\x05K\x03.", 5);
    begin(lease_work(WORK_STREAM_FRAMES)); /* the worker still has it */
    hashed(1, 'b', "1234", 4);
    function(NULL, 0);
    hashed(2, 'c', "", 0);
    hashed(3, 'b', "12345", 5);
    finish_well();
    assert_int_equal(fix.needs, 3);
    assert_memory_equal(fix.calls[1].text, "\x80\x05K\x04.", 5);
    assert_int_equal(fix.calls[2].kind, ANSWER_ERROR);
    assert_int_equal(fix.calls[2].text[0], 2);
    assert_memory_equal(fix.calls[3].text, "\x80\x05K\x05.", 5);
}

static void large_arguments_and_results(void **state) {
    size_t size = 5 << 20;
    char *big = malloc(size);

    assert_non_null(big);
    memset(big, 'x', size);
    begin(lease_work(WORK_STREAM_FRAMES));
    function(pickled_len, sizeof(pickled_len) - 1);
    hashed(1, 'a', big, size);
    hashed(2, 'a', big, 10);
    hashed(3, 'a', big, size);
    pickled(4, "eval", "'y' * (5 << 20)");
    pickled(5, "len", "abc");
    finish_well();
    assert_memory_equal(fix.calls[1].text, "\x80\x05\x95\6\0\0\0\0\0\0\0J\0\0P\0.", 17);
    assert_memory_equal(fix.calls[2].text, "\x80\x05K\x0a.", 5);
    assert_memory_equal(fix.calls[3].text, fix.calls[1].text, 17);
    assert_true(fix.calls[4].size > size);
    assert_memory_equal(fix.calls[5].text, "\x80\x05K\x03.", 5);
    /* A function of that size, too. */
    begin(lease_work(WORK_STREAM_FRAMES));
    size_t at = (size_t)sprintf(big, "\x80\x03"
                                     "cfunctools\npartial\ncbuiltins\nlen\n");
    big[at] = 'X';
    memcpy(big + at + 1, "\0\0\x30", 4); /* 3 MiB of what stands there */
    at += 5 + (3 << 20);
    memcpy(big + at, "\x85\x86R.", 4); /* partial(len, ("xxx...",)): not valid, and the worker says so */
    function(big, at + 4);
    hashed(1, 'd', "", 0);
    hashed(2, 'a', "12", 2);
    finish_well();
    assert_int_equal(fix.calls[1].text[0], 1);
    assert_memory_equal(fix.calls[2].text, "\x80\x05K\x02.", 5);
    free(big);
}

static void crash_in_the_middle(void **state) {
    begin(lease_work(WORK_STREAM_JSON));
    json(1, "{\"call\": \"len\", \"args\": [[1]]}");
    json(2, "{\"call\": \"len\", \"args\": [[1, 2]]}");
    json(3, "{\"call\": \"os.abort\"}");
    json(4, "{\"call\": \"len\", \"args\": [[]]}");
    loop_until(&fix.done);
    assert_int_equal(fix.outcome.end, WORK_SIGNALED);
    assert_int_equal(fix.outcome.status, SIGABRT);
    assert_int_equal(fix.first, 3);
    assert_int_equal(runner_call(fix.runner, LEASE, 5, CALL_JSON, "{}", 2, NULL), -ENOENT);
    begin(lease_work(WORK_STREAM_JSON));
    json(1, "{\"call\": \"os._exit\", \"args\": [4]}");
    loop_until(&fix.done);
    assert_int_equal(fix.outcome.end, WORK_EXITED);
    assert_int_equal(fix.outcome.status, 4);
    assert_non_null(strstr(fix.outcome.why, "exit status 4"));
}

static void killed_lease(void **state) {
    begin(lease_work(WORK_STREAM_JSON));
    json(1, "{\"call\": \"len\", \"args\": [[1]]}");
    json(2, "{\"call\": \"time.sleep\", \"args\": [60]}");
    loop_until(&fix.calls[1].answered);
    runner_kill(fix.runner, LEASE);
    loop_until(&fix.done);
    assert_int_equal(fix.outcome.end, WORK_SIGNALED);
    assert_int_equal(fix.first, 2);
}

static void recall_while_one_sleeps(void **state) {
    begin(lease_work(WORK_STREAM_JSON));
    json(1, "{\"call\": \"len\", \"args\": [[]]}");
    json(2, "{\"call\": \"time.sleep\", \"args\": [0.4]}");
    for (uint32_t i = 3; i <= 10; i++)
        json(i, "{\"call\": \"len\", \"args\": [[]]}");
    loop_until(&fix.calls[1].answered);
    loop_for_ms(50, NULL);
    assert_int_equal(runner_recall(fix.runner, LEASE, 8), 8);
    assert_int_equal(runner_recall(fix.runner, LEASE, 1), 3); /* 2 runs */
    json(11, "{\"call\": \"len\", \"args\": [[1, 2]]}");
    json(12, "{\"call\": \"len\", \"args\": [[1, 2]]}");
    assert_int_equal(runner_recall(fix.runner, LEASE, 12), 12);
    assert_int_equal(runner_recall(fix.runner, LEASE, 13), 13);
    json(13, "{\"call\": \"len\", \"args\": [[1, 2, 3]]}");
    finish_well();
    assert_int_equal(fix.answers, 4);
    assert_true(fix.calls[2].answered && fix.calls[11].answered && fix.calls[13].answered);
    assert_string_equal(fix.calls[13].text, "3");
}

/* Whatever is taken back at whatever moment: each call either is answered or was below the limit, never both. */
static void recall_at_any_moment(void **state) {
    static const char text[] = "{\"call\": \"len\", \"args\": [[]]}";
    bool back[CALLS] = {false};
    uint32_t sent = 0, answered = 0;

    begin(lease_work(WORK_STREAM_JSON));
    while (sent + 40 < CALLS) {
        for (int i = 0; i < 40; i++)
            while (runner_call(fix.runner, LEASE, sent + 1, CALL_JSON, text, sizeof(text) - 1, NULL) ? true
                                                                                                     : (sent++, false))
                event_base_loop(fix.base, EVLOOP_ONCE); /* too many ahead */
        runner_flush(fix.runner);
        for (volatile uint32_t spin = 0; spin < sent * 97 % 200000; spin++)
            ;
        for (uint32_t i = runner_recall(fix.runner, LEASE, sent - 35); i <= sent; i++)
            back[i] = true;
        event_base_loop(fix.base, EVLOOP_NONBLOCK);
    }
    finish_well();
    for (uint32_t i = 1; i <= sent; i++) {
        assert_int_equal(fix.calls[i].answered, !back[i]);
        answered += fix.calls[i].answered;
    }
    assert_in_range(answered, sent / 40, sent);
}

static void output_is_of_its_call(void **state) {
    char text[128], want[32];

    begin(lease_work(WORK_STREAM_JSON));
    for (uint32_t i = 1; i <= 600; i++) {
        if (i % 3 == 0)
            snprintf(text, sizeof(text), "{\"call\": \"print\", \"args\": [\"call %u\"]}", i);
        else if (i % 3 == 1)
            snprintf(text, sizeof(text), "{\"call\": \"os.system\", \"args\": [\"echo err %u >&2\"]}", i);
        else
            snprintf(text, sizeof(text), "{\"call\": \"time.sleep\", \"args\": [0]}");
        if (i % 3 != 1 || i < 60)
            json(i, text);
    }
    finish_well();
    for (uint32_t i = 1; i <= 600; i++) {
        const struct call *c = &fix.calls[i];
        snprintf(want, sizeof(want), "call %u\n", i);
        assert_string_equal(c->output[0], i % 3 == 0 ? want : "");
        snprintf(want, sizeof(want), "err %u\n", i);
        assert_string_equal(c->output[1], i % 3 == 1 && i < 60 ? want : "");
    }
}

static void output_larger_than_a_pipe(void **state) {
    begin(lease_work(WORK_STREAM_JSON));
    json(1, "{\"call\": \"eval\", \"args\": [\"print('x' * 3000000)\"]}");
    json(2, "{\"call\": \"print\", \"args\": [\"two\"]}");
    finish_well();
    assert_int_equal(fix.calls[1].printed, 3000001);
    assert_string_equal(fix.calls[2].output[0], "two\n");
}

static void calls_leave_their_worker_in_order(void **state) {
    begin(lease_work(WORK_STREAM_JSON));
    json(1, "{\"call\": \"os.chdir\", \"args\": [\"/tmp\"]}");
    json(2, "{\"call\": \"os.getcwd\"}");
    json(3, "{\"call\": \"os.putenv\", \"args\": [\"A\", \"b\"]}");
    json(4, "{\"call\": \"eval\", \"args\": [\"__import__('os').environ.__setitem__('PPFS_X', 'b')\"]}");
    json(5, "{\"call\": \"os.getenv\", \"args\": [\"PPFS_X\"]}");
    json(6, "{\"call\": \"eval\", \"args\": [\"__import__('subprocess').Popen(['sleep', '60']) and None\"]}");
    json(7, "{\"call\": \"eval\", \"args\": [\"__import__('os').waitpid(-1, 1)\"]}");
    json(8, "{\"call\": \"eval\", \"args\": [\"__import__('sys').path.insert(0, '/nowhere')\"]}");
    json(9, "{\"call\": \"eval\", \"args\": [\"'/nowhere' in __import__('sys').path\"]}");
    json(10, "{\"call\": \"eval\", \"args\": [\"__import__('os').fork() and __import__('os').wait()[1]\"]}");
    finish_well();
    assert_string_equal(fix.calls[2].text, "\"/\"");
    assert_string_equal(fix.calls[5].text, "null");
    assert_non_null(strstr(fix.calls[7].text, "ChildProcessError"));
    assert_string_equal(fix.calls[9].text, "false");
    assert_string_equal(fix.calls[10].text, "0");
    assert_int_equal(fix.answers, 10);
}

static void threads_end_the_worker_after_the_lease(void **state) {
    begin(lease_work(WORK_STREAM_JSON));
    json(1, "{\"call\": \"eval\", \"args\": [\"__import__('threading').Timer(60, print).start()\"]}");
    json(2, "{\"call\": \"os.getpid\"}");
    finish_well();
    int before = atoi(fix.calls[2].text);
    begin(lease_work(WORK_STREAM_JSON));
    json(1, "{\"call\": \"os.getpid\"}");
    finish_well();
    assert_int_not_equal(atoi(fix.calls[1].text), before);
}

static void lease_with_an_environment_has_its_own_process(void **state) {
    const char *env[] = {"COLOUR=green", NULL};
    struct work w = lease_work(WORK_STREAM_JSON);

    w.env = env;
    begin(w);
    json(1, "{\"call\": \"os.getenv\", \"args\": [\"COLOUR\"]}");
    json(2, "{\"call\": \"os.getuid\"}");
    json(3, "{\"call\": \"print\", \"args\": [\"hello\"]}");
    finish_well();
    assert_string_equal(fix.calls[1].text, "\"green\"");
    assert_string_equal(fix.calls[3].output[0], "hello\n");
    begin(w);
    json(1, "{\"call\": \"os._exit\", \"args\": [0]}");
    json(2, "{\"call\": \"len\", \"args\": [[]]}");
    loop_until(&fix.done);
    assert_int_equal(fix.outcome.end, WORK_EXITED);
    assert_int_equal(fix.first, 1);
    begin(lease_work(WORK_STREAM_JSON));
    json(1, "{\"call\": \"os.getenv\", \"args\": [\"COLOUR\"]}");
    finish_well();
    assert_string_equal(fix.calls[1].text, "null");
}

static void lease_of_another_user(void **state) {
    struct work w = lease_work(WORK_STREAM_JSON);

    if (geteuid() != 0)
        skip();
    w.uid = w.gid = 65534;
    begin(w);
    json(1, "{\"call\": \"os.getuid\"}");
    json(2, "{\"call\": \"print\", \"args\": [\"hello\"]}");
    json(3, "{\"call\": \"os.kill\", \"args\": [1, 0]}");
    finish_well();
    assert_string_equal(fix.calls[1].text, "65534");
    assert_string_equal(fix.calls[2].output[0], "hello\n");
    assert_true(strncmp(fix.calls[3].text, "PermissionError", 15) == 0);
}

static void death_of_the_forkserver_loses_the_lease(void **state) {
    begin(lease_work(WORK_STREAM_JSON));
    json(1, "{\"call\": \"len\", \"args\": [[1]]}");
    json(2, "{\"call\": \"eval\", \"args\": [\"print('x', flush=True) or __import__('time').sleep(60)\"]}");
    while (!fix.calls[2].printed)
        event_base_loop(fix.base, EVLOOP_ONCE);
    kill(pool_forkserver(fix.pool), SIGKILL);
    loop_until(&fix.done);
    assert_int_equal(fix.outcome.end, WORK_LOST);
    assert_false(fix.outcome.unbegun);
    begin(lease_work(WORK_STREAM_JSON));
    json(1, "{\"call\": \"len\", \"args\": [[1]]}");
    loop_until(&fix.calls[1].answered);
    kill(pool_forkserver(fix.pool), SIGKILL); /* between two calls: none has begun */
    loop_until(&fix.done);
    assert_int_equal(fix.outcome.end, WORK_LOST);
    assert_true(fix.outcome.unbegun);
    begin(lease_work(WORK_STREAM_JSON));
    json(1, "{\"call\": \"len\", \"args\": [[1]]}");
    finish_well();
    assert_true(fix.calls[1].answered);
}

static void lease_waits_for_a_forkserver(void **state) {
    bool never = false;

    kill(pool_forkserver(fix.pool), SIGKILL); /* before it has come up: the next start waits a while */
    loop_for_ms(100, &never);
    assert_int_equal(pool_forkserver(fix.pool), 0);
    begin(lease_work(WORK_STREAM_JSON));
    assert_int_equal(runner_call(fix.runner, LEASE, 1, CALL_JSON, "{}", 2, NULL), -ENOENT);
    finish_well();
    begin(lease_work(WORK_STREAM_JSON));
    assert_int_equal(runner_recall(fix.runner, LEASE, 1), 1);
    while (runner_call(fix.runner, LEASE, 1, CALL_JSON, "{}", 2, NULL) == -ENOENT)
        event_base_loop(fix.base, EVLOOP_ONCE);
    finish_well();
    assert_int_equal(fix.calls[1].kind, ANSWER_ERROR);
}

static void held_lease_says_nothing(void **state) {
    begin(lease_work(WORK_STREAM_JSON));
    json(1, "{\"call\": \"print\", \"args\": [\"one\"]}");
    loop_until(&fix.calls[1].answered);
    runner_hold(fix.runner, LEASE, true);
    for (uint32_t i = 2; i <= 9; i++)
        json(i, "{\"call\": \"print\", \"args\": [\"more\"]}");
    loop_for_ms(100, NULL);
    assert_int_equal(fix.first, 2);
    runner_hold(fix.runner, LEASE, false);
    finish_well();
    for (uint32_t i = 2; i <= 9; i++)
        assert_string_equal(fix.calls[i].output[0], "more\n");
}

static void call_that_spoils_its_worker(void **state) {
    begin(lease_work(WORK_STREAM_JSON));
    json(1, "{\"call\": \"os.dup2\", \"args\": [0, 1]}");
    json(2, "{\"call\": \"os.getpid\"}");
    finish_well(); /* at its end, the worker leaves */
    int before = atoi(fix.calls[2].text);
    begin(lease_work(WORK_STREAM_JSON));
    json(1, "{\"call\": \"os.getpid\"}");
    json(2, "{\"call\": \"os.closerange\", \"args\": [3, 1000]}");
    json(3, "{\"call\": \"os.getpid\"}");
    loop_until(&fix.done);
    assert_int_not_equal(atoi(fix.calls[1].text), before);
    assert_int_equal(fix.outcome.end, WORK_EXITED);
    assert_int_equal(fix.first, 2);
}

static void single_call_of_two_pickles(void **state) {
    char bytes[256] = {0}; /* no values */
    uint32_t n = sizeof(pickled_len) - 1;
    struct work w = lease_work(WORK_CALL);

    memcpy(bytes + 4, &n, 4);
    memcpy(bytes + 8, pickled_len, n);
    w.payload = bytes;
    w.payload_size = 8 + n + (uint32_t)pickle_args(bytes + 8 + n, "abcd", 4);
    begin(w);
    loop_until(&fix.done);
    assert_int_equal(fix.outcome.end, WORK_DONE);
    assert_memory_equal(fix.calls[1].text, "\x80\x03K\x04.", 5);
    w.payload_size = 13;
    begin(w);
    loop_until(&fix.done);
    assert_int_equal(fix.outcome.end, WORK_REFUSED);
    assert_memory_equal(fix.calls[1].text, "\2\0\0\0\0\0\0\0the bytes of the call", 29); /* as a stream is told */
    w.payload = "\0\0\0\0\0\0\0\0\x80\2(cbuiltins\nint\n(X\1\0\0\0xtt.";
    w.payload_size = 35;
    begin(w);
    loop_until(&fix.done);
    assert_int_equal(fix.outcome.end, WORK_RAISED);
    assert_int_equal(fix.calls[1].text[0], 1);
    assert_non_null(memmem(fix.calls[1].text, sizeof(fix.calls[1].text), "\nValueError: invalid literal", 28));
}

/* --- values: a pickle that names what was sent before ----------------------------------------------------------------
 * */
static size_t put_hash(char *to, char hash) {
    memset(to, hash, 32);
    return 32;
}

/* (what that hash names,), {}: C and 32 bytes are a short bytes object, Q makes a persistent id of it. */
static size_t pickle_reference(char *to, char hash) {
    memcpy(to,
           "\x80\x03"
           "C\x20",
           4);
    put_hash(to + 4, hash);
    memcpy(to + 36, "Q\x85}\x86.", 5);
    return 41;
}

/* FUNC(value), both by their hashes; listed: the value that the call lists, 0 = none. */
static void call_value(uint32_t number, char func, char value, char listed) {
    char bytes[256] = {1, listed != 0, 0, 0};
    size_t at = 4;

    if (listed)
        at += put_hash(bytes + at, listed);
    at += put_hash(bytes + at, func);
    at += pickle_reference(bytes + at, value);
    assert_int_equal(runner_call(fix.runner, LEASE, number, CALL_VALUES, bytes, at, NULL), 0);
}

static const char pickled_append[] = "\x80\x03"
                                     "cbuiltins\neval\nX\x28\0\0\0"
                                     "lambda what: what.append(0) or len(what)\x85R.";
static const char pickled_list[] = "\x80\x03]K\1a."; /* [1] */

/* By the letter of the hash: l and a are functions, from p on they are lists, B to Z are texts of 5 MiB. */
static void on_need(const uint8_t *hash, uint64_t lease) {
    size_t size = 5 << 20, at = 2;
    char *text;

    fix.needs++;
    if (*hash == 'l') {
        runner_function(fix.runner, lease, hash, pickled_len, sizeof(pickled_len) - 1, NULL);
    } else if (*hash == 'a') {
        runner_function(fix.runner, lease, hash, pickled_append, sizeof(pickled_append) - 1, NULL);
    } else if (*hash >= 'p') {
        runner_function(fix.runner, lease, hash, pickled_list, sizeof(pickled_list) - 1, NULL);
    } else if (*hash > 'A') {
        assert_non_null(text = malloc(size));
        memset(text, 'x', size);
        memcpy(text, "\x80\x03", 2);
        at += put_string(text + at, text + 7, size - 8);
        text[at++] = '.';
        runner_function(fix.runner, lease, hash, text, at, NULL);
        free(text);
    } else {
        runner_function(fix.runner, lease, hash, NULL, 0, NULL);
    }
}

static void withhold(const uint8_t *hash, uint64_t lease) {
    fix.withheld = true;
}

static void objects_are_asked_for_once(void **state) {
    char bytes[512];

    fix.need = on_need;
    begin(lease_work(WORK_STREAM_FRAMES));
    for (uint32_t i = 1; i <= 50; i++)
        call_value(i, 'a', 'p', 'p'); /* each has a list of its own */
    call_value(51, 'l', 'q', 'q');
    finish_well();
    assert_int_equal(fix.needs, 4);
    for (uint32_t i = 1; i <= 50; i++)
        assert_memory_equal(fix.calls[i].text, "\x80\x05K\2.", 5);
    assert_memory_equal(fix.calls[51].text, "\x80\x05K\1.", 5);
    begin(lease_work(WORK_STREAM_FRAMES)); /* the worker still has them */
    call_value(1, 'a', 'p', 'p');
    /* Two of them in one call, and the function in its pickle: max([1], [1]). */
    memcpy(bytes, "\0\2\0\0", 4);
    size_t at = 4 + put_hash(bytes + 4, 'p');
    at += put_hash(bytes + at, 'r');
    at += (size_t)sprintf(bytes + at, "\x80\x03"
                                      "cbuiltins\nmax\nC ");
    at += put_hash(bytes + at, 'p');
    at += (size_t)sprintf(bytes + at, "QC ");
    at += put_hash(bytes + at, 'r');
    memcpy(bytes + at, "Q\x86}\x87.", 5);
    assert_int_equal(runner_call(fix.runner, LEASE, 2, CALL_VALUES, bytes, at + 5, NULL), 0);
    finish_well();
    assert_int_equal(fix.needs, 5);
    assert_memory_equal(fix.calls[1].text, "\x80\x05K\2.", 5);
    assert_memory_equal(fix.calls[2].text, "\x80\x05", 2);
    assert_non_null(memmem(fix.calls[2].text, 30, "]\x94K\1a.", 6));
}

static void expect_refusal(uint32_t number, const char *text) {
    struct call *c = &fix.calls[number];

    assert_int_equal(c->kind, ANSWER_ERROR);
    assert_int_equal(c->text[0], 2);
    if (!strstr(c->text + 8, text))
        print_message("%s\n", c->text + 8);
    assert_non_null(strstr(c->text + 8, text));
}

static void objects_that_are_none(void **state) {
    char bytes[128] = {0, 1, 0, 0};

    fix.need = on_need;
    begin(lease_work(WORK_STREAM_FRAMES));
    call_value(1, 'l', 'x', 'x');
    call_value(2, 'l', 'A', 'A'); /* nobody has it */
    call_value(3, 'l', 'x', 'y'); /* it lists another */
    call_value(4, 'l', 'x', 0);
    assert_int_equal(runner_call(fix.runner, LEASE, 5, CALL_VALUES, bytes, 35, NULL), 0);
    bytes[0] = 2;
    assert_int_equal(runner_call(fix.runner, LEASE, 6, CALL_VALUES, bytes, 100, NULL), 0);
    memset(bytes, 'l', 32);
    memcpy(bytes + 32,
           "\x80\x03"
           "C\3abcQ\x85}\x86.",
           12);
    assert_int_equal(runner_call(fix.runner, LEASE, 7, CALL_HASH, bytes, 44, NULL), 0); /* one that lists none */
    memcpy(bytes, "\1\0\0\0", 4);
    memset(bytes + 4, 'l', 32);
    memcpy(bytes + 36,
           "\x80\x03"
           "C\3abcQ\x85}\x86.",
           12);
    assert_int_equal(runner_call(fix.runner, LEASE, 8, CALL_VALUES, bytes, 48, NULL), 0);
    call_value(9, 'l', 'x', 'x');
    finish_well();
    expect_refusal(2, "a value of the call is not known");
    expect_refusal(3, "that the call does not list");
    expect_refusal(4, "that the call does not list");
    expect_refusal(5, "cut off");
    expect_refusal(6, "cut off");
    expect_refusal(7, "it refers to values, and lists none");
    expect_refusal(8, "not the 32 bytes of a hash");
    assert_memory_equal(fix.calls[1].text, "\x80\x05K\1.", 5);
    assert_memory_equal(fix.calls[9].text, "\x80\x05K\1.", 5);
}

/* Calls that were sent behind it, and the end of the lease, wait in the buffer meanwhile. */
static void large_values(void **state) {
    fix.need = on_need;
    begin(lease_work(WORK_STREAM_FRAMES));
    for (uint32_t i = 1; i <= 40; i++)
        call_value(i, 'l', (char)('B' + i % 20), (char)('B' + i % 20)); /* 100 MiB: what is needed next has just gone */
    for (uint32_t i = 41; i <= 50; i++)
        call_value(i, 'l', 'B', 'B');
    finish_well();
    assert_int_equal(fix.needs, 1 + 40);
    for (uint32_t i = 1; i <= 50; i++)
        assert_memory_equal(fix.calls[i].text, "\x80\x05\x95\6\0\0\0\0\0\0\0J\xf8\xff\x4f\0.", 17);
}

static void objects_in_a_process_of_its_own(void **state) {
    const char *env[] = {"COLOUR=green", NULL};
    struct work w = lease_work(WORK_STREAM_FRAMES);

    fix.need = on_need;
    w.env = env;
    begin(w);
    call_value(1, 'a', 'p', 'p');
    call_value(2, 'a', 'p', 'p');
    finish_well();
    assert_int_equal(fix.needs, 2);
    assert_memory_equal(fix.calls[2].text, "\x80\x05K\2.", 5);
}

/* Killed, or recalled behind it, while a worker waits for a value. */
static void waiting_for_a_value(void **state) {
    fix.need = withhold;
    begin(lease_work(WORK_STREAM_FRAMES));
    call_value(1, 'l', 'x', 'x');
    call_value(2, 'l', 'x', 'x');
    loop_until(&fix.withheld);
    assert_int_equal(runner_recall(fix.runner, LEASE, 1), 2);
    runner_kill(fix.runner, LEASE);
    loop_until(&fix.done);
    assert_int_equal(fix.outcome.end, WORK_SIGNALED);
    assert_int_equal(fix.first, 1);
}

/* A single call brings its values along. */
static void single_call_with_values(void **state) {
    char bytes[512] = {2, 0, 0, 0};
    uint32_t n = sizeof(pickled_list) - 1;
    size_t at = 4;
    struct work w = lease_work(WORK_CALL);

    for (char hash = 'p'; hash <= 'q'; hash++) {
        at += put_hash(bytes + at, hash);
        memcpy(bytes + at, &n, 4);
        memcpy(bytes + at + 4, pickled_list, n);
        at += 4 + n;
    }
    n = sizeof(pickled_append) - 1;
    memcpy(bytes + at, &n, 4);
    memcpy(bytes + at + 4, pickled_append, n);
    at += 4 + n;
    w.payload = bytes;
    w.payload_size = (uint32_t)(at + pickle_reference(bytes + at, 'q'));
    begin(w);
    loop_until(&fix.done);
    assert_int_equal(fix.outcome.end, WORK_DONE);
    assert_memory_equal(fix.calls[1].text, "\x80\x03K\2.", 5);
    pickle_reference(bytes + at, 'r');
    begin(w);
    loop_until(&fix.done);
    assert_int_equal(fix.outcome.end, WORK_REFUSED);
    assert_non_null(strstr(fix.calls[1].text + 8, "does not list"));
    w.payload_size = 60;
    begin(w);
    loop_until(&fix.done);
    assert_int_equal(fix.outcome.end, WORK_REFUSED);
    assert_non_null(strstr(fix.calls[1].text + 8, "cut off"));
}

int main(void) {
#define LEASE_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        LEASE_TEST(json_calls_ahead),
        LEASE_TEST(large_calls_are_lent),
        LEASE_TEST(pickled_calls),
        LEASE_TEST(functions_are_asked_for_once),
        LEASE_TEST(large_arguments_and_results),
        LEASE_TEST(crash_in_the_middle),
        LEASE_TEST(killed_lease),
        LEASE_TEST(recall_while_one_sleeps),
        LEASE_TEST(recall_at_any_moment),
        LEASE_TEST(output_is_of_its_call),
        LEASE_TEST(output_larger_than_a_pipe),
        LEASE_TEST(calls_leave_their_worker_in_order),
        LEASE_TEST(threads_end_the_worker_after_the_lease),
        LEASE_TEST(lease_with_an_environment_has_its_own_process),
        LEASE_TEST(lease_of_another_user),
        LEASE_TEST(death_of_the_forkserver_loses_the_lease),
        LEASE_TEST(lease_waits_for_a_forkserver),
        LEASE_TEST(held_lease_says_nothing),
        LEASE_TEST(call_that_spoils_its_worker),
        LEASE_TEST(single_call_of_two_pickles),
        LEASE_TEST(objects_are_asked_for_once),
        LEASE_TEST(objects_that_are_none),
        LEASE_TEST(large_values),
        LEASE_TEST(objects_in_a_process_of_its_own),
        LEASE_TEST(waiting_for_a_value),
        LEASE_TEST(single_call_with_values),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
