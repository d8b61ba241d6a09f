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

/* Parses a text; repeated keys are refused. own: keys of the outermost object (NULL-terminated, NULL: none) whose
 * numbers stay numbers. opaque: those of them whose arrays and objects are skipped, and empty in the result. 0,
 * -ENOMEM, or -EINVAL with why = the error and its place. */
int json_text_read(const char *bytes, size_t size, const char *const *own, const char *const *opaque, json_t **out,
                   char *why, size_t why_size);

/* The bytes of a string in such a value: malloc'd, NUL-terminated. NULL without memory. */
char *json_text_bytes(const char *string);
/* Bytes without a NUL as such a string. NULL without memory. */
json_t *json_text_make(const char *bytes);
/* Bytes as a string for people: bytes that are not UTF-8 become U+FFFD. NULL without memory. */
json_t *json_text_shown(const char *bytes, size_t size);

/* Length of the byte order mark at the beginning of a text, 0 or 3; Windows editors write it before UTF-8. */
size_t json_text_mark(const void *text, size_t size);
#endif
