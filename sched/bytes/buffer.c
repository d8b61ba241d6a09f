#include "sched/bytes/buffer.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define BUFFER_KEEP (256u * 1024u)

int buffer_reserve(struct buffer *b, size_t more) {
    if (more > SIZE_MAX / 2 - b->size)
        return -ENOMEM;
    if (b->size + more <= b->cap)
        return 0;
    size_t cap = b->cap ? b->cap * 2 : 4096;
    if (cap < b->size + more)
        cap = b->size + more;
    char *grown = realloc(b->bytes, cap);
    if (!grown)
        return -ENOMEM;
    b->bytes = grown;
    b->cap = cap;
    return 0;
}

int buffer_add(struct buffer *b, const void *bytes, size_t size) {
    int rc = buffer_reserve(b, size);
    if (rc == 0 && size) {
        memcpy(b->bytes + b->size, bytes, size);
        b->size += size;
    }
    return rc;
}

void buffer_empty(struct buffer *b) {
    b->size = 0;
    if (b->cap > BUFFER_KEEP)
        buffer_free(b);
}

void buffer_free(struct buffer *b) {
    free(b->bytes);
    *b = (struct buffer){0};
}
