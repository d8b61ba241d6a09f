/* The SHA-256 of bytes. For any thread. */
#ifndef PPFS_DIGEST_H
#define PPFS_DIGEST_H
#include <stddef.h>
#include <stdint.h>

#define DIGEST_SIZE 32u

/* 0, or -ENOTSUP if OpenSSL cannot do it. */
int digest(const void *bytes, size_t size, uint8_t out[DIGEST_SIZE]);
#endif
