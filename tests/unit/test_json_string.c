/* The strings that json_string makes are those of jansson, however they are cut. */
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "sched/job/json_string.h"

static int in_pieces(const char *bytes, size_t size, size_t piece, struct json_string *s) {
    int rc = 0;
    for (size_t at = 0; at < size && rc == 0; at += piece)
        rc = json_string_add(s, bytes + at, size - at < piece ? size - at : piece);
    return rc < 0 ? rc : json_string_end(s);
}

static void same_as_jansson(const char *bytes, size_t size) {
    json_t *j = json_stringn(bytes, size);
    char *expected = j ? json_dumps(j, JSON_ENCODE_ANY) : NULL;
    for (size_t piece = 1; piece <= size + 1; piece++) {
        struct json_string s = {0};
        int rc = in_pieces(bytes, size, piece, &s);
        assert_int_equal(rc, expected ? 0 : -EILSEQ);
        if (expected) {
            assert_int_equal(s.text.size, strlen(expected));
            assert_memory_equal(s.text.bytes, expected, s.text.size);
        }
        buffer_free(&s.text);
    }
    free(expected);
    json_decref(j);
}

static void test_texts(void **state) {
    static const char *const texts[] = {"",
                                        "plain",
                                        "\"\\/\b\f\n\r\t\x01\x1f\x7f",
                                        "a\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80z",
                                        "\xe2\x80\xa8",
                                        "\xc3",
                                        "\xe2\x82",
                                        "\xf0\x9f\x98",
                                        "x\x80",
                                        "\xc0\xaf",
                                        "\xed\xa0\x80",
                                        "\xf4\x90\x80\x80",
                                        "\xf0\x80\x80\x80",
                                        "\xff",
                                        "ab\xc3\"",
                                        "\xe0\x80\x80",
                                        "\xef\xbf\xbf\xef\xbb\xbf"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        same_as_jansson(texts[i], strlen(texts[i]));
    same_as_jansson("\0a\0", 3);
}

static void test_by_chance(void **state) {
    srand(1);
    for (int round = 0; round < 20000; round++) {
        static const unsigned char some[] = {0,    1,    'a',  '"',  '\\', '\n', 0x7f, 0x80, 0xbf, 0xc2,
                                             0xc3, 0xe0, 0xa0, 0xed, 0x9f, 0xf0, 0x90, 0xf4, 0x8f, 0xff};
        char bytes[8];
        size_t n = (size_t)rand() % sizeof bytes;
        for (size_t i = 0; i < n; i++)
            bytes[i] = (char)some[(size_t)rand() % sizeof some];
        same_as_jansson(bytes, n);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_texts), cmocka_unit_test(test_by_chance)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
