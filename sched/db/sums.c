/* A block has four sums at once, for a processor multiplies four numbers in the time of one. Each step can be undone,
 * so that a change within the eight bytes of a step always changes the sum. */
#include "sched/db/sums.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ROW sizeof((struct sums *)0)->rest

static uint64_t step(uint64_t sum, uint64_t word) {
    sum = (sum ^ word) * 0x9e3779b97f4a7c15u;
    return sum << 29 | sum >> 35;
}

static void add_rows(uint64_t four[4], const unsigned char *bytes, size_t rows) {
    uint64_t a = four[0], b = four[1], c = four[2], d = four[3], w[4];
    for (; rows; rows--, bytes += sizeof w) {
        memcpy(w, bytes, sizeof w);
        a = step(a, le64toh(w[0]));
        b = step(b, le64toh(w[1]));
        c = step(c, le64toh(w[2]));
        d = step(d, le64toh(w[3]));
    }
    four[0] = a, four[1] = b, four[2] = c, four[3] = d;
}

/* rest: what did not fill a row. */
static uint64_t end_block(uint64_t four[4], const void *rest, size_t size) {
    unsigned char row[ROW] = {0};
    uint64_t sum = size;
    memcpy(row, rest, size % ROW);
    add_rows(four, row, 1);
    for (int i = 0; i < 4; i++)
        sum = step(sum, four[i]);
    memset(four, 0, 4 * sizeof *four);
    return sum;
}

static void put_block(struct sums *s, size_t size) {
    uint64_t sum = htole64(end_block(s->four, s->rest, size));
    memcpy(s->blocks + s->count++ * sizeof sum, &sum, sizeof sum);
}

/* For that many more bytes, and the last block. */
static int reserve(struct sums *s, size_t more) {
    size_t want = s->count + more / SUM_BLOCK + 2, cap = s->cap ? s->cap : 4;
    while (cap < want)
        cap *= 2;
    if (cap == s->cap)
        return 0;
    uint8_t *grown = realloc(s->blocks, cap * sizeof(uint64_t));
    if (!grown)
        return -ENOMEM;
    s->blocks = grown;
    s->cap = cap;
    return 0;
}

int sums_add(struct sums *s, const void *bytes, size_t size, uint64_t offset) {
    const unsigned char *at = bytes;
    if (offset != s->start + s->size)
        return 0;
    int rc = reserve(s, size);
    if (rc < 0)
        return rc;
    while (size) {
        size_t in = s->size % SUM_BLOCK, have = in % ROW, n = have ? ROW - have : SUM_BLOCK - in;
        if (n > size)
            n = size;
        if (have) {
            memcpy(s->rest + have, at, n);
            add_rows(s->four, s->rest, have + n == ROW);
        } else {
            add_rows(s->four, at, n / ROW);
            memcpy(s->rest, at + n - n % ROW, n % ROW);
        }
        s->size += n;
        at += n;
        size -= n;
        if (s->size % SUM_BLOCK == 0)
            put_block(s, SUM_BLOCK);
    }
    return 0;
}

int sums_end(struct sums *s) {
    int rc = reserve(s, 0);
    if (rc == 0 && s->count * SUM_BLOCK < s->size)
        put_block(s, s->size % SUM_BLOCK);
    return rc;
}

void sums_free(struct sums *s) {
    free(s->blocks);
    *s = (struct sums){0};
}

int part_of(struct part *out, uint64_t start, uint64_t size, const void *sums, size_t sums_size, uint64_t offset,
            size_t want) {
    uint64_t first = (offset - start) / SUM_BLOCK, all = (size + SUM_BLOCK - 1) / SUM_BLOCK;
    *out = (struct part){.start = start + first * SUM_BLOCK};
    if (sums_size != all * sizeof *out->of)
        return -EIO;
    for (; out->count < SUM_BLOCKS && first < all && out->start + out->size < offset + want; first++) {
        memcpy(&out->of[out->count++], (const char *)sums + first * sizeof *out->of, sizeof *out->of);
        out->size += (first + 1) * SUM_BLOCK <= size ? SUM_BLOCK : size % SUM_BLOCK;
    }
    return 0;
}

int part_check(const struct part *p, const void *bytes) {
    const char *at = bytes;
    uint64_t left = p->size;
    for (unsigned i = 0; i < p->count; i++) {
        uint64_t four[4] = {0};
        size_t size = left < SUM_BLOCK ? (size_t)left : SUM_BLOCK;
        add_rows(four, (const unsigned char *)at, size / ROW);
        if (end_block(four, at + size - size % ROW, size) != le64toh(p->of[i]))
            return -EIO;
        at += size;
        left -= size;
    }
    return 0;
}
