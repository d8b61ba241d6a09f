/* Text of others (names, sentences of users and peers) made fit to be shown in the log and in reasons.
 *
 * Characters that would act on a terminal, forge a line or hide text are replaced by their bytes, each as \xHH in lower
 * case: control characters (with newline, tab, C1 and delete), invalid UTF-8, line and paragraph separators, and
 * invisible characters that turn the direction of text. All else stays, a backslash too: it is not for parsing. */
#ifndef PPFS_PRINTABLE_H
#define PPFS_PRINTABLE_H
#include <stddef.h>

/* Changes the text in place; size: of its buffer, where it is cut. */
void printable(char *text, size_t size);

/* Length of the UTF-8 character at the beginning of the text; 0: none. */
size_t utf8_length(const char *text, size_t size);

/* Makes one sentence, of at most 1023 bytes, and calls log with it; NULL: nobody wants it. */
void sentence_tell(void (*log)(void *arg, const char *sentence), void *arg, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
#endif
