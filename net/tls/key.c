/* Keys derived from secrets. */
#include "net/tls/key_int.h"

#include <errno.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char salt[] = "ppfs key 2";

/* HKDF-SHA256 (RFC 5869) of a secret, with the purpose as info. 0 or -ENOTSUP. */
static int derive(const uint8_t secret[KEY_SECRET], const char *purpose, void *out, size_t size) {
    EVP_KDF *kdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
    EVP_KDF_CTX *ctx = kdf ? EVP_KDF_CTX_new(kdf) : NULL;
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, "SHA256", 0),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void *)secret, KEY_SECRET),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT, (void *)salt, sizeof(salt) - 1),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, (void *)purpose, strlen(purpose)),
        OSSL_PARAM_construct_end(),
    };
    int err = ctx && EVP_KDF_derive(ctx, out, size, params) == 1 ? 0 : -ENOTSUP;

    EVP_KDF_CTX_free(ctx);
    EVP_KDF_free(kdf);
    return err;
}

int mount_key_complete(struct mount_key *m) {
    int err = derive(m->secret, "mount signs", m->sign, KEY_SECRET);

    if (!err)
        err = derive(m->secret, "discovery", m->find, TLS_PSK);
    return err ? err : key_public(m->sign, m->mount);
}

void mount_key_destroy(struct mount_key *m) {
    if (m)
        OPENSSL_cleanse(m, sizeof(*m));
    free(m);
}

const uint8_t *mount_key_find(const struct mount_key *m) {
    return m->find;
}

int mount_key_join(const struct mount_key *m, uint8_t secret[KEY_SECRET]) {
    return derive(m->secret, "any node", secret, KEY_SECRET);
}

void mount_key_node(const struct mount_key *m, const char *name, const uint8_t secret[KEY_SECRET],
                    struct node_key *out) {
    *out = (struct node_key){0};
    snprintf(out->name, KEY_NAME, "%s", name);
    memcpy(out->secret, secret, KEY_SECRET);
    memcpy(out->mount, m->mount, KEY_SECRET);
    memcpy(out->find, m->find, TLS_PSK);
}

int node_key_tls(const uint8_t secret[KEY_SECRET], struct tls_key *out) {
    int err = derive(secret, "identity", out->id, TLS_KEY_ID);
    return err ? err : derive(secret, "connection", out->psk, TLS_PSK);
}

void key_wipe(void *bytes, size_t size) {
    OPENSSL_cleanse(bytes, size);
}
