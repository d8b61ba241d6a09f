/* Memory with several holders, which senders hold instead of copying it. For one thread. */
#ifndef PPFS_SHARED_BUFFER_H
#define PPFS_SHARED_BUFFER_H
#include <stdlib.h>

struct shared_buffer {
    void *memory;
    unsigned holders;
};

/* Takes over memory, of malloc: the caller is its one holder. NULL without memory: it stays the caller's. */
static inline struct shared_buffer *shared_buffer_new(void *memory) {
    struct shared_buffer *l = malloc(sizeof(*l));

    if (l)
        *l = (struct shared_buffer){.memory = memory, .holders = 1};
    return l;
}

static inline struct shared_buffer *shared_buffer_hold(struct shared_buffer *l) {
    l->holders++;
    return l;
}

/* Accepts NULL; the last one frees the memory. */
static inline void shared_buffer_release(struct shared_buffer *l) {
    if (!l || --l->holders)
        return;
    free(l->memory);
    free(l);
}
#endif
