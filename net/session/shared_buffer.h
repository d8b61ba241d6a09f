/* Memory with several holders, which senders hold instead of copying it. For one thread. */
#ifndef PPFS_SHARED_BUFFER_H
#define PPFS_SHARED_BUFFER_H
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

struct shared_buffer {
    void *memory;
    unsigned holders;
    int file;    /* the sealed memfd whose map memory is, or -1 */
    size_t size; /* of it */
};

/* Takes over memory, of malloc: the caller is its one holder. NULL without memory: it stays the caller's. */
static inline struct shared_buffer *shared_buffer_new(void *memory) {
    struct shared_buffer *l = malloc(sizeof(*l));

    if (l)
        *l = (struct shared_buffer){.memory = memory, .holders = 1, .file = -1};
    return l;
}

/* The same of a whole memfd, which is sealed: its bytes are what they are. NULL: it stays the caller's. */
static inline struct shared_buffer *shared_buffer_of_file(int file, size_t size) {
    enum { SEALS = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL };
    void *memory = fcntl(file, F_ADD_SEALS, SEALS) ? MAP_FAILED : mmap(NULL, size, PROT_READ, MAP_SHARED, file, 0);
    struct shared_buffer *l = memory == MAP_FAILED ? NULL : shared_buffer_new(memory);

    if (l) {
        l->file = file;
        l->size = size;
    } else if (memory != MAP_FAILED) {
        munmap(memory, size);
    }
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
    if (l->file >= 0) {
        munmap(l->memory, l->size);
        close(l->file);
    } else {
        free(l->memory);
    }
    free(l);
}
#endif
