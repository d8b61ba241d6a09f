/* The indexes of array=: ranges, steps and single ones, each index once. Pure. */
#ifndef PPFS_ARRAY_H
#define PPFS_ARRAY_H
#include <stdbool.h>
#include <stdint.h>

#define ARRAY_PARTS 1024u         /* ranges with commas between them */
#define ARRAY_INDEXES 10000000u   /* all of them together */
#define ARRAY_INDEX_MAX 999999999 /* the largest one */
#define ARRAY_INDEX "PPFS_INDEX"
#define ARRAY_EXPECTED                                                                                                 \
    "up to 10000000 whole numbers such as 0-99, 0-99:5 or 1,3,7, each once, and %8 behind them for at most 8 at once"

struct array_list {
    uint32_t size, at_once; /* indexes; of them so many run at once, 0: any number */
    unsigned count;
    struct array_part {
        uint32_t first, last, step, before; /* before: indexes in the parts before it, which are smaller ones */
    } parts[ARRAY_PARTS];
};

int array_parse(const char *text, struct array_list *out); /* 0 or -EINVAL: ARRAY_EXPECTED is expected */
/* The k-th index in ascending order, from 0; k is less than size. */
bool array_place(const struct array_list *l, const char *index, uint32_t *k); /* false: it is none of them */
uint32_t array_index(const struct array_list *l, uint32_t k);
#endif
