/* Bytes that grow, and lie together. A zeroed struct is an empty one. (An evbuffer takes three times as long for an
 * answer of 40 bytes: 45 ns, not 16.) */
#ifndef PPFS_BUFFER_H
#define PPFS_BUFFER_H
#include <stddef.h>

struct buffer {
    char *bytes; /* malloc'd; whoever steals them leaves a zeroed struct */
    size_t size, cap;
};
int buffer_reserve(struct buffer *b, size_t more);                /* room for so many bytes more; 0 or -ENOMEM */
int buffer_add(struct buffer *b, const void *bytes, size_t size); /* 0 or -ENOMEM: nothing was added */
void buffer_empty(struct buffer *b);                              /* memory that is small is kept for the next time */
void buffer_free(struct buffer *b);
#endif
