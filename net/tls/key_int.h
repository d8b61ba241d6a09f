/* Shared by the files that implement net/tls/key.h. */
#ifndef PPFS_KEY_INT_H
#define PPFS_KEY_INT_H
#include "net/tls/key.h"

struct mount_key {
    uint8_t secret[KEY_SECRET];
    uint8_t sign[KEY_SECRET], mount[KEY_SECRET]; /* an Ed25519 pair: the private key and the public one */
    uint8_t find[TLS_PSK];
};

/* Derives all keys of a mount from its secret. 0 or -ENOTSUP. */
int mount_key_complete(struct mount_key *m);
int key_public(const uint8_t sign[KEY_SECRET], uint8_t mount[KEY_SECRET]); /* of an Ed25519 pair. 0 or -ENOTSUP */
#endif
