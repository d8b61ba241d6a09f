/* The key file, and what is derived from it. The bytes of the file are used as they are, the newline included, so that
 * any file of random bytes will do. */
#include "net/tls_int.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/hmac.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "net/trusted.h"

static int write_key(int fd) {
    uint8_t random[32];
    char text[2 * sizeof(random) + 1];
    int err = tls_random(random, sizeof(random));

    for (size_t i = 0; !err && i < sizeof(random); i++)
        snprintf(text + 2 * i, 3, "%02x", random[i]);
    text[sizeof(text) - 1] = '\n';
    for (size_t done = 0; !err && done < sizeof(text);) {
        ssize_t n = write(fd, text + done, sizeof(text) - done);
        if (n >= 0)
            done += (size_t)n;
        else if (errno != EINTR)
            err = -errno;
    }
    if (!err && fsync(fd))
        err = -errno;
    OPENSSL_cleanse(random, sizeof(random));
    OPENSSL_cleanse(text, sizeof(text));
    return err;
}

int tls_make_key(const char *path) {
    char draft[PATH_MAX];

    if (!access(path, F_OK))
        return 0;
    if (snprintf(draft, sizeof(draft), "%s.XXXXXX", path) >= (int)sizeof(draft))
        return -ENAMETOOLONG;
    int fd = mkostemp(draft, O_CLOEXEC); /* mode 0600 */
    if (fd < 0)
        return -errno;
    int err = write_key(fd);
    close(fd);
    /* Of two that start at once one makes the key, and the other uses it. */
    if (!err && link(draft, path) && errno != EEXIST)
        err = -errno;
    unlink(draft);
    return err;
}

/* Reads the whole file into secret. The bytes, or -errno and a sentence. */
static ssize_t read_key(const char *path, uint8_t secret[TLS_KEY_MAX + 1], char *why, size_t why_size) {
    struct stat st;
    size_t have = 0;
    ssize_t n = 1;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

    if (fd < 0 || fstat(fd, &st)) {
        n = -errno;
        snprintf(why, why_size, "the key file %s cannot be read: %s%s", path, strerror(errno),
                 errno == ENOENT ? " (copy it there from the state directory of the ppfs)" : "");
        goto out;
    }
    if (!S_ISREG(st.st_mode)) {
        snprintf(why, why_size, "the key %s is not a regular file", path);
        n = -EINVAL;
        goto out;
    }
    if (!trusted_user(st.st_uid)) {
        snprintf(why, why_size,
                 "the key file %s belongs to user %u, who could put another key into it; make a copy of your own", path,
                 (unsigned)st.st_uid);
        n = -EPERM;
        goto out;
    }
    if (st.st_mode & 077) {
        snprintf(why, why_size, "the key file %s can be used by others (mode %03o); run: chmod 600 %s", path,
                 (unsigned)st.st_mode & 0777, path);
        n = -EPERM;
        goto out;
    }
    while (n && have <= TLS_KEY_MAX) {
        n = read(fd, secret + have, TLS_KEY_MAX + 1 - have);
        if (n < 0 && errno != EINTR) {
            n = -errno;
            snprintf(why, why_size, "the key file %s cannot be read: %s", path, strerror(errno));
            goto out;
        }
        have += n > 0 ? (size_t)n : 0;
    }
    n = (ssize_t)have;
    if (have < TLS_KEY_MIN || have > TLS_KEY_MAX) {
        snprintf(why, why_size,
                 have < TLS_KEY_MIN
                     ? "the key file %s has %zu bytes, at least 32 are needed; make one: head -c 32 /dev/urandom > FILE"
                     : "the key file %s has %zu bytes or more, at most 4096 are allowed",
                 path, have);
        n = -EINVAL;
    }
out:
    if (fd >= 0)
        close(fd);
    return n;
}

/* HKDF-SHA256 (RFC 5869) with the purpose as info. */
static int derive(const uint8_t *secret, size_t size, const char *purpose, uint8_t out[TLS_DERIVED]) {
    EVP_KDF *kdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
    EVP_KDF_CTX *ctx = kdf ? EVP_KDF_CTX_new(kdf) : NULL;
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, "SHA256", 0),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void *)secret, size),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT, "ppfs key 1", 10),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, (void *)purpose, strlen(purpose)),
        OSSL_PARAM_construct_end(),
    };
    int err = ctx && EVP_KDF_derive(ctx, out, TLS_DERIVED, params) == 1 ? 0 : -ENOTSUP;

    EVP_KDF_CTX_free(ctx);
    EVP_KDF_free(kdf);
    return err;
}

int tls_load_keys(struct tls_keys *keys, const char *path, char *why, size_t why_size) {
    uint8_t secret[TLS_KEY_MAX + 1];
    ssize_t size = read_key(path, secret, why, why_size);
    int err = size < 0 ? (int)size : 0;

    if (!err) {
        err = derive(secret, (size_t)size, "ppfs dials node", keys->ppfs_dials);
        if (!err)
            err = derive(secret, (size_t)size, "node dials ppfs", keys->node_dials);
        if (!err)
            err = derive(secret, (size_t)size, "discovery", keys->discovery);
        if (err)
            snprintf(why, why_size, "OpenSSL has no HKDF here, so no connection can be secured");
    }
    OPENSSL_cleanse(secret, sizeof(secret));
    return err;
}

int tls_sign(const struct tls *t, const void *bytes, size_t size, uint8_t mac[TLS_MAC_SIZE]) {
    return HMAC(EVP_sha256(), tls_keys(t)->discovery, TLS_DERIVED, bytes, size, mac, NULL) ? 0 : -ENOTSUP;
}

bool tls_verify(const struct tls *t, const void *bytes, size_t size, const uint8_t mac[TLS_MAC_SIZE]) {
    uint8_t right[TLS_MAC_SIZE];

    return !tls_sign(t, bytes, size, right) && CRYPTO_memcmp(right, mac, TLS_MAC_SIZE) == 0;
}

int tls_random(void *bytes, size_t size) {
    return size <= INT_MAX && RAND_bytes(bytes, (int)size) == 1 ? 0 : -EIO;
}
