/* Functions and values: what FUNC frames bring, and calls name by the SHA-256 of its pickle.
 *
 * A hash names what streams of the same user have brought: nobody learns from it what another has, nor whether he has
 * it. It is that of the content, which is checked when it comes. A worker is given only what the call that it runs
 * names. */
#ifndef PPFS_OBJECTS_H
#define PPFS_OBJECTS_H
#include "sched/calls/stream_int.h"

/* A FUNC frame: a hash, and what has it. A large one goes to a file first: until then the parser of its stream stops
 * (st->storing), and with the row that says so it goes on. One that is too large, or has another hash, is logged and
 * left out. 0 or -errno. */
int objects_take(struct stream *st, const char *body, size_t size);

/* The file of a large one: the spec of an id that has no job. */
static inline struct spool_name objects_file(uint64_t id) {
    return (struct spool_name){id, BODY_SPEC, SPEC_FILE};
}

/* What a user's stream names: 0, its bytes were added to into (NULL: only its size is asked for); 1, file has them;
 * -ENOENT, -errno. */
int objects_find(struct sched *s, uid_t uid, const uint8_t hash[32], struct buffer *into, size_t *size,
                 struct spool_name *file);
#endif
