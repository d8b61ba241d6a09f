/* Text of others in a log: what it cannot do there, and how much of it there is. */
#include <stdio.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "net/complaints.h"
#include "net/printable.h"

static void shows(const char *text, const char *expected) {
    char buf[256];
    snprintf(buf, sizeof buf, "%s", text);
    printable(buf, sizeof buf);
    assert_string_equal(buf, expected);
    printable(buf, sizeof buf); /* what is escaped stays so */
    assert_string_equal(buf, expected);
}

static void test_what_is_escaped(void **state) {
    shows("", "");
    shows("plain, \"quoted\" and \\x1b", "plain, \"quoted\" and \\x1b");
    shows("gr\xc3\xbc\xc3\x9f\x65 \xe2\x82\xac \xf0\x9f\x98\x80",
          "gr\xc3\xbc\xc3\x9f\x65 \xe2\x82\xac \xf0\x9f\x98\x80");
    shows("a\nppfs[1]: forged\r\tb", "a\\x0appfs[1]: forged\\x0d\\x09b");
    shows("\x1b]0;title\x07\x7f", "\\x1b]0;title\\x07\\x7f");
    shows("\xc2\x9b"
          "31m",
          "\\xc2\\x9b31m"); /* CSI in one character of C1 */
    shows("\xe2\x80\xae"
          "cba\xe2\x81\xa6",
          "\\xe2\\x80\\xae"
          "cba\\xe2\\x81\\xa6"); /* an override, an isolate */
    shows("a\xe2\x80\xa8"
          "b\xef\xbb\xbf",
          "a\\xe2\\x80\\xa8"
          "b\\xef\\xbb\\xbf");
    shows("\xff\xc0\xaf\xed\xa0\x80", "\\xff\\xc0\\xaf\\xed\\xa0\\x80"); /* no UTF-8 */
    shows("end \xe2\x82", "end \\xe2\\x82");
}

static void test_it_fits(void **state) {
    for (size_t size = 1; size < 40; size++) {
        char buf[64];
        memset(buf, '#', sizeof buf);
        snprintf(buf, size, "ab\n\n\xc3\xbc\x1b\x1b\x1b\x1b\x1b");
        printable(buf, size);
        assert_true(strlen(buf) < size);
        assert_int_equal(buf[size], '#');
        for (char *c = buf; *c; c++)
            assert_true((unsigned char)*c >= ' ');
    }
}

static struct complaints c;

static bool tells(const char *source, unsigned most, char sentence[200]) {
    strcpy(sentence, "sentence");
    return complaints_tell(&c, source, most, sentence, 200);
}

static void test_so_many_a_minute(void **state) {
    char sentence[200], name[32];
    for (int i = 0; i < 50; i++)
        assert_int_equal(tells("noisy", 20, sentence), i < 20);
    assert_true(tells("quiet", 20, sentence));
    assert_string_equal(sentence, "sentence");
    for (unsigned i = 0; i < COMPLAINTS_SOURCES; i++) /* a minute later */
        c.of[i].minute.since -= c.of[i].minute.since ? 61000 : 0;
    assert_true(tells("noisy", 20, sentence));
    assert_string_equal(sentence, "sentence (30 more of noisy were left out)");
    assert_true(tells("noisy", 20, sentence));
    assert_string_equal(sentence, "sentence");
    unsigned told = 0;
    for (int i = 0; i < 1000; i++) { /* one that changes its name */
        snprintf(name, sizeof name, "x%d", i);
        told += tells(name, COMPLAINTS_NODE, sentence) &&
                complaints_tell_of(&c, "10.0.0.1:4711 says", COMPLAINTS_ADDRESS, sentence, sizeof sentence);
    }
    assert_int_equal(told, COMPLAINTS_ADDRESS);
}

static void test_so_many_a_minute_of_all(void **state) {
    char sentence[200], name[32], address[32];
    unsigned told = 0;
    memset(&c, 0, sizeof c);
    for (int i = 0; i < 4000; i++) { /* each with a name and an address of its own */
        snprintf(name, sizeof name, "x%d", i);
        snprintf(address, sizeof address, "10.0.%d.%d:4711", i / 250, i % 250);
        bool tell = tells(name, COMPLAINTS_NODE, sentence) &&
                    complaints_tell_of(&c, address, COMPLAINTS_ADDRESS, sentence, sizeof sentence);
        if (tell && ++told == COMPLAINTS_ALL)
            assert_string_equal(sentence, "sentence (no more of nodes for a minute)");
    }
    assert_int_equal(told, COMPLAINTS_ALL);
    assert_true(tells("user 1000", COMPLAINTS_NODE, sentence)); /* who is no node is heard all the same */
    c.all.since -= 61000;
    assert_true(complaints_tell_of(&c, "10.1.0.1:1", COMPLAINTS_ADDRESS, strcpy(sentence, "s"), sizeof sentence));
    assert_string_equal(sentence, "s (3400 more of all nodes were left out)");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_what_is_escaped), cmocka_unit_test(test_it_fits),
                                       cmocka_unit_test(test_so_many_a_minute),
                                       cmocka_unit_test(test_so_many_a_minute_of_all)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
