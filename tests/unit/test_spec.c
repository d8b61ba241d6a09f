/* What a job file is, by its content. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "net/session/frame.h"
#include "sched/job/spec.h"

static char why[SPEC_WHY];
static struct options *o;

static int kind_of(const void *bytes, size_t size) {
    enum work_kind kind;
    options_destroy(o);
    o = options_create();
    int rc = spec_read("x", bytes, size, &kind, o, why);
    return rc < 0 ? rc : (int)kind;
}
#define KIND(text) kind_of(text, sizeof(text) - 1)

static void test_kinds(void **state) {
    assert_int_equal(KIND("\x80\x04K\x01."), WORK_PICKLE);
    assert_int_equal(KIND("{\"call\": \"math.sqrt\", \"args\": [2]}"), WORK_JSON_CALL);
    assert_int_equal(KIND("{\"run\": [\"wc\"], \"stdin\": \"x\", \"priority\": 3}"), WORK_JSON_RUN);
    assert_int_equal(o->priority, 3);
    assert_int_equal(KIND("#!/bin/sh\n#ppfs: priority=4\n# more\n#ppfs: cpus=2\ntrue\n#ppfs: priority=9\n"),
                     WORK_PROGRAM);
    assert_int_equal(o->priority, 4);
    assert_int_equal(o->cpus, 2);
    assert_int_equal(KIND("#!/usr/bin/env python3\nprint(1)\n"), WORK_PYTHON);
    assert_int_equal(KIND("\x7f"
                          "ELF\x02\x01\x01"),
                     WORK_PROGRAM);
    assert_int_equal(KIND("print('\xc3\xa4')\n"), WORK_PYTHON);
    assert_int_equal(KIND(FRAME_MAGIC), WORK_STREAM_FRAMES);
    enum work_kind kind;
    /* written in one piece or in several */
    assert_true(spec_is_stream("s.jsonl", FRAME_MAGIC, FRAME_MAGIC_SIZE, &kind));
    assert_int_equal(kind, WORK_STREAM_FRAMES);
    assert_true(spec_is_stream("s.jsonl", "{", 1, &kind));
    assert_int_equal(kind, WORK_STREAM_JSON);
    assert_false(spec_is_stream("s.json", "{", 1, &kind));
    assert_int_equal(KIND("\x89ppfs\r\n\x1a\x01\x01\0\0\0\0\0\0"), WORK_STREAM_PORTABLE);
    assert_int_equal(KIND("\x89ppfs\r\n\x1a\x01\x02\0\0\0\0\0\0"), -EINVAL);
    assert_int_equal(KIND("\x89ppfs\r\n\x1a\x01\x01\0\0\0\0\0\x01"), -EINVAL);
    assert_int_equal(KIND("\x89ppfs\r\n\x1a\x01\x01\0\0\0\0\0"), -EINVAL);
}

static void test_refused(void **state) {
    static const char *const bad[] = {"{",
                                      "{}",
                                      "{\"call\": 1}",
                                      "{\"call\": \"a\", \"run\": [\"b\"]}",
                                      "{\"run\": []}",
                                      "{\"run\": [1]}",
                                      "{\"call\": \"a\", \"args\": 3}",
                                      "{\"call\": \"a\", \"kwargs\": []}",
                                      "{\"run\": [\"a\"], \"stdin\": 4}",
                                      "{\"call\": \"a\", \"shoe\": 3}",
                                      "\x80\x09.",
                                      "#ppfs: shoe=3\n"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        why[0] = 0;
        assert_int_equal(kind_of(bad[i], strlen(bad[i])), -EINVAL);
        assert_true(strlen(why) > 10);
    }
    assert_int_equal(KIND("abc\0def"), -EINVAL);
    assert_int_equal(KIND("\xff\xfe\x00"), -EINVAL);
    assert_int_equal(KIND("ok \xc3("), -EINVAL);
    /* a character on the border of two pieces of the check */
    size_t size = (1u << 20) + 3;
    char *text = malloc(size);
    memset(text, 'a', size);
    memcpy(text + (1u << 20) - 1, "\xe2\x82\xac", 3);
    assert_int_equal(kind_of(text, size), WORK_PYTHON);
    free(text);
}

