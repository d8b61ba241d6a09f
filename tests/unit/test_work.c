/* Work and outcomes as bytes: round trips, caps, and that nothing hostile gets through; and the small parts below it
 * (wait statuses in words, processors). */
#include <errno.h>
#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "net/session/frame.h"
#include "worker/runner/cpus.h"
#include "worker/runner/reap.h"
#include "worker/runner/resources.h"
#include "worker/runner/work.h"

static const char *const env[] = {"PPFS_INDEX=3", "A=", "B=x=y", NULL};

static struct work example(void) {
    return (struct work){.job = UINT64_MAX - 1,
                         .attempt = 3,
                         .kind = WORK_PROGRAM,
                         .name = "G/x y",
                         .node = "local",
                         .cwd = "/tmp",
                         .cwd_required = true,
                         .uid = 1000,
                         .gid = 100,
                         .memory = UINT64_C(1) << 40,
                         .sandbox = 2,
                         .env = env,
                         .payload = "#!/bin/sh\n",
                         .payload_size = 10};
}

static void work_round_trip(void **state) {
    struct work w = example(), got;
    void *bytes, *hold;
    uint32_t size;
    assert_int_equal(work_encode(&w, &bytes, &size), 0);
    assert_true(size <= FRAME_BODY_MAX);
    assert_int_equal(work_decode(bytes, size, &got, &hold), 0);
    assert_true(got.job == w.job && got.attempt == 3 && got.kind == WORK_PROGRAM && got.cwd_required);
    assert_true(got.uid == 1000 && got.gid == 100 && got.memory == w.memory && got.sandbox == 2);
    assert_string_equal(got.name, "G/x y");
    assert_string_equal(got.node, "local");
    assert_string_equal(got.cwd, "/tmp");
    for (int i = 0; i < 3; i++)
        assert_string_equal(got.env[i], env[i]);
    assert_null(got.env[3]);
    assert_null(got.file);
    assert_true(!got.files_in && !got.files_out && !got.files);
    assert_int_equal(got.payload_size, 10);
    assert_memory_equal(got.payload, "#!/bin/sh\n", 10);
    free(hold);
    free(bytes);
    w.file = "/pack";
    w.files_in = w.files_out = true;
    w.files = "a,b/*";
    assert_int_equal(work_encode(&w, &bytes, &size), 0);
    assert_int_equal(work_decode(bytes, size, &got, &hold), 0);
    assert_true(got.files_in && got.files_out && got.payload_size == 10);
    assert_string_equal(got.files, "a,b/*");
    assert_string_equal(got.file, "/pack");
    free(hold);
    free(bytes);
    w.files_in = false; /* then the file is the payload; and names are needed for what comes back */
    w.file = w.files = NULL;
    assert_int_equal(work_encode(&w, &bytes, &size), 0);
    assert_int_equal(work_decode(bytes, size, &got, &hold), -EPROTO);
    free(bytes);
    w.files_out = false;
    w.file = "/spool/1";
    w.env = NULL;
    w.cwd = NULL;
    assert_int_equal(work_encode(&w, &bytes, &size), 0);
    assert_int_equal(work_decode(bytes, size, &got, &hold), 0);
    assert_string_equal(got.file, "/spool/1");
    assert_string_equal(got.cwd, "");
    assert_true(!got.env && !got.payload && !got.payload_size && !hold);
    free(bytes);
}

/* What one build says another understands, or refuses by its number. Where this fails, or the assertion, raise
 * WORK_FORMAT in work.c and write here what stands there now. */
_Static_assert(sizeof(void *) != 8 || (sizeof(struct work) == 112 && sizeof(struct work_outcome) == 560),
               "a field was added");

static void bytes_change_with_the_format(void **state) {
    static const char format_2[] =
        "\2\0\0\0\5\0\0\0\x13\0\0\0\3\0\0\0\xfe\xff\xff\xff\xff\xff\xff\xff\xe8\3\0\0d\0\0\0\0\0\0\0\0\1\0\0\6\0\0\0G/"
        "x y\0"
        "\6\0\0\0local\0\5\0\0\0/tmp\0\3\0\0\0\15\0\0\0PPFS_INDEX=3\0\3\0\0\0A=\0\6\0\0\0B=x=y\0#!/bin/sh\n";
    static const char outcome_1[] = "\1\0\0\0\3\0\0\0\2\0\0\0\3\0\0\0\0\0\0\0\4\0\0\0\0\0\0\0\5\0\0\0\0\0\0\0"
                                    "\6\0\0\0\0\0\0\0\4\0\0\0why";
    struct work w = example();
    struct work_outcome o = {.end = WORK_SIGNALED,
                             .attempt = 1,
                             .status = 2,
                             .user_us = 3,
                             .system_us = 4,
                             .wall_us = 5,
                             .maxrss_kib = 6,
                             .why = "why"};
    uint8_t outcome[1024];
    void *bytes;
    uint32_t size;

    assert_int_equal(work_encode(&w, &bytes, &size), 0);
    assert_int_equal(size, sizeof(format_2) - 1);
    assert_memory_equal(bytes, format_2, size);
    free(bytes);
    work_outcome_encode(&o, outcome, &size);
    assert_int_equal(size, sizeof(outcome_1));
    assert_memory_equal(outcome, outcome_1, size);
}

