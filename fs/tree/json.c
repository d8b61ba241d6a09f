#include "fs/tree/json.h"

#include <stdint.h>
#include <string.h>

#include "net/printable.h"

/* A character of n bytes; utf8_length has found it sound. */
static uint32_t decode(const unsigned char *p, size_t n) {
    if (n == 1)
        return p[0];
    uint32_t c = p[0] & (0xffu >> (n + 1));
    for (size_t i = 1; i < n; i++)
        c = c << 6 | (p[i] & 0x3f);
    return c;
}

static void put_character(FILE *out, uint32_t c) {
    if (c == '"' || c == '\\')
        fprintf(out, "\\%c", (int)c);
    else if (c >= ' ' && c < 0x7f)
        fputc((int)c, out);
    else if (c < 0x10000)
        fprintf(out, "\\u%04x", (unsigned)c);
    else
        fprintf(out, "\\u%04x\\u%04x", 0xd800 + (unsigned)((c - 0x10000) >> 10), 0xdc00 + (unsigned)(c & 0x3ff));
}

void json_put(FILE *out, const char *text) {
    size_t left = strlen(text);
    fputc('"', out);
    for (size_t n; left; text += n, left -= n) {
        n = utf8_length(text, left);
        if (n)
            put_character(out, decode((const unsigned char *)text, n));
        else
            fprintf(out, "\\udc%02x", (unsigned char)*text);
        n = n ? n : 1;
    }
    fputc('"', out);
}
