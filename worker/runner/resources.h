/* Named resources of a node, such as gpu=4: so many of each kind, told apart by their index from 0. */
#ifndef PPFS_RESOURCES_H
#define PPFS_RESOURCES_H
#include <stddef.h>

enum {
    RESOURCE_KINDS = 8,   /* of a node, or asked for by a job */
    RESOURCE_NAME = 16,   /* with the final zero; a letter, then letters, digits and '_' */
    RESOURCE_MOST = 64,   /* of one kind */
    RESOURCES_TEXT = 160, /* bytes of all as text, with the final zero */
};

struct resources {
    unsigned count;
    struct {
        char name[RESOURCE_NAME];
        unsigned n;
    } at[RESOURCE_KINDS];
};
#define RESOURCES_NEED "--resource needs NAME=N, N from 1 to 64, each NAME once and 8 at most, not '%s'"
/* Adds one as "gpu=4" has it. 0, or -EINVAL: not in that form, the kind is there already, or too many kinds. */
int resources_add(struct resources *r, const char *text, size_t size);
/* Adds "gpu=1,license=2"; "": none. 0, or -EINVAL with some of them added. */
int resources_parse(struct resources *r, const char *text, size_t size);
void resources_text(const struct resources *r, char buf[RESOURCES_TEXT]); /* as resources_parse takes it */
int resources_find(const struct resources *r, const char *name);          /* its place in r->at, -1: there is none */
#endif
