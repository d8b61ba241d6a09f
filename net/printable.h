/* Text of others (names, sentences of users and peers) as it is shown to people: in the log, and where reasons are
 * read.
 *
 * What would act on a terminal, forge a line or hide what stands there is shown as its bytes, each as \xHH with two
 * small hexadecimal digits: control characters (with newline and tab, those of C1, delete), what is no UTF-8, line and
 * paragraph separators, and invisible characters that turn the direction of text. All else stays, a backslash too: it
 * is for reading, not for reading back. */
#ifndef PPFS_PRINTABLE_H
#define PPFS_PRINTABLE_H
#include <stddef.h>

/* Changes the text in place; size: of its buffer, where it is cut. */
void printable(char *text, size_t size);

/* Length of the UTF-8 character at the beginning of the text; 0: none. */
size_t utf8_length(const char *text, size_t size);
#endif
