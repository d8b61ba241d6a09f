/* Text as a JSON string, in ASCII, so that what a terminal would obey is escaped with all else. A byte that is no UTF-8
 * is \udc80 to \udcff, as Python's json.dumps writes it. */
#ifndef PPFS_JSON_H
#define PPFS_JSON_H
#include <stdio.h>

void json_put(FILE *out, const char *text); /* with its quotes */
#endif
