/* Who the mount is: Ed25519 signatures over what only one connection has. */
#include "net/key_int.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <string.h>

enum { HUB = 16, SIGNED = 16 + TLS_BINDING + HUB };
static const char purpose[16] = "ppfs is mount 2";

/* What is signed. */
static void claim(const uint8_t binding[TLS_BINDING], const uint8_t hub[HUB], uint8_t out[SIGNED]) {
    memcpy(out, purpose, sizeof(purpose));
    memcpy(out + sizeof(purpose), binding, TLS_BINDING);
    memcpy(out + sizeof(purpose) + TLS_BINDING, hub, HUB);
}

int key_public(const uint8_t sign[KEY_SECRET], uint8_t mount[KEY_SECRET]) {
    EVP_PKEY *pair = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, sign, KEY_SECRET);
    size_t size = KEY_SECRET;
    int err = pair && EVP_PKEY_get_raw_public_key(pair, mount, &size) == 1 && size == KEY_SECRET ? 0 : -ENOTSUP;

    EVP_PKEY_free(pair);
    return err;
}

int mount_key_sign(const struct mount_key *m, const uint8_t binding[TLS_BINDING], const uint8_t hub[HUB],
                   uint8_t signature[KEY_SIGNATURE]) {
    EVP_PKEY *pair = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, m->sign, KEY_SECRET);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    uint8_t bytes[SIGNED];
    size_t size = KEY_SIGNATURE;

    claim(binding, hub, bytes);
    int err = pair && ctx && EVP_DigestSignInit(ctx, NULL, NULL, NULL, pair) == 1 &&
                      EVP_DigestSign(ctx, signature, &size, bytes, sizeof(bytes)) == 1 && size == KEY_SIGNATURE
                  ? 0
                  : -ENOTSUP;
    EVP_MD_CTX_free(ctx);
    EVP_PKEY_free(pair);
    return err;
}

bool node_key_verify(const struct node_key *k, const uint8_t binding[TLS_BINDING], const uint8_t hub[HUB],
                     const uint8_t signature[KEY_SIGNATURE]) {
    EVP_PKEY *mount = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, k->mount, KEY_SECRET);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    uint8_t bytes[SIGNED];

    claim(binding, hub, bytes);
    bool right = mount && ctx && EVP_DigestVerifyInit(ctx, NULL, NULL, NULL, mount) == 1 &&
                 EVP_DigestVerify(ctx, signature, KEY_SIGNATURE, bytes, sizeof(bytes)) == 1;
    EVP_MD_CTX_free(ctx);
    EVP_PKEY_free(mount);
    return right;
}
