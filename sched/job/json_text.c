/* A text is copied once for jansson, with the parts that jansson cannot read written in another way. jansson decides
 * whether it is JSON (and the worker for skipped values): the copy never turns invalid JSON into valid JSON. */
#include "sched/job/json_text.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/printable.h"
#include "sched/bytes/buffer.h"

#define ESCAPED "\\u0001" /* before a single byte, and before an original U+0001 */

struct scan {
    const char *at, *end;
    const char *const *own, *const *opaque;
    const char *key; /* the current key of the outermost object, as written */
    size_t key_size;
    unsigned depth;
    bool key_next;
    struct buffer out;
};

size_t json_text_mark(const void *text, size_t size) {
    return size >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;
}

/* --- a text made fit --------------------------------------------------------------------------------------------- */

static bool is_one_of(const char *const *names, const char *name, size_t size) {
    for (; names && *names; names++)
        if (strlen(*names) == size && memcmp(*names, name, size) == 0)
            return true;
    return false;
}

/* The value of the \u escape at p, else -1. */
static int escape_at(const char *p, const char *end) {
    int n = 0;
    if (end - p < 6 || p[0] != '\\' || p[1] != 'u')
        return -1;
    for (int i = 2; i < 6; i++) {
        const char *hex = "0123456789abcdefABCDEF", *digit = memchr(hex, p[i], strlen(hex));
        if (!digit)
            return -1;
        int value = (int)(digit - hex);
        n = n * 16 + (value < 16 ? value : value - 6);
    }
    return n;
}

static int copy(struct scan *s, size_t size) {
    int rc = buffer_add(&s->out, s->at, size);
    s->at += size;
    return rc;
}

/* at: behind a backslash or before it. One escape, or as much of it as there is. */
static int copy_escape(struct scan *s) {
    char byte[16];
    int n = escape_at(s->at, s->end), next = n >= 0xd800 && n < 0xdc00 ? escape_at(s->at + 6, s->end) : -1;
    if (next >= 0xdc00 && next < 0xe000)
        return copy(s, 12);
    if (n == 1 || (n >= 0xdc80 && n <= 0xdcff)) {
        s->at += 6;
        return buffer_add(&s->out, byte, (size_t)snprintf(byte, sizeof byte, ESCAPED "\\u%04x", (unsigned)n & 0xff));
    }
    if (n >= 0)
        return copy(s, 6);
    return copy(s, s->end - s->at < 2 ? 1 : 2);
}

/* at: the opening quote. */
static int copy_string(struct scan *s) {
    int rc = copy(s, 1);
    while (rc == 0 && s->at < s->end && *s->at != '"') {
        size_t n = 0;
        while (s->at + n < s->end && s->at[n] != '"' && s->at[n] != '\\')
            n++;
        rc = n ? copy(s, n) : copy_escape(s);
    }
    return rc == 0 && s->at < s->end ? copy(s, 1) : rc;
}

/* at: an opening bracket. Skips to after the closing one, copying only newlines, so that line numbers stay right. */
static int skip_value(struct scan *s) {
    unsigned depth = 0;
    int rc = buffer_add(&s->out, s->at, 1);
    char close = *s->at == '[' ? ']' : '}';
    do {
        char c = *s->at++;
        if (c == '[' || c == '{')
            depth++;
        else if (c == ']' || c == '}')
            depth--;
        else if (c == '\n')
            rc = buffer_add(&s->out, "\n", 1);
        else if (c == '"')
            for (; s->at < s->end && *s->at != '"'; s->at++)
                s->at += *s->at == '\\' && s->end - s->at > 1;
        if (c == '"' && s->at < s->end)
            s->at++;
    } while (rc == 0 && depth && s->at < s->end);
    return rc == 0 && depth == 0 ? buffer_add(&s->out, &close, 1) : rc;
}

static size_t digits(const char *p, const char *end) {
    size_t n = 0;
    while (p + n < end && p[n] >= '0' && p[n] <= '9')
        n++;
    return n;
}

/* Length of the JSON number at p; 0: none. */
static size_t number_at(const char *start, const char *end) {
    const char *p = start + (*start == '-');
    size_t n = digits(p, end);
    if (n == 0 || (n > 1 && *p == '0'))
        return 0;
    p += n;
    if (p < end && *p == '.') {
        n = digits(p + 1, end);
        if (n == 0)
            return 0;
        p += 1 + n;
    }
    if (p < end && (*p == 'e' || *p == 'E')) {
        const char *e = p + 1 + (p + 1 < end && (p[1] == '+' || p[1] == '-'));
        n = digits(e, end);
        if (n == 0)
            return 0;
        p = e + n;
    }
    return (size_t)(p - start);
}

