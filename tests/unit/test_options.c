/* Options: words, JSON, what is refused and how, and the round trip through the database's text. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sched/job/options.h"
#include "worker/forkserver/sandbox.h"

static char why[OPTIONS_WHY];

static int more_words(struct options *o, const char *text) {
    return options_add_words(o, text, strlen(text), why);
}

static int words(struct options *o, const char *text) {
    options_begin(o);
    return more_words(o, text);
}

/* What is given again is not lost: lists add up, all else is refused. */
static void test_given_twice(void **state) {
    (void)state;
    static const char *const twice[] = {"priority=1 priority=2",   "cwd=/a cwd=/a",     "timeout=1 cpus=2 timeout=1",
                                        "env=A:1 env=B:2 env=A:3", "drafts=a drafts=b", "max=1 max=2"};
    struct options *o;
    for (size_t i = 0; i < sizeof twice / sizeof *twice; i++) {
        o = options_create();
        assert_int_equal(words(o, twice[i]), -EINVAL);
        assert_non_null(strstr(why, "is given twice"));
        options_destroy(o);
    }
    assert_string_equal(why, "option max= is given twice");
    o = options_create();
    assert_int_equal(words(o, "after=g env=A:g env=B:g priority=1"), 0); /* of a group */
    assert_int_equal(words(o, "after=a,b env=A:1"), 0);
    assert_int_equal(more_words(o, "priority=2 after=c"), 0);
    char *all = options_words(o);
    assert_string_equal(all, "priority=2\nafter=a,b,c\nenv=B:g\nenv=A:1\n");
    free(all);
    assert_int_equal(more_words(o, "env=A:2"), -EINVAL);
    assert_string_equal(why, "option env=A is given twice");
    options_destroy(o);
}

static void test_words(void **state) {
    struct options *o = options_create();
    assert_int_equal(o->cpus, 1);
    assert_int_equal(words(o, " priority=-5\ttimeout=1.5s retries=2 cpus=3 memory=500M hold=1 after=a,G/b 'cwd=/a b' "
                              "node=gpu* env=A:2 env=B:x=y:z sandbox=net-off,ro"),
                     0);
    assert_int_equal(o->priority, -5);
    assert_int_equal(o->timeout_us, 1500000);
    assert_int_equal(o->retries, 2);
    assert_int_equal(o->cpus, 3);
    assert_int_equal(o->memory, 500u << 20);
    assert_true(o->hold);
    assert_int_equal(o->sandbox, SANDBOX_RO | SANDBOX_NET_OFF);
    assert_string_equal(o->cwd, "/a b");
    assert_string_equal(o->node, "gpu*");
    assert_string_equal(options_after(o)[1], "G/b");
    assert_null(options_after(o)[2]);
    assert_string_equal(options_env(o)[0], "A=2");
    assert_string_equal(options_env(o)[1], "B=x=y:z");
    assert_null(options_env(o)[2]);
    options_destroy(o);
}

static void test_refused(void **state) {
    static const char *const bad[] = {"colour=red",
                                      "priority",
                                      "priority=",
                                      "priority=1.5",
                                      "priority=99999999999999999999",
                                      "timeout=nan",
                                      "timeout=-1",
                                      "timeout=5 parsecs",
                                      "timeout=0",
                                      "memory=1e400",
                                      "cpus=0",
                                      "retries=-1",
                                      "hold=2",
                                      "cwd=relative",
                                      "env=novalue",
                                      "env=:x",
                                      "after=a,,b",
                                      "after=",
                                      "'cwd=/x",
                                      "node=",
                                      "sandbox=",
                                      "sandbox=rw",
                                      "sandbox=ro,"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct options *o = options_create();
        why[0] = 0;
        assert_int_equal(words(o, bad[i]), -EINVAL);
        assert_true(strlen(why) > 10);
        options_destroy(o);
    }
    struct options *o = options_create();
    assert_int_equal(words(o, "priority=1 colour=red"), -EINVAL);
    assert_non_null(strstr(why, "colour"));
    assert_int_equal(options_add_words(o, "a\0b", 3, why), -EINVAL);
    options_destroy(o);
}

static void test_drafts(void **state) {
    struct options *o = options_create(), *again = options_create();
    assert_null(options_drafts(o));
    assert_int_equal(words(o, "drafts=*.bak,old-?"), 0);
    assert_string_equal(options_drafts(o)[1], "old-?");
    assert_null(options_drafts(o)[2]);
    assert_int_equal(words(o, "drafts=*.new"), 0);
    assert_string_equal(options_drafts(o)[0], "*.new");
    assert_int_equal(words(o, "drafts="), 0);
    assert_null(options_drafts(o)[0]);
    char *saved = options_save(o);
    assert_non_null(strstr(saved, OPTIONS_SAVED_DRAFTS));
    assert_int_equal(options_load(again, saved), 0);
    assert_non_null(options_drafts(again));
    assert_null(options_drafts(again)[0]);
    free(saved);
    options_drop_of_group(again);
    assert_null(options_drafts(again));
    assert_string_equal(saved = options_save(again), "");
    free(saved);
    assert_int_equal(words(again, "env=A:\"drafts\":"), 0);
    saved = options_save(again);
    assert_null(strstr(saved, OPTIONS_SAVED_DRAFTS));
    free(saved);
    options_destroy(o);
    options_destroy(again);
}