static void what_is_too_large_is_not_sent(void **state) {
    struct work w = example();
    void *bytes;
    uint32_t size;
    char *large = malloc(WORK_META_MAX + 1);
    memset(large, 'x', WORK_META_MAX);
    large[WORK_META_MAX] = 0;
    w.payload = large;
    w.payload_size = WORK_INLINE_MAX;
    assert_int_equal(work_encode(&w, &bytes, &size), 0);
    assert_true(size <= FRAME_BODY_MAX);
    free(bytes);
    w.payload_size++;
    assert_int_equal(work_encode(&w, &bytes, &size), -EMSGSIZE);
    w = example();
    w.cwd = large;
    assert_int_equal(work_encode(&w, &bytes, &size), -EMSGSIZE);
    free(large);
}

static void every_cut_and_addition_is_refused(void **state) {
    struct work w = example(), got;
    void *bytes, *hold;
    uint32_t size;
    w.payload_size = 0; /* then nothing may follow the last string */
    w.file = "/spool/1";
    assert_int_equal(work_encode(&w, &bytes, &size), 0);
    for (uint32_t len = 0; len < size; len++) {
        void *cut = malloc(len + 1);
        memcpy(cut, bytes, len);
        assert_int_equal(work_decode(cut, len, &got, &hold), -EPROTO);
        assert_null(hold);
        free(cut);
    }
    void *longer = calloc(1, size + 1);
    memcpy(longer, bytes, size);
    assert_int_equal(work_decode(longer, size + 1, &got, &hold), -EPROTO);
    free(longer);
    free(bytes);
}

static void nobody_stays_who_he_is(void **state) {
    struct work w[2] = {example(), example()}, got;
    void *bytes, *hold;
    uint32_t size;
    w[0].uid = (uid_t)-1;
    w[1].gid = (gid_t)-1;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(work_encode(&w[i], &bytes, &size), 0);
        assert_int_equal(work_decode(bytes, size, &got, &hold), -EPROTO);
        assert_null(hold);
        free(bytes);
    }
}

/* A worker makes files of the last part of a name, and removes what is in their way. */
static void a_name_leads_nowhere_else(void **state) {
    static char longest[NAME_MAX + 1], longer[NAME_MAX + 2];
    memset(longest, 'x', NAME_MAX);
    memset(longer, 'x', NAME_MAX + 1);
    const struct {
        const char *name;
        bool taken;
    } names[] = {{"x", true},   {".x", true},    {"..x", true}, {"G/H/x", true},  {longest, true},
                 {"", false},   {".", false},    {"..", false}, {"G/..", false},  {"../x", false},
                 {"/x", false}, {"G//x", false}, {"G/", false}, {"G/./x", false}, {longer, false}};
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        struct work w = example(), got;
        void *bytes, *hold = NULL;
        uint32_t size;
        w.name = names[i].name;
        assert_int_equal(work_encode(&w, &bytes, &size), 0);
        assert_int_equal(work_decode(bytes, size, &got, &hold), names[i].taken ? 0 : -EPROTO);
        free(hold);
        free(bytes);
    }
    struct work w = example(), got;
    void *bytes, *hold;
    uint32_t size;
    w.node = "../x";
    assert_int_equal(work_encode(&w, &bytes, &size), 0);
    assert_int_equal(work_decode(bytes, size, &got, &hold), -EPROTO);
    free(bytes);
}

