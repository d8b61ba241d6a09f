
#include "tests/unit/poolrig.h"

struct fixture fix;

void on_output(void *arg, uint64_t job, enum output_kind stream, const void *bytes, size_t size) {
    struct job *j = &fix.jobs[job % JOBS];
    size_t have = j->size[stream] < KEEP - 1 ? (size_t)j->size[stream] : KEEP - 1;
    size_t take = size < KEEP - 1 - have ? size : KEEP - 1 - have;

    assert_false(j->done);
    memcpy(j->bytes[stream] + have, bytes, take);
    j->size[stream] += size;
}

void on_done(void *arg, uint64_t job, const struct work_outcome *o) {
    assert_false(fix.jobs[job % JOBS].done);
    fix.jobs[job % JOBS].done = true;
    fix.jobs[job % JOBS].outcome = *o;
}

void on_trouble(void *arg, const char *sentence) {
    fix.troubles++;
    snprintf(fix.trouble, sizeof(fix.trouble), "%s", sentence);
}

static void on_patience(evutil_socket_t fd, short what, void *arg) {
    fix.gave_up = true;
}

void loop_until(const bool *flag) {
    struct event *timer = evtimer_new(fix.base, on_patience, NULL);
    struct timeval patience = {.tv_sec = PATIENCE_S};

    fix.gave_up = false;
    event_add(timer, &patience);
    while (!*flag && !fix.gave_up)
        event_base_loop(fix.base, EVLOOP_ONCE);
    event_free(timer);
    assert_true(*flag);
}

void loop_for_ms(int ms) {
    struct event *timer = evtimer_new(fix.base, on_patience, NULL);
    struct timeval pause = {.tv_usec = ms * 1000};

    fix.gave_up = false;
    event_add(timer, &pause);
    while (!fix.gave_up)
        event_base_loop(fix.base, EVLOOP_ONCE);
    event_free(timer);
}

const char *worker_path(void) {
    const char *path = getenv("PPFS_WORKER");
    return path ? path : "./ppfs-worker";
}

void pool_with(const struct pool_config *config) {
    struct runner_events events = {.output = on_output, .done = on_done, .trouble = on_trouble};

    unsetenv("VIRTUAL_ENV");
    memset(&fix, 0, sizeof(fix));
    fix.base = event_base_new();
    assert_int_equal(pool_create(&fix.pool, fix.base, config, &events, NULL), 0);
    pool_runner(fix.pool, &fix.runner);
}

void pool_up(unsigned workers) {
    pool_with(&(struct pool_config){.worker_path = worker_path(), .workers = workers});
}

int setup(void **state) {
    pool_up(2);
    return 0;
}

int teardown(void **state) {
    pool_destroy(fix.pool);
    event_base_free(fix.base);
    assert_nothing_left();
    return 0;
}

struct work base_work(enum work_kind kind, const void *payload, size_t size) {
    return (struct work){.kind = kind,
                         .attempt = 1,
                         .name = "t",
                         .node = "local",
                         .cwd = "/",
                         .uid = geteuid(),
                         .gid = getegid(),
                         .payload = payload,
                         .payload_size = (uint32_t)size};
}

struct job *begin(struct work w) {
    w.job = ++fix.last;
    struct job *j = &fix.jobs[w.job % JOBS];
    memset(j, 0, sizeof(*j));
    assert_int_equal(runner_start(fix.runner, &w), 0);
    assert_false(j->done);
    return j;
}

struct job *run(struct work w) {
    struct job *j = begin(w);
    loop_until(&j->done);
    return j;
}

struct work text(enum work_kind kind, const char *s) {
    return base_work(kind, s, strlen(s));
}

void assert_end(const struct job *j, enum work_end end, int status, const char *why) {
    if (j->outcome.end != end || (why && !strstr(j->outcome.why, why)))
        print_message("end %d status %d why '%s'\nstderr: %s\ntrace: %s\n", j->outcome.end, j->outcome.status,
                      j->outcome.why, ERR(j), TRACE(j));
    assert_int_equal(j->outcome.end, end);
    assert_int_equal(j->outcome.status, status);
    if (why)
        assert_non_null(strstr(j->outcome.why, why));
}

void assert_text(const char *whole, const char *part) {
    if (!strstr(whole, part))
        print_message("'%s' is not in '%s'\n", part, whole);
    assert_non_null(strstr(whole, part));
}

size_t pickle_exec(const char *source, uint8_t *to) {
    return (size_t)sprintf((char *)to,
                           "\x80\x02"
                           "c__builtin__\nexec\nX%c%c%c%c%s\x85\x86.",
                           (int)(strlen(source) & 0xff), (int)(strlen(source) >> 8), 1, 1, source);
}

struct job *begin_exec(const char *source) {
    static uint8_t bytes[8192];
    size_t size = pickle_exec(source, bytes);
    /* sprintf cannot write the zero bytes of the length: put them in here */
    uint8_t *len = (uint8_t *)memchr(bytes, 'X', size);
    len[3] = len[4] = 0;
    if (strlen(source) < 256)
        len[2] = 0;
    return begin(base_work(WORK_PICKLE, bytes, size));
}

struct job *run_exec(const char *source) {
    struct job *j = begin_exec(source);
    loop_until(&j->done);
    return j;
}