static void test_json(void **state) {
    static const char *const skip[] = {"call", NULL};
    json_t *j = json_loads("{\"call\":\"x\",\"priority\":7,\"timeout\":\"2h\",\"env\":{\"A\":\"1\"},\"after\":[\"a\","
                           "\"b\"],\"hold\":true}",
                           0, NULL);
    struct options *o = options_create(), *copy = options_create(), *base = options_create();
    assert_int_equal(options_add_json(o, j, skip, why), 0);
    json_decref(j);
    char *saved = options_save(o);
    assert_int_equal(options_load(copy, saved), 0);
    char *again = options_save(copy);
    assert_string_equal(saved, again);
    assert_int_equal(copy->timeout_us, 7200000000);
    assert_int_equal(words(base, "priority=1 retries=4"), 0);
    assert_int_equal(options_add(base, o, why), 0);
    assert_int_equal(base->priority, 7);
    assert_int_equal(base->retries, 4);
    j = json_loads("{\"priority\":[1]}", 0, NULL);
    assert_int_equal(options_add_json(o, j, NULL, why), -EINVAL);
    json_decref(j);
    j = json_loads("{\"nonsense\":[1]}", 0, NULL);
    assert_int_equal(options_add_json(o, j, NULL, why), -EINVAL);
    assert_non_null(strstr(why, "nonsense"));
    json_decref(j);
    free(saved);
    free(again);
    options_destroy(o);
    options_destroy(copy);
    options_destroy(base);
}

/* Names of files are bytes: through the words, the database's text and the sum of two, whatever they are. */
static void test_bytes(void **state) {
    struct options *o = options_create(), *sum = options_create(), *loaded = options_create();
    assert_int_equal(words(o, "\xef\xbb\xbf"
                              "after=\xff\xfe,b 'cwd=/caf\xe9 \1\xc3\xa9' env=K:\x80 env=\xc3:\1\1 node=\xe9*"),
                     0);
    assert_int_equal(options_add(sum, o, why), 0);
    char *saved = options_save(sum);
    assert_int_equal(options_load(loaded, saved), 0);
    assert_string_equal(options_after(loaded)[0], "\xff\xfe");
    assert_string_equal(options_after(loaded)[1], "b");
    assert_string_equal(loaded->cwd, "/caf\xe9 \1\xc3\xa9");
    assert_string_equal(options_env(loaded)[0], "K=\x80");
    assert_string_equal(options_env(loaded)[1], "\xc3=\1\1");
    assert_string_equal(loaded->node, "\xe9*");
    assert_int_equal(words(o, "cwd=12345678901234567890123456789012345678901234567890123456789\xc3\xa9"), -EINVAL);
    assert_non_null(strstr(why, "6789 is not understood")); /* no half of a character */
    free(saved);
    options_destroy(o);
    options_destroy(sum);
    options_destroy(loaded);
}

static int part(const char *text, size_t size) {
    struct options *o = options_create();
    int rc = options_add_part(o, text, size, why);
    options_destroy(o);
    return rc;
}

/* What is in force, as somebody would write it; and texts that may go on. */
static void test_written(void **state) {
    static const char text[] = "timeout=90s\nmemory=524288000\nhold=1\nsandbox=ro,net-off\n'cwd=/a "
                               "b'\nafter=a,G/b\nenv=A:1\n'env=B:it'\"'\"'s \"x\" '\n";
    struct options *o = options_create(), *again = options_create();
    assert_int_equal(words(o, text), 0);
    char *out = options_words(o), *saved = options_save(o);
    assert_int_equal(words(again, out), 0);
    char *back = options_save(again);
    assert_string_equal(saved, back);
    assert_non_null(strstr(out, "timeout=90s\n"));
    for (size_t i = 0; i < sizeof text; i++) /* wherever it is cut */
        assert_int_equal(part(text, i), 0);
    static const char *const never[] = {"priorty",         "priorty=5",    "priorty=5\n",       "priority=x\n",
                                        "cwd=a timeout=3", "priority=1 x", "env=novalue cpus=1"};
    for (size_t i = 0; i < sizeof never / sizeof *never; i++)
        assert_int_equal(part(never[i], strlen(never[i])), -EINVAL);
    free(out);
    free(saved);
    free(back);
    options_destroy(o);
    options_destroy(again);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_words),   cmocka_unit_test(test_given_twice),
                                       cmocka_unit_test(test_refused), cmocka_unit_test(test_drafts),
                                       cmocka_unit_test(test_json),    cmocka_unit_test(test_bytes),
                                       cmocka_unit_test(test_written)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
