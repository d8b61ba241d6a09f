/* Hashes for tables in memory and for ids made of names; not safe against an attacker who chooses the input. */
#ifndef PPFS_HASH_H
#define PPFS_HASH_H
#include <stddef.h>
#include <stdint.h>

/* Hash of a number; use its upper bits (Fibonacci hashing). */
static inline uint64_t hash_number(uint64_t n) {
    return n * 0x9e3779b97f4a7c15u;
}

static inline uint64_t hash_bytes(const void *bytes, size_t size) { /* FNV-1a */
    uint64_t h = 0xcbf29ce484222325u;
    for (const unsigned char *p = bytes, *end = p + size; p < end; p++)
        h = (h ^ *p) * 0x100000001b3u;
    return h;
}
#endif
