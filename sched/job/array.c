#include "sched/job/array.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>

#define DIGITS 9

/* Without sign, blank or leading zero: 007 would have to be either 7 or the text. */
static bool read_number(const char **at, uint32_t *out) {
    const char *p = *at;
    *out = 0;
    while (isdigit((unsigned char)*p) && p - *at < DIGITS)
        *out = *out * 10 + (uint32_t)(*p++ - '0');
    bool good = p > *at && !isdigit((unsigned char)*p) && (**at != '0' || p - *at == 1);
    *at = p;
    return good;
}

static bool read_behind(const char **at, char sign, uint32_t *out) {
    if (**at != sign)
        return true;
    ++*at;
    return read_number(at, out);
}

static int by_first(const void *a, const void *b) {
    const struct array_part *x = a, *y = b;
    return x->first < y->first ? -1 : x->first > y->first;
}

int array_parse(const char *text, struct array_list *out) {
    const char *p = text;
    uint64_t size = 0;
    *out = (struct array_list){.count = 0};
    do {
        struct array_part *x = &out->parts[out->count];
        p += out->count > 0;
        if (out->count++ == ARRAY_PARTS || !read_number(&p, &x->first))
            return -EINVAL;
        x->last = x->first;
        x->step = 1;
        bool range = *p == '-';
        if (!read_behind(&p, '-', &x->last) || x->last < x->first || (!range && *p == ':') ||
            !read_behind(&p, ':', &x->step) || x->step == 0)
            return -EINVAL;
        x->last -= (x->last - x->first) % x->step;
    } while (*p == ',');
    bool limited = *p == '%';
    if (!read_behind(&p, '%', &out->at_once) || *p || (limited && out->at_once == 0))
        return -EINVAL;
    qsort(out->parts, out->count, sizeof *out->parts, by_first);
    for (unsigned i = 0; i < out->count; i++) {
        struct array_part *x = &out->parts[i];
        if (i > 0 && x->first <= x[-1].last)
            return -EINVAL;
        x->before = (uint32_t)size;
        size += (x->last - x->first) / x->step + 1;
        if (size > ARRAY_INDEXES)
            return -EINVAL;
    }
    out->size = (uint32_t)size;
    return 0;
}

uint32_t array_index(const struct array_list *l, uint32_t k) {
    unsigned low = 0, high = l->count;
    while (high - low > 1) {
        unsigned middle = (low + high) / 2;
        if (l->parts[middle].before <= k)
            low = middle;
        else
            high = middle;
    }
    return l->parts[low].first + (k - l->parts[low].before) * l->parts[low].step;
}

bool array_place(const struct array_list *l, const char *index, uint32_t *k) {
    uint32_t n;
    if (!read_number(&index, &n) || *index)
        return false;
    for (unsigned i = 0; i < l->count; i++) {
        const struct array_part *x = &l->parts[i];
        if (n < x->first || n > x->last || (n - x->first) % x->step)
            continue;
        *k = x->before + (n - x->first) / x->step;
        return true;
    }
    return false;
}
