/* The output of a program as a JSON string, built chunk by chunk: with jansson 100 MiB took a minute and three
 * copies. */
#ifndef PPFS_JSON_STRING_H
#define PPFS_JSON_STRING_H
#include <stddef.h>

#include "sched/bytes/buffer.h"

struct json_string {    /* a zeroed struct is an empty string */
    struct buffer text; /* owned by the caller after json_string_end */
    char cut[4];        /* the incomplete character at the end of the last chunk */
    size_t cut_size;
};

/* 0, -ENOMEM, or -EILSEQ: that is not UTF-8 text. */
int json_string_add(struct json_string *s, const char *bytes, size_t size);
int json_string_end(struct json_string *s); /* its closing quote; likewise */
#endif
