/* What tls.c and tls_key.c share. */
#ifndef PPFS_TLS_INT_H
#define PPFS_TLS_INT_H
#include "net/tls.h"

/* The keys in the order of their ids. */
struct tls_keys {
    struct tls_key *at;
    size_t count, room;
    uint8_t find[TLS_PSK];
};

const struct tls_keys *tls_keys(const struct tls *t);
int tls_keys_add(struct tls_keys *keys, const struct tls_key *key); /* 0, -EEXIST or -ENOMEM */
void tls_keys_drop(struct tls_keys *keys, const uint8_t id[TLS_KEY_ID]);
const struct tls_key *tls_keys_find(const struct tls_keys *keys, const uint8_t *id, size_t size); /* NULL: unknown */
void tls_keys_free(struct tls_keys *keys);

/* For tests: connections made from now on take a new key after so many records. */
void tls_renew_after(struct tls *t, uint32_t records);
#endif
