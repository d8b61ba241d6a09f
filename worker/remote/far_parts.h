/* What far.c (what it was given, and sending it), far_payload.c and far_hear.c (what the node says) share. Nobody else
 * includes it. */
#ifndef PPFS_FAR_PARTS_H
#define PPFS_FAR_PARTS_H
#include <sys/types.h>

#include "net/address.h"
#include "net/peer/peer.h"
#include "worker/remote/far_internal.h"
#include "worker/runner/source.h"

struct entry { /* one work; its index is its ref */
    bool used, lease, finished, killed;
    bool refused; /* its payload could not be read: it ends with `why`, whatever the node says */
    uint64_t job;
    uint32_t attempt;
    uint32_t sent, answered; /* numbers of its calls */
    uint32_t recalls, asked; /* RECALLs that have no answer yet; the lowest number that one of them names */
    char *path;              /* of the payload that is still to be sent, NULL: none */
    struct source *source;   /* it is being read */
    uint32_t pieces, kept;   /* of it, sent and in the node's file */
    char *why;
};

struct far {
    struct event_base *base;
    struct disk *disk;
    struct session *session; /* NULL: it is lost */
    struct far_owner owner;
    void *owner_arg;
    struct pool_events ev;
    void *arg;
    struct far_about about;
    bool known, begun; /* ABOUT has come; far_begin was called: from then on it may have work */
    bool corked, wants_room;
    char name[FAR_NAME], address[ADDRESS_MAX];
    char *dialled;
    struct entry *entries;
    uint32_t count, used;     /* entries made, in use */
    uint32_t files, sources;  /* of those in use: with a path, with a source */
    uint32_t last, next_file; /* where the last lookup ended; whose turn it is */
    struct event *later, *flush;
    char *failed; /* why it ends; told by later */
};

extern const char far_no_memory[];

void entry_free(struct far *f, struct entry *e); /* its work has ended: the ref is free */
void far_soon(struct far *f);                    /* payloads go on, in the next turn of the loop */
bool far_busy(struct far *f);                    /* payloads wait, so that what is small gets through */
uint32_t far_ref(const struct far *f, const struct entry *e);
/* Sends a frame with this turn's others. Without memory the far ends: the work cannot go on without it. */
void far_must_post(struct far *f, enum far_frame kind, uint64_t id, const void *body, uint32_t size);
void far_feed(struct far *f);                      /* some pieces of the next file */
void far_file_end(struct far *f, struct entry *e); /* nothing more is read of its payload */
void far_hear(void *arg, const struct frame *m);   /* of the session; arg is the far */
#endif
