/* What far.c (what it was given, and sending it) and far_hear.c (what the node says) share. Nobody else includes it. */
#ifndef PPFS_FAR_PARTS_H
#define PPFS_FAR_PARTS_H
#include <sys/types.h>

#include "net/peer.h"
#include "worker/far_internal.h"

struct entry { /* one work; its index is its ref */
    bool used, lease, finished, killed;
    bool refused; /* its payload could not be read: it ends with `why`, whatever the node says */
    uint64_t job;
    uint32_t attempt;
    uint32_t sent, answered; /* numbers of its calls */
    uint32_t recalls, asked; /* RECALLs that have no answer yet; the lowest number that one of them names */
    int file;                /* the payload that is being sent, -1: none */
    off_t at;
    char *why;
};

struct far {
    struct event_base *base;
    struct session *session; /* NULL: it is lost */
    struct far_owner owner;
    void *owner_arg;
    struct pool_events ev;
    void *arg;
    struct far_about about;
    bool known, begun; /* ABOUT has come; far_begin was called: from then on it may have work */
    bool corked, wants_room;
    char name[FAR_NAME], address[PEER_ADDRESS_MAX];
    char *dialled;
    struct entry *entries;
    uint32_t count, used, files; /* entries made, in use, with a file */
    uint32_t last, next_file;    /* where the last lookup ended; whose turn it is */
    struct event *later, *flush;
    char *failed; /* why it ends; told by later */
};

extern const char far_no_memory[];

void entry_free(struct far *f, struct entry *e); /* its work has ended: the ref is free */
void far_hear(void *arg, const struct frame *m); /* of the session; arg is the far */
#endif
