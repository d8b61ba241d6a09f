/* Checksums of files in spool/: one for each SUM_BLOCK bytes of what is appended, 8 bytes each (little-endian), made as
 * the bytes come and kept in the row that names the file. */
#ifndef PPFS_SUMS_H
#define PPFS_SUMS_H
#include <stddef.h>
#include <stdint.h>

#define SUM_BLOCK (128u << 10)
#define SUM_BLOCKS 17u /* of one read: 2 MiB, wherever it begins */

struct sums { /* {.start = offset of the first byte in the file} is one of no bytes */
    uint64_t start, size;
    uint64_t four[4]; /* of the block under way, but for the rest */
    unsigned char rest[32];
    uint8_t *blocks; /* owned */
    size_t count, cap;
};

/* Bytes that are at the offset in the file; those behind a gap do not count. 0 or -ENOMEM: then nothing is added. */
int sums_add(struct sums *s, const void *bytes, size_t size, uint64_t offset);
int sums_end(struct sums *s); /* no more come: the last block, too, is in s->blocks, once. 0 or -ENOMEM */
void sums_free(struct sums *s);

struct part { /* of a file, and what its blocks have to be */
    uint64_t start, size;
    unsigned count; /* 0: not known */
    uint64_t of[SUM_BLOCKS];
};

/* The blocks of a body (size bytes from start in its file) that have any of the wanted bytes, from all its sums, of
 * which there are so many bytes. -EIO: they are not those of so long a body. */
int part_of(struct part *out, uint64_t start, uint64_t size, const void *sums, size_t sums_size, uint64_t offset,
            size_t want);
/* 0, or -EIO: those are not the bytes that were written. */
int part_check(const struct part *p, const void *bytes);
#endif
