#include "worker/runner/resources.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define DIGITS "0123456789"

int resources_find(const struct resources *r, const char *name) {
    for (unsigned i = 0; i < r->count; i++)
        if (strcmp(r->at[i].name, name) == 0)
            return (int)i;
    return -1;
}

int resources_add(struct resources *r, const char *text, size_t size) {
    char one[RESOURCE_NAME + 4] = ""; /* the longest: a name, '=' and two digits */
    if (size >= sizeof one)
        return -EINVAL;
    memcpy(one, text, size);
    size_t name = strspn(one, LETTERS DIGITS "_"), digits = one[name] ? strspn(one + name + 1, DIGITS) : 0;
    if (!name || name >= RESOURCE_NAME || !strchr(LETTERS, *one) || one[name] != '=' || !digits || digits > 2 ||
        name + 1 + digits != size)
        return -EINVAL;
    unsigned n = 0;
    for (const char *c = one + name + 1; *c; c++)
        n = n * 10 + (unsigned)(*c - '0');
    one[name] = 0;
    if (!n || n > RESOURCE_MOST || r->count == RESOURCE_KINDS || resources_find(r, one) >= 0)
        return -EINVAL;
    strcpy(r->at[r->count].name, one);
    r->at[r->count++].n = n;
    return 0;
}

int resources_parse(struct resources *r, const char *text, size_t size) {
    int rc = 0;
    for (size_t part; rc == 0 && size; text += part, size -= part) {
        const char *comma = memchr(text, ',', size);
        part = comma ? (size_t)(comma - text) : size;
        rc = resources_add(r, text, part);
        if (comma && ++part == size)
            rc = -EINVAL;
    }
    return rc;
}

void resources_text(const struct resources *r, char buf[RESOURCES_TEXT]) {
    size_t n = 0;
    *buf = 0;
    for (unsigned i = 0; i < r->count; i++)
        n += (size_t)snprintf(buf + n, RESOURCES_TEXT - n, "%s%s=%u", i ? "," : "", r->at[i].name, r->at[i].n);
}
