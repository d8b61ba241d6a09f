/* Authenticates the mount: Ed25519 signatures over values that only one handshake has. */
#include "net/tls/key_int.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <string.h>

enum { PURPOSE = 16, SIGNED = PURPOSE + sizeof(struct key_greeting) };
static const char purpose[PURPOSE] = "ppfs is mount 3";
_Static_assert(sizeof(struct key_greeting) == TLS_BINDING + KEY_NONCE + 32, "it is signed as it is, without gaps");

/* The signed bytes. */
static void claim(const struct key_greeting *g, uint8_t out[SIGNED]) {
    memcpy(out, purpose, PURPOSE);
    memcpy(out + PURPOSE, g, sizeof(*g));
}

int key_public(const uint8_t sign[KEY_SECRET], uint8_t mount[KEY_SECRET]) {
    EVP_PKEY *pair = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, sign, KEY_SECRET);
    size_t size = KEY_SECRET;
    int err = pair && EVP_PKEY_get_raw_public_key(pair, mount, &size) == 1 && size == KEY_SECRET ? 0 : -ENOTSUP;

    EVP_PKEY_free(pair);
    return err;
}

int mount_key_sign(const struct mount_key *m, const struct key_greeting *g, uint8_t signature[KEY_SIGNATURE]) {
    EVP_PKEY *pair = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, m->sign, KEY_SECRET);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    uint8_t bytes[SIGNED];
    size_t size = KEY_SIGNATURE;

    claim(g, bytes);
    int err = pair && ctx && EVP_DigestSignInit(ctx, NULL, NULL, NULL, pair) == 1 &&
                      EVP_DigestSign(ctx, signature, &size, bytes, sizeof(bytes)) == 1 && size == KEY_SIGNATURE
                  ? 0
                  : -ENOTSUP;
    EVP_MD_CTX_free(ctx);
    EVP_PKEY_free(pair);
    return err;
}

bool node_key_verify(const struct node_key *k, const struct key_greeting *g, const uint8_t signature[KEY_SIGNATURE]) {
    EVP_PKEY *mount = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, k->mount, KEY_SECRET);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    uint8_t bytes[SIGNED];

    claim(g, bytes);
    bool right = mount && ctx && EVP_DigestVerifyInit(ctx, NULL, NULL, NULL, mount) == 1 &&
                 EVP_DigestVerify(ctx, signature, KEY_SIGNATURE, bytes, sizeof(bytes)) == 1;
    EVP_MD_CTX_free(ctx);
    EVP_PKEY_free(mount);
    return right;
}