/* What editors of Windows put before a text is no part of it, and blank space before JSON is JSON's. */
static void test_marks(void **state) {
#define MARK "\xef\xbb\xbf"
    assert_int_equal(KIND(MARK "{\"run\": [\"touch\", \"ran\"], \"timeout\": 5}"), WORK_JSON_RUN);
    assert_int_equal(o->timeout_us, 5000000);
    assert_int_equal(KIND("\n \t{\"run\": [\"true\"]}"), WORK_JSON_RUN);
    assert_int_equal(KIND(MARK "#!/bin/sh\n#ppfs: priority=3\n"), WORK_PROGRAM);
    assert_int_equal(o->priority, 3);
    assert_int_equal(KIND(MARK "#!/usr/bin/env python3\nprint(1)\n"), WORK_PYTHON);
    assert_int_equal(KIND(MARK "#ppfs: priority=4\nprint(1)\n"), WORK_PYTHON);
    assert_int_equal(o->priority, 4);
    assert_int_equal(spec_needs("x", MARK "{", 4, 1u << 30), SPEC_JSON_MAX + 1);
    assert_int_equal(spec_needs("x", MARK "#!", 5, 1u << 30), SPEC_JSON_MAX + 1);
    assert_int_equal(spec_needs("x", "\n\n", 2, 1u << 30), SPEC_SOURCE_MAX + 1); /* what it is stands behind the head */
}

static void test_lines(void **state) {
    assert_int_equal(KIND("#!/bin/sh\r\necho\r\n"), -EINVAL);
    assert_non_null(strstr(why, "CR LF"));
    assert_non_null(strstr(why, "/bin/sh"));
    assert_int_equal(KIND("#!/usr/bin/env python3\r\n#ppfs: cpus=2\r\nprint(1)\r\n"), WORK_PYTHON);
    assert_int_equal(o->cpus, 2);
    assert_int_equal(KIND("\n#!/bin/sh\necho\n"), -EINVAL);
    assert_non_null(strstr(why, "blank"));
    assert_int_equal(KIND("\n#!/usr/bin/env python3\nprint(1)\n"), WORK_PYTHON);
    static const char slurm[] = "#!/bin/sh\n# a\n#SBATCH -n 4\n", late[] = "#!/bin/sh\ntrue\n#SBATCH -n 4\n";
    assert_non_null(spec_ignored(slurm, sizeof slurm - 1));
    assert_null(spec_ignored(late, sizeof late - 1));
}

