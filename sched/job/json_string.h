/* The JSON string that says what a program printed, made of pieces as they come: with jansson 100 MiB took a minute and
 * three copies. */
#ifndef PPFS_JSON_STRING_H
#define PPFS_JSON_STRING_H
#include <stddef.h>

#include "sched/bytes/buffer.h"

struct json_string {    /* a zeroed struct is one that has not begun */
    struct buffer text; /* the caller's, once it has ended */
    char cut[4];        /* a character that the last piece ended in */
    size_t cut_size;
};

/* 0, -ENOMEM, or -EILSEQ: that is not UTF-8 text. */
int json_string_add(struct json_string *s, const char *bytes, size_t size);
int json_string_end(struct json_string *s); /* its closing quote; likewise */
#endif