static void spoiled_work_is_harmless(void **state) {
    struct work w = example(), got;
    void *bytes, *hold;
    uint32_t size;
    size_t accepted = 0;
    assert_int_equal(work_encode(&w, &bytes, &size), 0);
    srandom(2);
    for (int round = 0; round < 30000; round++) {
        size_t len = random() % 4 ? size : (size_t)random() % (size + 1);
        uint8_t *spoiled = malloc(len + 1);
        memcpy(spoiled, bytes, len);
        for (int i = 0; len && i < 1 + (int)(random() % 3); i++)
            spoiled[(size_t)random() % len] = (uint8_t)random();
        if (work_decode(spoiled, len, &got, &hold) == 0) {
            accepted++;
            assert_true(got.kind > WORK_NONE && got.kind <= WORK_CALL && got.payload_size <= WORK_INLINE_MAX);
            size_t used = strlen(got.name) + strlen(got.node) + strlen(got.cwd);
            for (size_t i = 0; got.env && got.env[i]; i++)
                used += strlen(strchr(got.env[i], '='));
            assert_true(used < len);
            free(hold);
        }
        free(spoiled);
    }
    assert_true(accepted > 0);
    free(bytes);
}

static void only_plain_calls_run_in_the_worker(void **state) {
    static const char *const none[] = {NULL};
    struct work w = {.kind = WORK_PICKLE, .uid = geteuid(), .gid = getegid()};
    assert_false(work_isolated(&w));
    w.kind = WORK_JSON_CALL;
    w.env = none;
    assert_false(work_isolated(&w));
    w.env = env;
    assert_true(work_isolated(&w));
    w.env = NULL;
    w.memory = 1;
    assert_true(work_isolated(&w));
    w.memory = 0;
    w.sandbox = 1;
    assert_true(work_isolated(&w));
    w.sandbox = 0;
    w.uid++;
    assert_true(work_isolated(&w));
    w.uid--;
    for (w.kind = WORK_JSON_RUN; w.kind <= WORK_PROGRAM; w.kind++)
        assert_true(work_isolated(&w));
}

static void outcome_round_trip(void **state) {
    struct work_outcome o = {.attempt = 9,
                             .end = WORK_SIGNALED,
                             .status = 11,
                             .user_us = 1,
                             .system_us = INT64_C(1) << 50,
                             .wall_us = 3,
                             .maxrss_kib = 4},
                        got;
    uint8_t bytes[1024];
    uint32_t size;
    memset(o.why, 'w', sizeof(o.why) - 1);
    work_outcome_encode(&o, bytes, &size);
    assert_true(size <= sizeof(bytes));
    assert_int_equal(work_outcome_decode(bytes, size, &got), 0);
    assert_true(got.attempt == 9 && got.end == WORK_SIGNALED && got.status == 11 && got.user_us == 1 &&
                got.system_us == INT64_C(1) << 50 && got.wall_us == 3 && got.maxrss_kib == 4);
    assert_string_equal(got.why, o.why);
    for (uint32_t len = 0; len < size; len++)
        assert_int_equal(work_outcome_decode(bytes, len, &got), -EPROTO);
    bytes[size] = 0;
    assert_int_equal(work_outcome_decode(bytes, size + 1, &got), -EPROTO);
    struct work_outcome wrong[] = {
        {.user_us = -1}, {.system_us = INT64_MAX}, {.wall_us = -1}, {.maxrss_kib = INT64_MIN}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        work_outcome_encode(&wrong[i], bytes, &size);
        assert_int_equal(work_outcome_decode(bytes, size, &got), -EPROTO);
    }
    for (int bits = 0; bits < 3; bits++) {
        struct work_outcome lost = {.end = WORK_LOST, .unbegun = bits > 0, .no_room = bits > 1};
        uint8_t some[1024];
        uint32_t length;
        work_outcome_encode(&lost, some, &length);
        assert_int_equal(work_outcome_decode(some, length, &got), 0);
        assert_true(got.end == WORK_LOST && got.status == 0 && got.unbegun == (bits > 0) && got.no_room == (bits > 1));
    }
    bytes[4] = WORK_LOST + 1;
    assert_int_equal(work_outcome_decode(bytes, size, &got), -EPROTO);
    srandom(3);
    for (int round = 0; round < 20000; round++) {
        work_outcome_encode(&o, bytes, &size);
        bytes[(size_t)random() % size] = (uint8_t)random();
        if (work_outcome_decode(bytes, size, &got) == 0)
            assert_true(got.end <= WORK_LOST && strlen(got.why) < sizeof(got.why));
    }
}

static void statuses_in_words(void **state) {
    char words[128];
    assert_string_equal(reap_status_words(W_EXITCODE(3, 0), words, sizeof(words)), "exit status 3");
    assert_string_equal(reap_status_words(SIGSEGV, words, sizeof(words)), "killed by SIGSEGV");
    assert_string_equal(reap_status_words(SIGRTMIN + 1, words, sizeof(words)), "killed by signal 35");
}

