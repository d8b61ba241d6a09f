/* Shared by the files of a remote. Nobody else includes it. */
#ifndef PPFS_REMOTE_PARTS_H
#define PPFS_REMOTE_PARTS_H
#include <sys/queue.h>
#include <sys/types.h>

#include "net/address.h"
#include "net/session/shared_buffer.h"
#include "net/peer/peer.h"
#include "worker/remote/remote_internal.h"
#include "worker/runner/file_reader.h"

struct sending; /* remote_send.c */

struct entry { /* one work; its index is its ref */
    bool used, lease, finished, killed;
    bool told;          /* its end, by us: the node does not tell it */
    int64_t overdue_ms; /* clock_ms when its end is, as it was told to kill it; 0: it was not */
    bool held;
    size_t late;  /* bytes that came of it since it is */
    bool needs;   /* it has asked for a function that it was not given yet */
    bool refused; /* its payload could not be read: it ends with `why`, whatever the node says */
    uint64_t job;
    uint32_t attempt;
    uint32_t sent, answered;    /* numbers of its calls */
    uint32_t recalls, asked;    /* RECALLs that have no answer yet; the lowest number that one of them names */
    char *path;                 /* of the payload that is still to be sent, NULL: none */
    struct file_reader *source; /* it is being read */
    uint32_t pieces, kept;      /* of it, or of its calls and functions: sent; in the node's file, or with its worker */
    char *why;
    struct sending *sending; /* frames of it that wait for a large one to be sent, that one first; NULL: none */
};

struct remote {
    struct event_base *base;
    struct disk *disk;
    struct session *session; /* NULL: it is lost */
    struct remote_owner owner;
    void *owner_arg;
    struct runner_events ev;
    void *arg;
    struct node_about about;
    bool known, begun; /* ABOUT has come; remote_begin was called: from then on it may have work */
    bool corked, wants_room;
    bool large_gone; /* since room() was last looked at */
    char name[NODE_NAME], address[ADDRESS_MAX];
    char *dialled;
    struct entry *entries;
    uint32_t count, used;     /* entries made, in use */
    uint32_t files, sources;  /* of those in use: with a path, with a source */
    size_t late;              /* of those in use, beyond what each may have had ready */
    uint32_t last, next_file; /* where the last lookup ended; whose turn it is */
    struct event *later, *flush, *overdue;
    TAILQ_HEAD(, sending) large; /* of those in use; whose turn it is first */
    char *failed;                /* why it ends; told by later */
};

extern const char remote_no_memory[];

void entry_free(struct remote *f, struct entry *e); /* its work has ended: the ref is free */
void remote_flush(void *self);                      /* sends what was gathered */
bool remote_full(struct remote *f);                 /* so much waits for the session that no more calls are taken */
void remote_soon(struct remote *f);                 /* payloads go on, in the next turn of the loop */
bool remote_busy(struct remote *f);                 /* payloads wait, so that what is small gets through */
uint32_t remote_ref(const struct remote *f, const struct entry *e);
bool remote_waits(const struct remote *f); /* there are payloads, or large frames, that are not sent yet */
/* Sends head and then bytes as the body of one frame of its ref, after PIECE frames if it does not fit, now or after
 * those that wait. The memory is held meanwhile; NULL: what waits is copied. 0, -ENOMEM or -EPIPE: nothing was sent. */
int remote_send(struct remote *f, struct entry *e, enum message_kind kind, uint32_t number, const void *head,
                uint32_t head_size, const void *bytes, size_t size, struct shared_buffer *shared);
bool remote_has_enough(const struct entry *e); /* so much of it waits that no more calls are taken for now */
/* It can have what it asked for last, as far as that can be known, so it may ask for more. */
bool remote_may_need(const struct remote *f, const struct entry *e);
void remote_send_some(struct remote *f);                  /* some pieces of the next large frame */
bool remote_may_send(const struct remote *f);             /* there is one of which the node has room for a piece */
void remote_send_none(struct remote *f, struct entry *e); /* nothing that waits of it is sent any more */
int remote_post(struct remote *f, enum message_kind kind, uint64_t id, const void *body, uint32_t size);
/* Sends a frame with this turn's others. Without memory the remote ends: the work cannot go on without it. */
void remote_must_post(struct remote *f, enum message_kind kind, uint64_t id, const void *body, uint32_t size);
void remote_feed(struct remote *f);                      /* some pieces of the next file */
void remote_file_end(struct remote *f, struct entry *e); /* nothing more is read of its payload */
/* Its end is to come soon, for it was told to kill it; else it is told as if it had. */
void remote_expect_end(struct remote *f, struct entry *e);
void remote_overdue(evutil_socket_t fd, short what, void *arg); /* of the timer of that name */
void remote_held(struct remote *f, struct entry *e, bool held); /* it is, from now on; what it tells is counted */
void remote_hear(void *arg, const struct frame *m);             /* of the session; arg is the remote */
#endif
