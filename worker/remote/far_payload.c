/* Payload files on their way to a node: the disk thread reads them, SOURCES at a time, and they are sent a few pieces a
 * turn, of one file after the other, while the session takes them and no more than FAR_AHEAD pieces of each wait for
 * the node's disk. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/remote/far_parts.h"

enum { PIECES_A_TURN = 4, SOURCES = 8 };

/* Nothing more is read of its payload. */
void far_file_end(struct far *f, struct entry *e) {
    f->files -= e->path != NULL;
    f->sources -= e->source != NULL;
    free(e->path);
    source_close(e->source);
    e->path = NULL;
    e->source = NULL;
    if (f->files > f->sources) /* there may be room for another */
        far_soon(f);
}

/* Its payload cannot be read: the node drops it, and it ends for that reason. */
static void refuse(struct far *f, struct entry *e, int err) {
    far_file_end(f, e);
    e->refused = true;
    if (asprintf(&e->why, "its bytes could not be read while they were sent to node %s: %s", f->name, strerror(err)) <
        0)
        e->why = NULL;
    far_must_post(f, FAR_KILL, far_id(far_ref(f, e), 0), NULL, 0);
}

/* It has something to send: bytes that the node's disk has room for, the end, or why it cannot be read. */
static bool has_piece(const struct entry *e) {
    const uint8_t *bytes;
    return e->source && e->pieces - e->kept < FAR_AHEAD && source_peek(e->source, &bytes) != -EAGAIN;
}

static void send_pieces(struct far *f, struct entry *e) {
    for (int i = 0; i < PIECES_A_TURN && f->session && has_piece(e); i++) {
        const uint8_t *bytes;
        ssize_t n = source_peek(e->source, &bytes);
        uint32_t size = n > FAR_CHUNK ? FAR_CHUNK : (uint32_t)n;
        if (n < 0) {
            refuse(f, e, (int)-n);
        } else if (n == 0) {
            far_must_post(f, FAR_PAYLOAD_END, far_id(far_ref(f, e), 0), NULL, 0);
            far_file_end(f, e);
        } else {
            far_must_post(f, FAR_PAYLOAD, far_id(far_ref(f, e), 0), bytes, size);
            source_took(e->source, size);
            e->pieces++;
        }
    }
}

static void on_ready(void *arg) {
    far_soon(arg);
}

/* More files are begun, as long as few are. */
static void read_more(struct far *f) {
    for (uint32_t i = 0; f->sources < f->files && f->sources < SOURCES && i < f->count; i++) {
        struct entry *e = &f->entries[(f->next_file + i) % f->count];
        if (!e->path || e->source)
            continue;
        if (source_open(&e->source, f->disk, e->path, on_ready, f))
            refuse(f, e, ENOMEM);
        else
            f->sources++;
    }
}

/* The next entry that has something to send, NULL: none. */
static struct entry *next_piece(struct far *f) {
    for (uint32_t i = 0; f->sources && i < f->count; i++) {
        struct entry *e = &f->entries[f->next_file++ % f->count];
        if (has_piece(e))
            return e;
    }
    return NULL;
}

void far_feed(struct far *f) {
    read_more(f);
    struct entry *e = next_piece(f);
    if (e)
        send_pieces(f, e);
    if (f->session && !far_busy(f))
        far_send_some(f);
    bool more = (e && f->files) || !TAILQ_EMPTY(&f->large); /* without e: on_ready or KEPT */
    if (f->session && more && !far_busy(f))                 /* else flush(), room() or sent() */
        far_soon(f);
}