/* The function is given what nobody here can read; the options are. */
static void test_arguments(void **state) {
    static const char *const good[] = {
        "{\"call\": \"a\", \"args\": [18446744073709551616, 1e400, -0, NaN, \"\\udce9\\\\\", {\"a\": [\"]\", "
        "\"\\\"\"]}], \"cpus\": 2}",
        "{\"call\":\"a\",\"kwargs\":{\"args\":{},\"x\":[[]]},\"cpus\":2}",
        "{\"call\": \"a\", \"nan\": \"null\", \"cpus\": 2.0}",
        "{\"run\": [\"cat\", \"caf\\udce9\", \"\\ud83d\\ude00\"], \"cpus\": 2, \"stdin\": \"\\udcff\\u0001\"}"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        if (kind_of(good[i], strlen(good[i])) < 0)
            fail_msg("%s: %s", good[i], why);
        assert_int_equal(o->cpus, 2);
    }
    assert_int_equal(KIND("{\"run\": [\"a\"], \"cwd\": \"/caf\\udce9\\u00e9\\u0001\", \"env\": {\"K\\udcff\": "
                          "18446744073709551616, \"F\": 0.1}, \"after\": [\"\\udc80x\", \"7\"]}"),
                     WORK_JSON_RUN);
    assert_string_equal(o->cwd, "/caf\xe9\xc3\xa9\1");
    assert_string_equal(options_env(o)[0], "K\xff=18446744073709551616");
    assert_string_equal(options_env(o)[1], "F=0.1");
    assert_string_equal(options_after(o)[0], "\x80x");
    assert_string_equal(options_after(o)[1], "7");
    static const struct {
        const char *text, *word;
    } bad[] = {{"{\"call\": \"a\", \"args\": [1], \"args\": [2]}", "args"},
               {"{\"call\": \"a\", \"after\": [\"b\", 1]}", "after"},
               {"{\"call\": \"a\", \"args\": [}", "JSON"},
               {"{\"call\": \"a\",\n\"args\": [1,\n2], ]}", "line 3"},
               {"{\"call\": \"a\", \"priority\": 18446744073709551616}", "priority=18446744073709551616"},
               {"{\"call\": \"a\", \"cwd\": \"\\udce9\"}", "cwd"},
               {"{\"call\": \"a\", \"cwd\": \"/\\ud800\"}", "JSON"},
               {"{\"call\": \"a\", \"cwd\": \"/\\u0000\"}", "cwd"},
               {"{\"call\": \"a\", \"timeout\": 1e400}", "timeout=1e400"},
               {"{\"call\": \"a\", \"cpus\": 01}", "JSON"},
               {"{\"call\": \"a\", \"cpus\": [1]}", "cpus"},
               {"{\"call\": \"a\", \"nan\": 3}", "nan"},
               {"{\"call\": \"a\", \"env\": {\"A\": NaN}}", "JSON"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (kind_of(bad[i].text, strlen(bad[i].text)) != -EINVAL || !strstr(why, bad[i].word))
            fail_msg("%s: %s", bad[i].text, why);
    }
}

/* Of a large file only as much is read as tells what it is. */
static void test_needs(void **state) {
    const uint64_t large = (uint64_t)1 << 40;
    assert_int_equal(spec_needs("x", "\x80\x04K", 3, large), SPEC_HEAD);
    assert_int_equal(spec_needs("x",
                                "\x7f"
                                "ELF",
                                4, large),
                     SPEC_HEAD);
    assert_int_equal(spec_needs("x.jsonl", "{", 1, large), SPEC_HEAD);
    assert_int_equal(spec_needs("x", FRAME_MAGIC, FRAME_MAGIC_SIZE, large), SPEC_HEAD);
    assert_int_equal(spec_needs("x", "{\"call\"", 7, large), SPEC_JSON_MAX + 1);
    assert_int_equal(spec_needs("x", "#!/bin/sh", 9, large), SPEC_JSON_MAX + 1);
    assert_int_equal(spec_needs("x", "print(1)", 8, large), SPEC_SOURCE_MAX + 1);
    assert_int_equal(spec_needs("x", "#!/bin/sh", 9, 100), 100);
    assert_int_equal(spec_needs("x", "", 0, 0), 0);
}

/* What a program is, its first bytes say, however large it is; what is read whole has a limit. */
static void test_large(void **state) {
    static const struct {
        const char *head;
        int kind;
    } files[] = {{"#!/bin/sh\n", WORK_PROGRAM},
                 {"\x7f"
                  "ELF",
                  WORK_PROGRAM},
                 {"\x80\x04", WORK_PICKLE},
                 {"print(1)\n", -EINVAL},
                 {"#!/usr/bin/env python3\n", -EINVAL},
                 {"\n\n\n", -EINVAL},
                 {"#ppfs: priority=1\n", -EINVAL},
                 {"{}", -EINVAL}};
    char *text = malloc(SPEC_SOURCE_MAX + 1);
    assert_non_null(text);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        memset(text, ' ', SPEC_SOURCE_MAX + 1);
        memcpy(text, files[i].head, strlen(files[i].head));
        assert_int_equal(kind_of(text, SPEC_SOURCE_MAX + 1), files[i].kind);
        assert_true(files[i].kind > 0 || strstr(why, "16 MiB"));
    }
    memcpy(text, "   ", 3);
    assert_int_equal(kind_of(text, SPEC_SOURCE_MAX), WORK_PYTHON);
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_kinds),     cmocka_unit_test(test_refused),
                                       cmocka_unit_test(test_marks),     cmocka_unit_test(test_lines),
                                       cmocka_unit_test(test_arguments), cmocka_unit_test(test_needs),
                                       cmocka_unit_test(test_large)};
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    options_destroy(o);
    return rc;
}
