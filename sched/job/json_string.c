#include "sched/job/json_string.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "net/printable.h"

#define ESCAPED 6u /* bytes of the longest: a u and four digits behind a backslash */

static int begin(struct json_string *s) {
    return s->text.size ? 0 : buffer_add(&s->text, "\"", 1);
}

static bool is_plain(char c) {
    return (unsigned char)c >= 0x20 && (unsigned char)c < 0x80 && c != '"' && c != '\\';
}

/* Escapes a one-byte character that a JSON string cannot contain as it is. Returns the bytes written. */
static size_t escape(char *to, char c) {
    static const char named[] = "\"\\\b\f\n\r\t", names[] = "\"\\bfnrt", hex[] = "0123456789ABCDEF";
    const char *at = c ? strchr(named, c) : NULL;
    memcpy(to, "\\u00", 4);
    to[1] = at ? names[at - named] : 'u';
    to[4] = hex[(c >> 4) & 1];
    to[5] = hex[c & 0xf];
    return at ? 2 : ESCAPED;
}

static int add(struct json_string *s, const char *bytes, size_t size) {
    int rc = buffer_reserve(&s->text, size * ESCAPED);
    char *to = s->text.bytes + s->text.size;
    size_t at = 0;
    while (at < size && rc == 0) {
        bool ascii = (unsigned char)bytes[at] < 0x80;
        size_t n = ascii ? is_plain(bytes[at]) : utf8_length(bytes + at, size - at);
        if (n == 0 && ascii) {
            to += escape(to, bytes[at++]);
        } else if (n == 0) { /* no character, or the chunk ends in it */
            if (size - at >= sizeof s->cut)
                return -EILSEQ;
            memcpy(s->cut, bytes + at, s->cut_size = size - at);
            break;
        }
        for (; n; n--)
            *to++ = bytes[at++];
    }
    if (rc == 0)
        s->text.size = (size_t)(to - s->text.bytes);
    return rc;
}

int json_string_add(struct json_string *s, const char *bytes, size_t size) {
    int rc = begin(s);
    while (rc == 0 && s->cut_size && size) { /* with the bytes of the next chunk that complete it */
        char whole[sizeof s->cut];
        size_t n = s->cut_size;
        if (n == sizeof whole)
            return -EILSEQ;
        memcpy(whole, s->cut, n);
        whole[n] = *bytes++;
        size--;
        s->cut_size = 0;
        rc = add(s, whole, n + 1);
    }
    return rc < 0 ? rc : add(s, bytes, size);
}

int json_string_end(struct json_string *s) {
    int rc = s->cut_size ? -EILSEQ : begin(s);
    return rc < 0 ? rc : buffer_add(&s->text, "\"", 1);
}