static void a_tree_can_be_killed(void **state) {
    assert_int_equal(reap_parent(getpid()), getppid());
    assert_int_equal(reap_parent(0), 0);
    assert_true(reap_all(1000)); /* nothing to kill */
    for (int i = 0; i < 3; i++)
        if (fork() == 0) {
            pause();
            _exit(0);
        }
    assert_true(reap_all(10000));
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
}

static void there_is_a_processor(void **state) {
    assert_in_range(cpus_available(), 1, (unsigned)sysconf(_SC_NPROCESSORS_CONF));
}

static void there_is_memory(void **state) {
    assert_in_range(cpus_memory(), 1 << 20, (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE));
}

static void test_what_is_no_resource(void **state) {
    static const char *const wrong[] = {"",
                                        "gpu",
                                        "gpu=",
                                        "=1",
                                        "gpu=0",
                                        "gpu=65",
                                        "gpu=001",
                                        "gpu=1 ",
                                        "1gpu=1",
                                        "_g=1",
                                        "g:1",
                                        "gpu=-1",
                                        "gpu=1x",
                                        "a=1=1",
                                        "g\xc3=1",
                                        "g p=1",
                                        "a2345678901234567=1"};
    struct resources r = {0};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_int_equal(resources_add(&r, wrong[i], strlen(wrong[i])), -EINVAL);
    assert_int_equal(resources_add(&r, "gpu=1\0", 6), -EINVAL);
    assert_int_equal(r.count, 0);
    assert_int_equal(resources_parse(&r, "a=1,a=1", 7), -EINVAL);
    r.count = 0;
    assert_int_equal(resources_parse(&r, "a=1,", 4), -EINVAL);
    r.count = 0;
    assert_int_equal(resources_parse(&r, "a=1,b=1,c=1,d=1,e=1,f=1,g=1,h=1,i=1", 35), -EINVAL);
}

static void what_a_python_lacks(void **state) {
    static const struct {
        const char *why, *module; /* NULL: it lacks none */
    } all[] = {
        {"the call could not be unpickled on the node a: ModuleNotFoundError: No module named 'x.y'", "x.y"},
        {"the call could not be unpickled on the node a: ModuleNotFoundError: hidden", ""},
        {"the call could not be unpickled on the node a: ModuleNotFoundError: No module named 'x", ""},
        {"the call could not be unpickled on the node a: ?\nNo module named 'x'", ""},
        {"there is no module 'm' here to call 'm.f' from", "m"},
        {"there is no module '", NULL},
        {"ModuleNotFoundError: No module named 'x'", NULL},
        {"the call could not be unpickled: AttributeError", NULL},
        {"", NULL},
    };
    char module[WORK_MODULE], text[256], full[WORK_MODULE];
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        assert_int_equal(work_lacks(all[i].why, strlen(all[i].why), module), all[i].module != NULL);
        assert_string_equal(module, all[i].module ? all[i].module : "");
    }
    memset(full, 'm', sizeof full);
    int size = snprintf(text, sizeof text, "there is no module '%.*s%.*s' here", 64, full, 64, full);
    assert_true(work_lacks(text, (size_t)size, module));
    assert_int_equal(strlen(module), WORK_MODULE - 1);
    assert_true(work_lacks("there is no module '\033[2Jm' here", 32,
                           module)); /* it comes from a user, and goes to a terminal */
    assert_null(strchr(module, '\033'));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(work_round_trip),
                                       cmocka_unit_test(bytes_change_with_the_format),
                                       cmocka_unit_test(what_is_too_large_is_not_sent),
                                       cmocka_unit_test(every_cut_and_addition_is_refused),
                                       cmocka_unit_test(nobody_stays_who_he_is),
                                       cmocka_unit_test(a_name_leads_nowhere_else),
                                       cmocka_unit_test(spoiled_work_is_harmless),
                                       cmocka_unit_test(only_plain_calls_run_in_the_worker),
                                       cmocka_unit_test(outcome_round_trip),
                                       cmocka_unit_test(statuses_in_words),
                                       cmocka_unit_test(what_a_python_lacks),
                                       cmocka_unit_test(there_is_memory),
                                       cmocka_unit_test(a_tree_can_be_killed),
                                       cmocka_unit_test(there_is_a_processor),
                                       cmocka_unit_test(test_what_is_no_resource)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
