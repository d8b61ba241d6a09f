/* Answers and output of calls that are not committed yet. See stream_kept.c. */
#ifndef PPFS_STREAM_KEPT_H
#define PPFS_STREAM_KEPT_H
#include "sched/calls/call.h"

struct user;

enum kept_kind {
    KEPT_NOTHING,
    KEPT_STDOUT,
    KEPT_STDERR,
    KEPT_PRINTED, /* stdout and stderr, as they go out */
    KEPT_VALUE,   /* this kind and the next ones end a call */
    KEPT_ERROR,
    KEPT_WHOLE, /* the answer as it goes out */
    KEPT_FAILED /* the sentence why the call failed, with its zero */
};
TAILQ_HEAD(kept_list, kept);

/* stream_kept.c: answers that are not committed yet are not lost with a commit that fails. p: pieces that come before
 * bytes, or NULL; they are taken. */
void stream_keep(struct stream *st, uint64_t number, enum kept_kind kind, const void *bytes, size_t size,
                 struct pieces *p);
/* Of one that has not met that call yet, or is not in memory. False: there is no memory, and nothing was kept. */
bool stream_keep_away(struct user *u, uint64_t stream, uint64_t number, enum kept_kind kind, const void *bytes,
                      size_t size, struct pieces *p);
void stream_kept_logged(struct stream *st, uint64_t stage); /* all up to that stage is in the log with this turn */
bool stream_kept_ended(const struct stream *st, uint64_t number); /* whether the end of that call is kept */
void stream_kept_gather(struct stream *st);                       /* before it leaves memory after a failed commit */
/* it leaves memory; what it has stays until the commit, or until it is read anew ... */
void stream_kept_leave(struct stream *st);
void stream_kept_load(struct stream *st);  /* ... which this is */
int stream_kept_replay(struct stream *st); /* answers calls that the parser has read again. 0 or -errno */
void stream_kept_turned(struct sched *s, bool committed); /* at the end of a turn, for all streams */
void stream_kept_end(struct sched *s, uint64_t stream);   /* it ends with this turn's commit */
void stream_kept_free(struct sched *s);
#endif
