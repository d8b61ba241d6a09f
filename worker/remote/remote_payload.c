/* Payload files on their way to a node: the disk thread reads them, SOURCES at a time, and they are sent a few pieces a
 * turn, of one file after the other, while the session takes them and no more than PAYLOAD_AHEAD pieces of each wait
 * for the node's disk. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/remote/remote_parts.h"

enum { PIECES_A_TURN = 4, SOURCES = 8 };

/* Nothing more is read of its payload. */
void remote_file_end(struct remote *f, struct entry *e) {
    f->files -= e->path != NULL;
    f->sources -= e->source != NULL;
    free(e->path);
    file_reader_close(e->source);
    e->path = NULL;
    e->source = NULL;
    if (f->files > f->sources) /* there may be room for another */
        remote_soon(f);
}

/* The payload cannot be read: the node drops the work, which ends with that reason. */
static void refuse(struct remote *f, struct entry *e, int err) {
    remote_file_end(f, e);
    e->refused = true;
    if (asprintf(&e->why, "its bytes could not be read while they were sent to node %s: %s", f->name, strerror(err)) <
        0)
        e->why = NULL;
    remote_expect_end(f, e);
    remote_must_post(f, MESSAGE_KILL, message_id(remote_ref(f, e), 0), NULL, 0);
}

/* Whether it has a piece that the node has room for, its end, or an error. */
static bool has_piece(const struct entry *e) {
    const uint8_t *bytes;
    return e->source && e->pieces - e->kept < PAYLOAD_AHEAD && file_reader_peek(e->source, &bytes) != -EAGAIN;
}

static void send_pieces(struct remote *f, struct entry *e) {
    for (int i = 0; i < PIECES_A_TURN && f->session && has_piece(e); i++) {
        const uint8_t *bytes;
        ssize_t n = file_reader_peek(e->source, &bytes);
        uint32_t size = n > MESSAGE_CHUNK ? MESSAGE_CHUNK : (uint32_t)n;
        if (n < 0) {
            refuse(f, e, (int)-n);
        } else if (n == 0) {
            remote_must_post(f, MESSAGE_PAYLOAD_END, message_id(remote_ref(f, e), 0), NULL, 0);
            remote_file_end(f, e);
        } else {
            remote_must_post(f, MESSAGE_PAYLOAD, message_id(remote_ref(f, e), 0), bytes, size);
            file_reader_took(e->source, size);
            e->pieces++;
        }
    }
}

static void on_ready(void *arg) {
    remote_soon(arg);
}

/* Opens more files, up to SOURCES. */
static void read_more(struct remote *f) {
    for (uint32_t i = 0; f->sources < f->files && f->sources < SOURCES && i < f->count; i++) {
        struct entry *e = &f->entries[(f->next_file + i) % f->count];
        if (!e->path || e->source)
            continue;
        if (file_reader_open(&e->source, f->disk, e->path, on_ready, f))
            refuse(f, e, ENOMEM);
        else
            f->sources++;
    }
}

/* The next entry with a piece to send; NULL: none. */
static struct entry *next_piece(struct remote *f) {
    for (uint32_t i = 0; f->sources && i < f->count; i++) {
        struct entry *e = &f->entries[f->next_file++ % f->count];
        if (has_piece(e))
            return e;
    }
    return NULL;
}

void remote_feed(struct remote *f) {
    read_more(f);
    struct entry *e = next_piece(f);
    if (e)
        send_pieces(f, e);
    if (f->session && !remote_busy(f))
        remote_send_some(f);
    bool more = (e && f->files) || remote_may_send(f); /* without e: on_ready or KEPT */
    if (f->session && more && !remote_busy(f))         /* else flush(), room() or sent() */
        remote_soon(f);
}
