/* Bodies of messages, written and read: integers are little endian; a string is a u32 length that counts its final zero
 * byte, then its bytes with no other zero. Errors of reading are remembered: the reader checks `bad` (and `left`) at
 * the end. */
#ifndef PPFS_WIRE_H
#define PPFS_WIRE_H
#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct wire_out {
    uint8_t *at; /* NULL: only counting */
    size_t size;
};

static inline void wire_put(struct wire_out *w, const void *bytes, size_t size) {
    if (w->at && size)
        memcpy(w->at + w->size, bytes, size);
    w->size += size;
}

static inline void wire_put_u32(struct wire_out *w, uint32_t v) {
    v = htole32(v);
    wire_put(w, &v, sizeof(v));
}

static inline void wire_put_u64(struct wire_out *w, uint64_t v) {
    v = htole64(v);
    wire_put(w, &v, sizeof(v));
}

/* NULL is "". */
static inline void wire_put_string(struct wire_out *w, const char *s) {
    size_t size = strlen(s ? s : "") + 1;
    wire_put_u32(w, size > UINT32_MAX ? UINT32_MAX : (uint32_t)size);
    wire_put(w, s ? s : "", size);
}

struct wire_in {
    const uint8_t *at;
    size_t left;
    bool bad;
};

/* A pointer to the next bytes; NULL: there are not so many. */
static inline const void *wire_get(struct wire_in *r, size_t size) {
    const uint8_t *at = r->at;

    if (r->bad || size > r->left) {
        r->bad = true;
        return NULL;
    }
    r->at += size;
    r->left -= size;
    return at;
}

static inline uint32_t wire_get_u32(struct wire_in *r) {
    uint32_t v = 0;
    const void *p = wire_get(r, sizeof(v));
    if (p)
        memcpy(&v, p, sizeof(v));
    return le32toh(v);
}

static inline uint64_t wire_get_u64(struct wire_in *r) {
    uint64_t v = 0;
    const void *p = wire_get(r, sizeof(v));
    if (p)
        memcpy(&v, p, sizeof(v));
    return le64toh(v);
}

static inline const char *wire_get_string(struct wire_in *r) {
    uint32_t size = wire_get_u32(r);
    const char *s = wire_get(r, size);

    if (!s || size == 0 || memchr(s, 0, size) != s + size - 1) {
        r->bad = true;
        return "";
    }
    return s;
}

/* A string without a length, up to its zero byte, into out of room bytes. */
static inline void wire_get_text(struct wire_in *r, char *out, size_t room) {
    size_t n = strnlen((const char *)r->at, r->left);
    const void *p = n < r->left && n < room ? wire_get(r, n + 1) : NULL;

    if (p)
        memcpy(out, p, n + 1);
    else
        r->bad = true;
}
#endif
