/* JSON that other programs wrote, and text that is bytes.
 *
 * jansson knows integers of 63 bits, and strings of whole characters. What programs write has larger numbers, and the
 * names of files are bytes: json.dumps of Python writes a byte that is no UTF-8 as half a character, "\udc80" to
 * "\udcff". So a text is made fit for jansson before it reads it: numbers that are the value of a key, or in env,
 * become strings of what was written, and in strings U+0001 stands before what is a byte alone (U+0080 to U+00FF) and
 * before a U+0001. json_text_bytes takes that away again. */
#ifndef PPFS_JSON_TEXT_H
#define PPFS_JSON_TEXT_H
#include <jansson.h>
#include <stddef.h>

/* The value of a text; keys that come twice are refused. own: names of keys of the outermost object (NULL-terminated,
 * NULL: none) whose numbers stay numbers; of these opaque (the same) are not looked at where they have an array or
 * object: that is empty in what is returned. 0, -ENOMEM, or -EINVAL with why = what is wrong where. */
int json_text_read(const char *bytes, size_t size, const char *const *own, const char *const *opaque, json_t **out,
                   char *why, size_t why_size);

/* The bytes that a string of such a value stands for: malloc'd, with a NUL behind them. NULL without memory. */
char *json_text_bytes(const char *string);
/* A string that stands for bytes without a NUL. NULL without memory. */
json_t *json_text_make(const char *bytes);
/* A string for people: what is no UTF-8 is replaced by U+FFFD. NULL without memory. */
json_t *json_text_shown(const char *bytes, size_t size);

/* Bytes of the byte order mark that a text begins with, 0 or 3: what editors of Windows put before UTF-8, and no part
 * of it. */
size_t json_text_mark(const void *text, size_t size);
#endif
