/* What a node says of itself: the body of an ABOUT, and what its name may be. */
#ifndef PPFS_NODE_ABOUT_H
#define PPFS_NODE_ABOUT_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "worker/runner/resources.h"

enum {
    NODE_CPUS_MAX = 4096, /* slots of a node */
    NODE_NAME = 64,       /* a node's name, with the final zero */
    NODE_NAME_BASE = 50,  /* its part before the number of a second node with this name: NAME-2 */
    NODE_ABOUT_MAX = 512, /* bytes of an ABOUT */
    NODE_UIDS = 32,       /* ranges of users in it */
};

/* Users of the ppfs whose work a node accepts. */
struct node_uids {
    uint32_t count;
    struct {
        uint32_t first, last;
    } at[NODE_UIDS];
};
static inline bool node_uids_have(const struct node_uids *u, uint32_t uid) {
    for (uint32_t i = 0; i < u->count; i++)
        if (uid >= u->at[i].first && uid <= u->at[i].last)
            return true;
    return false;
}

struct node_about {
    uint32_t cpus;
    uint32_t uid; /* the user that it runs as: root runs each work as its user, another user all of it as himself */
    struct node_uids uids; /* accepted users; none, with a uid that is not 0: one that ppfs chooses */
    uint64_t memory;       /* bytes of memory in the machine; 0: not known */
    struct resources resources;
    bool draining;
    char name[NODE_NAME]; /* of letters, digits, '.', '_' and '-', the first neither '.' nor '-' */
    char python[32];      /* "" while it is not known */
};
/* Into buf of NODE_ABOUT_MAX bytes. */
uint32_t node_about_encode(const struct node_about *a, uint8_t *buf);
int node_about_decode(const void *bytes, size_t size, struct node_about *out); /* 0 or -EPROTO */
bool node_name_valid(const char *name);
/* Makes a valid name of any text: other characters become '-'. */
void node_name_from(const char *text, char name[NODE_NAME]);
#endif
