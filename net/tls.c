/* TLS 1.3 with an external pre-shared key (RFC 8446, 4.2.11) and an ephemeral Diffie-Hellman exchange, and nothing
 * else: one cipher suite, no certificate, no ticket, no early data.
 *
 * The key of a connection depends on who dialled whom, so that neither end can be answered with its own words. An end
 * is known to have the key only when the session was "reused", which is what OpenSSL calls a pre-shared key that was
 * accepted; a server that comes with a certificate instead fails because there is no authority that could have signed
 * it.
 *
 * The BIO is our own for three things: MSG_NOSIGNAL, the errno of what failed, and that records gather (wire) until
 * tls_flush sends them together; only those of the handshake leave at once. */
#include "net/tls_int.h"

#include <errno.h>
#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { READ_AHEAD = 64 * 1024, CERTIFICATE_MAX = 4096 };
enum { KEY_RECORDS = 1 << 24 }; /* written under one key: AES-GCM is good for 2^24.5 (RFC 8446, 5.5) */
enum { WIRE_FULL = 128 * 1024, WIRE_CAP = WIRE_FULL + 4 * (int)TLS_RECORD }; /* bytes of records that wait */

static const unsigned char cipher_suite[2] = {0x13, 0x01}; /* TLS_AES_128_GCM_SHA256 */
static const char identity[] = "ppfs";

struct tls {
    enum tls_side side;
    struct tls_keys keys;
    SSL_CTX *client, *server;
    uint32_t renew; /* records after which a connection takes a new key */
};

struct tls_conn {
    int fd;
    int err;  /* errno of the last read or write that failed for good, 0 */
    bool eof; /* the socket has ended */
    bool greeted;
    uint32_t renew, records; /* the second: written since it has its key */
    uint8_t *wire; /* records that are to be sent: from wire_at to wire_end */
    size_t wire_at, wire_end, wire_cap;
    uint8_t key[TLS_DERIVED]; /* until the handshake is over */
    SSL *ssl;
};

/* --- what is to be sent ------------------------------------------------------------------------------------------ */
/* 0, -EAGAIN while as much waits as may, or -ENOMEM. */
static int wire_add(struct tls_conn *c, const void *bytes, size_t size) {
    size_t waits = c->wire_end - c->wire_at, cap = c->wire_cap ? c->wire_cap : 2 * TLS_RECORD;

    if (size > WIRE_CAP || waits > WIRE_CAP - size)
        return -EAGAIN;
    if (c->wire_cap - c->wire_end < size && c->wire_at) {
        memmove(c->wire, c->wire + c->wire_at, waits);
        c->wire_at = 0;
        c->wire_end = waits;
    }
    while (cap < waits + size)
        cap = cap * 2 < WIRE_CAP ? cap * 2 : WIRE_CAP;
    if (cap > c->wire_cap) {
        uint8_t *bigger = realloc(c->wire, cap);
        if (!bigger)
            return -ENOMEM;
        c->wire = bigger;
        c->wire_cap = cap;
    }
    memcpy(c->wire + c->wire_end, bytes, size);
    c->wire_end += size;
    return 0;
}

