/* Looking ahead of a stream's parser, and its calls by their ids. See stream_lookahead.c. */
#ifndef PPFS_STREAM_LOOKAHEAD_H
#define PPFS_STREAM_LOOKAHEAD_H
#include "net/session/frame.h"
#include "sched/db/store.h"

struct stream;
struct call;

struct lookahead {
    int64_t at;    /* bytes of the input that it, or the parser, has seen */
    uint64_t skip; /* bytes of a body still to be passed over */
    unsigned char head[FRAME_HEADER];
    unsigned have;       /* bytes of head */
    int64_t whole, ends; /* end of the last complete frame that is no PART; of the last frame whose header was met */
    uint64_t parts, part_id; /* bytes of the PARTs before, and their id */
    bool over, reading;      /* over: a malformed frame was met */
    char *buffer;            /* for reading */
    struct mark {
        uint64_t id;
        int64_t cancel, release; /* offset behind its CANCEL, its RELEASE; 0: none; both 0: a free place */
    } * marks;                   /* not read yet: a hash table */
    size_t count, cap;
};

int stream_lookahead(struct stream *st, const char *bytes, size_t size); /* takes appended input. 0 or -errno */
/* continues in input of an earlier daemon, or of one large file. 0 or -errno */
int stream_lookahead_on(struct stream *st);
int stream_lookahead_frames(struct stream *st, const char *bytes, size_t size); /* codec.lookahead */
void stream_lookahead_free(struct lookahead *l);
/* makes it found by its id until it is answered; stream_calls.c */
void stream_index(struct stream *st, struct call *c);
struct call *stream_call_of(const struct stream *st, uint64_t id);    /* NULL: not there, or answered */
bool stream_cancelled(const struct stream *st, const struct call *c); /* its CANCEL was seen ahead of the parser */
bool stream_released(const struct stream *st, const struct call *c);  /* so was its RELEASE */
/* NULL, or why a stream cannot be understood from this frame on. parts, part_id: as in struct lookahead. */
const char *stream_refuses(uint64_t parts, uint64_t part_id, const struct frame *f);
#endif
