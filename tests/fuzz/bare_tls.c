/* In place of net/tls/tls.c: connections that are not encrypted, so that a fuzzer says what somebody with the key could
 * say. The random bytes are the same in every run. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/tls/key.h"
#include "net/tls/tls_int.h"

struct tls_conn {
    int fd;
    bool full; /* the socket took nothing of the last write */
};

int tls_random(void *bytes, size_t size) {
    static uint8_t next = 1;

    memset(bytes, next++ | 1, size);
    return 0;
}

int tls_conn_create(struct tls_conn **out, const struct tls *t, int fd) {
    *out = calloc(1, sizeof(**out));
    if (!*out)
        abort();
    (*out)->fd = fd;
    return 0;
}

void tls_conn_destroy(struct tls_conn *c) {
    if (!c)
        return;
    close(c->fd);
    free(c);
}

int tls_conn_fd(const struct tls_conn *c) {
    return c->fd;
}

bool tls_conn_is_bare(const struct tls_conn *c) {
    return false;
}

int tls_conn_fate(const struct tls_conn *c) {
    return 0;
}

void tls_conn_proof(const struct tls_conn *c, struct tls_proof *out) {
    memset(out, 0, sizeof(*out));
}

/* In place of net/tls/key_sign.c: whoever greets is the mount. */
int mount_key_sign(const struct mount_key *m, const struct key_greeting *g, uint8_t signature[KEY_SIGNATURE]) {
    memset(signature, 1, KEY_SIGNATURE);
    return 0;
}

bool node_key_verify(const struct node_key *k, const struct key_greeting *g, const uint8_t signature[KEY_SIGNATURE]) {
    return signature[0] == 1;
}

ssize_t tls_read(struct tls_conn *c, void *to, size_t room) {
    ssize_t n = recv(c->fd, to, room, MSG_DONTWAIT);
    return n < 0 ? -errno : n;
}

ssize_t tls_write(struct tls_conn *c, const void *bytes, size_t size) {
    ssize_t n = send(c->fd, bytes, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    c->full = n < 0 && errno == EAGAIN;
    return n < 0 ? -errno : n;
}

int tls_flush(struct tls_conn *c) {
    return c->full ? -EAGAIN : 0;
}

size_t tls_unsent(const struct tls_conn *c) {
    return 0;
}