int tls_flush(struct tls_conn *c) {
    while (c->wire_at < c->wire_end) {
        ssize_t n = send(c->fd, c->wire + c->wire_at, c->wire_end - c->wire_at, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return -EAGAIN;
        if (n < 0 && errno != EINTR) {
            c->err = errno;
            return -c->err;
        }
        c->wire_at += n > 0 ? (size_t)n : 0;
    }
    c->wire_at = c->wire_end = 0;
    return 0;
}

size_t tls_unsent(const struct tls_conn *c) {
    return c->wire_end - c->wire_at;
}

/* --- the BIO ----------------------------------------------------------------------------------------------------- */
/* ret of a socket call to what a BIO returns. */
static int bio_result(BIO *b, struct tls_conn *c, ssize_t ret, int retry) {
    BIO_clear_retry_flags(b);
    if (ret > 0)
        return (int)ret;
    if (ret < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        BIO_set_flags(b, retry | BIO_FLAGS_SHOULD_RETRY);
    else if (ret < 0)
        c->err = errno;
    return -1;
}

static int bio_write(BIO *b, const char *bytes, int size) {
    struct tls_conn *c = BIO_get_data(b);
    ssize_t n;

    if (c->greeted) {
        errno = -wire_add(c, bytes, (size_t)size);
        return bio_result(b, c, errno ? -1 : size, BIO_FLAGS_WRITE);
    }
    do
        n = send(c->fd, bytes, (size_t)size, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    return bio_result(b, c, n, BIO_FLAGS_WRITE);
}

static int bio_read(BIO *b, char *to, int room) {
    struct tls_conn *c = BIO_get_data(b);
    ssize_t n;

    do
        n = recv(c->fd, to, (size_t)room, MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    c->eof = n == 0;
    return n == 0 ? (BIO_clear_retry_flags(b), 0) : bio_result(b, c, n, BIO_FLAGS_READ);
}

static long bio_ctrl(BIO *b, int command, long number, void *pointer) {
    struct tls_conn *c = BIO_get_data(b);

    (void)number;
    (void)pointer;
    if (command == BIO_CTRL_EOF)
        return c->eof;
    return command == BIO_CTRL_FLUSH;
}

static BIO *bio_new(struct tls_conn *c) {
    static BIO_METHOD *method; /* one for the process */
    BIO *b = NULL;

    if (!method) {
        method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK | BIO_TYPE_DESCRIPTOR, "ppfs");
        if (!method)
            return NULL;
        BIO_meth_set_write(method, bio_write);
        BIO_meth_set_read(method, bio_read);
        BIO_meth_set_ctrl(method, bio_ctrl);
    }
    b = BIO_new(method);
    if (b) {
        BIO_set_data(b, c);
        BIO_set_init(b, 1);
    }
    return b;
}

/* --- the key ----------------------------------------------------------------------------------------------------- */
static SSL_SESSION *key_session(SSL *ssl) {
    struct tls_conn *c = SSL_get_app_data(ssl);
    const SSL_CIPHER *cipher = SSL_CIPHER_find(ssl, cipher_suite);
    SSL_SESSION *s = SSL_SESSION_new();

    if (s && cipher && SSL_SESSION_set1_master_key(s, c->key, sizeof(c->key)) && SSL_SESSION_set_cipher(s, cipher) &&
        SSL_SESSION_set_protocol_version(s, TLS1_3_VERSION) &&
        SSL_SESSION_set1_id_context(s, (const unsigned char *)identity, sizeof(identity) - 1))
        return s;
    SSL_SESSION_free(s);
    return NULL;
}

static int use_key(SSL *ssl, const EVP_MD *md, const unsigned char **id, size_t *id_size, SSL_SESSION **out) {
    (void)md; /* the only suite there is has the hash of the key */
    *out = key_session(ssl);
    *id = (const unsigned char *)identity;
    *id_size = sizeof(identity) - 1;
    return *out != NULL;
}

static int find_key(SSL *ssl, const unsigned char *id, size_t id_size, SSL_SESSION **out) {
    bool ours = id_size == sizeof(identity) - 1 && !memcmp(id, identity, id_size);

    *out = ours ? key_session(ssl) : NULL;
    return !ours || *out;
}

static SSL_CTX *make_context(const SSL_METHOD *method) {
    SSL_CTX *x = SSL_CTX_new(method);

    if (!x)
        return NULL;
    SSL_CTX_set_options(x, SSL_OP_IGNORE_UNEXPECTED_EOF | SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION);
    SSL_CTX_set_mode(x, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_session_cache_mode(x, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_verify(x, SSL_VERIFY_PEER, NULL); /* and no authority to trust */
    SSL_CTX_set_max_cert_list(x, CERTIFICATE_MAX);
    SSL_CTX_set_read_ahead(x, 1);
    SSL_CTX_set_default_read_buffer_len(x, READ_AHEAD);
    SSL_CTX_set_psk_use_session_callback(x, use_key);
    SSL_CTX_set_psk_find_session_callback(x, find_key);
    if (SSL_CTX_set_min_proto_version(x, TLS1_3_VERSION) && SSL_CTX_set_max_proto_version(x, TLS1_3_VERSION) &&
        SSL_CTX_set_ciphersuites(x, "TLS_AES_128_GCM_SHA256") && SSL_CTX_set_num_tickets(x, 0) &&
        SSL_CTX_set_session_id_context(x, (const unsigned char *)identity, sizeof(identity) - 1))
        return x;
    SSL_CTX_free(x);
    return NULL;
}

int tls_create(struct tls **out, enum tls_side side, const char *key_file, char *why, size_t why_size) {
    struct tls *t = calloc(1, sizeof(*t));
    int err = -ENOMEM;

    if (!t) {
        snprintf(why, why_size, "out of memory");
        return err;
    }
    t->side = side;
    t->renew = KEY_RECORDS;
    err = tls_load_keys(&t->keys, key_file, why, why_size);
    if (err)
        goto out;
    t->client = make_context(TLS_client_method());
    t->server = make_context(TLS_server_method());
    if (!t->client || !t->server) {
        snprintf(why, why_size, "OpenSSL cannot do TLS 1.3 with TLS_AES_128_GCM_SHA256 here");
        err = -ENOTSUP;
        goto out;
    }
    *out = t;
    return 0;
out:
    tls_destroy(t);
    return err;
}

void tls_destroy(struct tls *t) {
    int saved = errno;

    if (!t)
        return;
    SSL_CTX_free(t->client);
    SSL_CTX_free(t->server);
    OPENSSL_cleanse(&t->keys, sizeof(t->keys));
    free(t);
    errno = saved;
}

enum tls_side tls_side(const struct tls *t) {
    return t->side;
}

const struct tls_keys *tls_keys(const struct tls *t) {
    return &t->keys;
}

void tls_renew_after(struct tls *t, uint32_t records) {
    t->renew = records;
}

/* --- connections ------------------------------------------------------------------------------------------------- */
int tls_conn_create(struct tls_conn **out, const struct tls *t, int fd, bool dialled) {
    struct tls_conn *c = calloc(1, sizeof(*c));
    bool ppfs_dials = dialled == (t->side == TLS_PPFS);

    if (!c) {
        close(fd);
        return -ENOMEM;
    }
    c->fd = fd;
    c->renew = t->renew;
    memcpy(c->key, ppfs_dials ? t->keys.ppfs_dials : t->keys.node_dials, sizeof(c->key));
    c->ssl = SSL_new(dialled ? t->client : t->server);
    BIO *b = c->ssl ? bio_new(c) : NULL;
    if (!b) {
        tls_conn_destroy(c);
        return -ENOMEM;
    }
    SSL_set_bio(c->ssl, b, b);
    SSL_set_app_data(c->ssl, c);
    if (dialled)
        SSL_set_connect_state(c->ssl);
    else
        SSL_set_accept_state(c->ssl);
    *out = c;
    return 0;
}

void tls_conn_destroy(struct tls_conn *c) {
    int saved = errno;

    if (!c)
        return;
    if (c->greeted && !c->err && !c->eof && SSL_shutdown(c->ssl) >= 0)
        tls_flush(c);
    ERR_clear_error();
    SSL_free(c->ssl);
    free(c->wire);
    OPENSSL_cleanse(c->key, sizeof(c->key));
    close(c->fd);
    free(c);
    errno = saved;
}

int tls_conn_fd(const struct tls_conn *c) {
    return c->fd;
}

/* What a handshake that OpenSSL gave up says about the peer. */
static int handshake_error(void) {
    switch (ERR_GET_REASON(ERR_peek_error())) {
    case SSL_R_BINDER_DOES_NOT_VERIFY:
    case SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM: /* it offered no key that we know, and we have no certificate */
    case SSL_R_NO_SHARED_CIPHER:
    case SSL_R_CERTIFICATE_VERIFY_FAILED:
    case SSL_R_EXCESSIVE_MESSAGE_SIZE: /* of a certificate */
    case SSL_R_SSLV3_ALERT_HANDSHAKE_FAILURE:
    case SSL_R_SSLV3_ALERT_ILLEGAL_PARAMETER:
    case SSL_R_TLSV1_ALERT_DECRYPT_ERROR:
        return -EACCES;
    case ERR_R_MALLOC_FAILURE:
        return -ENOMEM;
    default:
        return -EPROTO;
    }
}

/* What SSL_get_error means for a read or a write. -EBADMSG: a record that is none, or whose seal is broken. */
static int transfer_error(struct tls_conn *c, int result) {
    switch (SSL_get_error(c->ssl, result)) {
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE:
        return -EAGAIN;
    case SSL_ERROR_ZERO_RETURN:
        return 0;
    case SSL_ERROR_SYSCALL:
        return c->err ? -c->err : -EPIPE;
    default:
        return c->err ? -c->err : -EBADMSG;
    }
}

int tls_handshake(struct tls_conn *c, bool *want_write) {
    ERR_clear_error();
    int done = SSL_do_handshake(c->ssl);
    int err = done == 1 ? 0 : transfer_error(c, done);

    if (done == 1) {
        OPENSSL_cleanse(c->key, sizeof(c->key));
        c->greeted = SSL_session_reused(c->ssl) == 1;
        return c->greeted ? 0 : -EACCES;
    }
    *want_write = SSL_want_write(c->ssl);
    if (err == -EBADMSG)
        return handshake_error();
    return err ? err : -EPIPE;
}

ssize_t tls_read(struct tls_conn *c, void *to, size_t room) {
    size_t n;

    ERR_clear_error();
    int got = SSL_read_ex(c->ssl, to, room, &n);
    return got ? (ssize_t)n : transfer_error(c, got);
}

ssize_t tls_write(struct tls_conn *c, const void *bytes, size_t size) {
    size_t n;

    if (tls_unsent(c) >= WIRE_FULL)
        return -EAGAIN;
    ERR_clear_error();
    if (c->records == c->renew) { /* told in what is written next; the other side need not do the same */
        if (!SSL_key_update(c->ssl, SSL_KEY_UPDATE_NOT_REQUESTED))
            return -EPIPE;
        c->records = 0;
    }
    int put = SSL_write_ex(c->ssl, bytes, size < TLS_RECORD ? size : TLS_RECORD, &n);
    int err = put ? 0 : transfer_error(c, put);
    c->records += put;
    if (err == -EAGAIN) /* wire has room: it waits for the rest of a message of the handshake, which no ppfs sends in pieces */
        return -EPROTO;
    return put ? (ssize_t)n : err ? err : -EPIPE;
}
