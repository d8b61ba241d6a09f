#include "net/printable.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum { ESCAPE = 4 }; /* bytes of \xHH */

size_t utf8_length(const char *text, size_t size) {
    const unsigned char *p = (const unsigned char *)text;
    /* of the second byte after 0xe0, 0xf0: below, a shorter form exists */
    static const unsigned char least[] = {0, 0, 0x80, 0xa0, 0x90};
    size_t n = 2;
    if (size == 0)
        return 0;
    if (p[0] < 0x80)
        return 1;
    if (p[0] < 0xc2 || p[0] > 0xf4)
        return 0;
    n += (p[0] >= 0xe0) + (p[0] >= 0xf0);
    if (n > size || ((p[0] & 0xf) == 0 && n > 2 && p[1] < least[n]))
        return 0;
    if ((p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf4 && p[1] > 0x8f)) /* surrogates; beyond U+10FFFF */
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    return n;
}

static uint32_t code_point(const char *text, size_t n) {
    uint32_t c = (unsigned char)text[0];
    if (n > 1)
        c &= 0xffu >> (n + 1);
    for (size_t i = 1; i < n; i++)
        c = c << 6 | ((unsigned char)text[i] & 0x3f);
    return c;
}

static bool is_shown(uint32_t c) {
    static const uint32_t hidden[][2] = {
        {0, 0x1f},          /* C0 */
        {0x7f, 0x9f},       /* delete, C1 */
        {0x61c, 0x61c},     /* Arabic letter mark */
        {0x200b, 0x200b},   /* zero width space */
        {0x200e, 0x200f},   /* marks of direction */
        {0x2028, 0x202e},   /* separators of lines and paragraphs, embeddings and overrides */
        {0x2060, 0x206f},   /* word joiner, isolates */
        {0xfeff, 0xfeff},   /* byte order mark */
        {0xfff9, 0xfffb},   /* interlinear annotation */
        {0xe0000, 0xe0fff}, /* tags and variation selectors */
    };
    for (size_t i = 0; i < sizeof hidden / sizeof *hidden; i++)
        if (c >= hidden[i][0] && c <= hidden[i][1])
            return false;
    return true;
}

void printable(char *text, size_t size) {
    static const char hex[] = "0123456789abcdef";
    for (size_t at = 0; text[at];) {
        if (text[at] >= ' ' && text[at] < 0x7f) {
            at++;
            continue;
        }
        size_t n = utf8_length(text + at, strnlen(text + at, 4));
        if (n && is_shown(code_point(text + at, n))) {
            at += n;
            continue;
        }
        if (size - at <= ESCAPE) { /* the final zero has to fit, too */
            text[at] = '\0';
            return;
        }
        unsigned char c = (unsigned char)text[at];
        size_t rest = strlen(text + at + 1), room = size - at - ESCAPE - 1;
        rest = rest < room ? rest : room;
        memmove(text + at + ESCAPE, text + at + 1, rest);
        memcpy(text + at, (char[]){'\\', 'x', hex[c >> 4], hex[c & 0xf]}, ESCAPE);
        at += ESCAPE;
        text[at + rest] = '\0'; /* the rest of a cut character is escaped next */
    }
}

void sentence_tell(void (*log)(void *arg, const char *sentence), void *arg, const char *format, ...) {
    char sentence[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(sentence, sizeof sentence, format, args);
    va_end(args);
    if (log)
        log(arg, sentence);
}