static int copy_number(struct scan *s) {
    size_t n = number_at(s->at, s->end);
    int rc = n ? buffer_add(&s->out, "\"", 1) : copy(s, 1);
    if (n && rc == 0)
        rc = copy(s, n);
    return n && rc == 0 ? buffer_add(&s->out, "\"", 1) : rc;
}

/* One value's beginning or end, key or sign. */
static int step(struct scan *s) {
    static const char *const maps[] = {"env", NULL}; /* their values may be numbers; job names may not */
    char c = *s->at;
    bool own = s->depth && is_one_of(s->own, s->key, s->key_size);
    int rc;
    if (c == '"' && s->depth == 1 && s->key_next) {
        s->key_next = false;
        s->key = s->at + 1;
        rc = copy_string(s);
        s->key_size = (size_t)(s->at - s->key) - (s->at > s->key);
        return rc;
    }
    if (c == '"')
        return copy_string(s);
    if ((c == '{' || c == '[') && s->depth == 1 && !s->key_next && is_one_of(s->opaque, s->key, s->key_size))
        return skip_value(s);
    bool scalar = s->depth == 1 || is_one_of(maps, s->key, s->key_size);
    if ((c == '-' || (c >= '0' && c <= '9')) && scalar && !own)
        return copy_number(s);
    if (c == '{' || c == '[')
        s->depth++;
    if ((c == '}' || c == ']') && s->depth)
        s->depth--;
    if (s->depth == 1 && (c == ',' || c == '{'))
        s->key_next = true;
    return copy(s, 1);
}

int json_text_read(const char *bytes, size_t size, const char *const *own, const char *const *opaque, json_t **out,
                   char *why, size_t why_size) {
    struct scan s = {.at = bytes, .end = bytes + size, .own = own, .opaque = opaque, .key = ""};
    json_error_t err;
    int rc = buffer_reserve(&s.out, 1);
    while (rc == 0 && s.at < s.end)
        rc = step(&s);
    *out = rc == 0 ? json_loadb(s.out.bytes, s.out.size, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &err) : NULL;
    buffer_free(&s.out);
    if (*out || rc < 0)
        return rc;
    if (json_error_code(&err) == json_error_out_of_memory)
        return -ENOMEM;
    bool bytes_alone = json_error_code(&err) == json_error_invalid_utf8;
    snprintf(why, why_size, "line %d: %s%s", err.line, err.text,
             bytes_alone ? ", which is no UTF-8: a byte 0xe9 of a name is written \\udce9" : "");
    return -EINVAL;
}

/* --- bytes ------------------------------------------------------------------------------------------------------- */

char *json_text_bytes(const char *string) {
    size_t n = strlen(string), to = 0;
    char *bytes = malloc(n + 1);
    for (size_t at = 0; bytes && at < n; at++) {
        bool escaped = string[at] == 1 && at + 1 < n;
        at += escaped;
        if (escaped && string[at] != 1 && at + 1 < n) { /* U+0080 to U+00FF: two bytes */
            bytes[to++] = (char)((string[at] & 3) << 6 | (string[at + 1] & 0x3f));
            at++;
        } else {
            bytes[to++] = string[at];
        }
    }
    if (bytes)
        bytes[to] = 0;
    return bytes;
}

static json_t *make_string(const char *bytes, size_t size, bool shown) {
    struct buffer b = {0};
    int rc = buffer_reserve(&b, 1);
    for (size_t at = 0, n; rc == 0 && at < size; at += n ? n : 1) {
        unsigned char c = (unsigned char)bytes[at];
        n = utf8_length(bytes + at, size - at);
        if (shown ? n > 0 : n > 0 && c != 1)
            rc = buffer_add(&b, bytes + at, n);
        else if (shown)
            rc = buffer_add(&b, "\xef\xbf\xbd", 3);
        else
            rc = buffer_add(&b, c == 1 ? "\1\1" : (char[]){1, (char)(0xc0 | c >> 6), (char)(0x80 | (c & 0x3f))},
                            c == 1 ? 2 : 3);
    }
    json_t *s = rc == 0 ? json_stringn(b.bytes, b.size) : NULL;
    buffer_free(&b);
    return s;
}

json_t *json_text_make(const char *bytes) {
    return make_string(bytes, strlen(bytes), false);
}

json_t *json_text_shown(const char *bytes, size_t size) {
    return make_string(bytes, size, true);
}
