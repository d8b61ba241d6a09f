#include "net/digest.h"

#include <errno.h>
#include <openssl/evp.h>

int digest(const void *bytes, size_t size, uint8_t out[DIGEST_SIZE]) {
    return EVP_Digest(bytes, size, out, NULL, EVP_sha256(), NULL) == 1 ? 0 : -ENOTSUP;
}
