/* The store's streams: their logs and positions. */
#ifndef PPFS_STORE_STREAMS_H
#define PPFS_STORE_STREAMS_H
#include "sched/bytes/buffer.h"
#include "sched/job/job.h"

struct part;
struct store;
struct sums;

struct stream_row {      /* position of a stream, committed with its answers */
    int64_t at;          /* offset of the first call that is not answered ... */
    uint64_t call, line; /* ... its number, and the number of lines before it */
    uint64_t suspect;    /* 1 + number of a call that runs long, 0 = none ... */
    uint32_t deaths;     /* ... and the deaths of ppfs while it ran */
};
int64_t store_log_size(struct store *st, uint64_t job, enum job_body b);
int store_log_append(struct store *st, uint64_t job, enum job_body b, int64_t start, const void *bytes, size_t size);
/* size bytes that stand in its spool file at the offset start. sums: those that have ended. */
int store_log_append_file(struct store *st, uint64_t job, enum job_body b, int64_t start, size_t size,
                          const struct sums *sums);
/* Returns the bytes copied or -errno. 0 with *in_file > 0: so many of the bytes wanted stand in the spool file at
 * offset, in these blocks. */
int64_t store_log_read(struct store *st, uint64_t job, enum job_body b, void *buf, size_t size, uint64_t offset,
                       size_t *in_file, struct part *part);
int store_log_drop(struct store *st, uint64_t job, enum job_body b);
int store_trash_slice(struct store *st, int max); /* 1: there may be more */
/* The first rows, max of them, of those that start before that go behind the size bytes of another log. Returns how
 * many. */
int store_log_move(struct store *st, uint64_t job, enum job_body from, int64_t before, enum job_body to, int64_t *size,
                   int max);
/* Deletes up to max rows with from <= start < before. Returns their number. */
int store_log_cut(struct store *st, uint64_t job, enum job_body b, int64_t from, int64_t before, int max);
/* answered: the answered calls from there on, in the form of stream_calls.c; NULL: not wanted. Empty, or the
 * caller's. */
int store_stream_get(struct store *st, uint64_t job, struct stream_row *out, struct buffer *answered);
int store_stream_put(struct store *st, uint64_t job, const struct stream_row *r, const struct buffer *answered);
int store_stream_delete(struct store *st, uint64_t job);
/* Streams that have ended, and that have jobs of calls still to be removed. */
int store_leaving_add(struct store *st, uint64_t stream);
int store_leaving(struct store *st, uint64_t from, uint64_t *stream); /* the first from there on, or -ENOENT */
int store_leaving_done(struct store *st, uint64_t stream);
#endif
