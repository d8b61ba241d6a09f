/* The table of keys, and random bytes. */
#include "net/tls/tls_int.h"

#include <errno.h>
#include <limits.h>
#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>

/* The index of the first key whose id is not lower. */
static size_t place(const struct tls_keys *keys, const uint8_t id[TLS_KEY_ID]) {
    size_t low = 0, high = keys->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (memcmp(keys->at[middle].id, id, TLS_KEY_ID) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

const struct tls_key *tls_keys_find(const struct tls_keys *keys, const uint8_t *id, size_t size) {
    size_t at = size == TLS_KEY_ID ? place(keys, id) : keys->count;

    return at < keys->count && !memcmp(keys->at[at].id, id, TLS_KEY_ID) ? &keys->at[at] : NULL;
}

/* By hand: what realloc leaves behind would still hold keys. */
static int grow(struct tls_keys *keys) {
    size_t room = keys->room ? 2 * keys->room : 4;
    struct tls_key *bigger = calloc(room, sizeof(*bigger));

    if (!bigger)
        return -ENOMEM;
    if (keys->count)
        memcpy(bigger, keys->at, keys->count * sizeof(*bigger));
    OPENSSL_clear_free(keys->at, keys->room * sizeof(*bigger));
    keys->at = bigger;
    keys->room = room;
    return 0;
}

int tls_keys_add(struct tls_keys *keys, const struct tls_key *key) {
    size_t at = place(keys, key->id);

    if (tls_keys_find(keys, key->id, TLS_KEY_ID))
        return -EEXIST;
    if (keys->count == keys->room && grow(keys))
        return -ENOMEM;
    memmove(keys->at + at + 1, keys->at + at, (keys->count - at) * sizeof(*keys->at));
    keys->at[at] = *key;
    keys->count++;
    return 0;
}

void tls_keys_drop(struct tls_keys *keys, const uint8_t id[TLS_KEY_ID]) {
    size_t at = place(keys, id);

    if (!tls_keys_find(keys, id, TLS_KEY_ID))
        return;
    keys->count--;
    memmove(keys->at + at, keys->at + at + 1, (keys->count - at) * sizeof(*keys->at));
    OPENSSL_cleanse(keys->at + keys->count, sizeof(*keys->at));
}

void tls_keys_free(struct tls_keys *keys) {
    OPENSSL_clear_free(keys->at, keys->room * sizeof(*keys->at));
    OPENSSL_cleanse(keys, sizeof(*keys));
}

int tls_random(void *bytes, size_t size) {
    return size <= INT_MAX && RAND_bytes(bytes, (int)size) == 1 ? 0 : -EIO;
}
