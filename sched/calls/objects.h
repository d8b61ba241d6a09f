/* Functions and values: pickles that FUNC frames bring, and that calls name by their SHA-256.
 *
 * A hash names objects of the same user alone, so nobody learns by it whether another user has an object. The hash of
 * each object is checked when it comes. A worker is given only the objects of the call that it runs. */
#ifndef PPFS_OBJECTS_H
#define PPFS_OBJECTS_H
#include "sched/calls/stream_int.h"

/* A FUNC frame: a hash and its object. A large object goes to a file first; the parser of its stream waits meanwhile
 * (st->storing). An object that is too large, or has another hash, is logged and left out. 0 or -errno. */
int objects_take(struct stream *st, const char *body, size_t size);

/* The file of a large object: the spec of an id that has no job. */
static inline struct spool_name objects_file(uint64_t id) {
    return (struct spool_name){id, BODY_SPEC, SPEC_FILE};
}

/* Looks an object of that user up. 0: its bytes were added to into (NULL: only the size is wanted); 1: file has them;
 * -ENOENT, -errno. */
int objects_find(struct sched *s, uid_t uid, const uint8_t hash[32], struct buffer *into, size_t *size,
                 struct spool_name *file);
#endif
