/* What tls.c and tls_key.c share. */
#ifndef PPFS_TLS_INT_H
#define PPFS_TLS_INT_H
#include "net/tls.h"

#define TLS_DERIVED 32u /* bytes of a derived key; what TLS_AES_128_GCM_SHA256 takes as pre-shared key */

struct tls_keys {
    uint8_t ppfs_dials[TLS_DERIVED], node_dials[TLS_DERIVED], discovery[TLS_DERIVED];
};

/* 0, or -errno and one sentence. */
int tls_load_keys(struct tls_keys *keys, const char *path, char *why, size_t why_size);
const struct tls_keys *tls_keys(const struct tls *t);

/* For tests: connections made from now on take a new key after so many records. */
void tls_renew_after(struct tls *t, uint32_t records);
#endif
