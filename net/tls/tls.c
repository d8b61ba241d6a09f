/* TLS 1.3 with external pre-shared keys (RFC 8446, 4.2.11) and an ephemeral Diffie-Hellman exchange, and nothing else:
 * one cipher suite, no certificate, no ticket, no early data.
 *
 * The node is the client, also where the ppfs has dialled: it names its key, and nobody can be led back to himself. An
 * end is known to have the key only when the session was "reused", which is what OpenSSL calls a pre-shared key that
 * was accepted; a server that comes with a certificate instead fails because there is no authority that could have
 * signed it.
 *
 * The BIO is our own for three things: MSG_NOSIGNAL, the errno of what failed, and that records gather (wire) until
 * tls_flush sends them together; only those of the handshake leave at once. */
#include "net/tls/tls_int.h"

#include <errno.h>
#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/hmac.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { READ_AHEAD = 64 * 1024, CERTIFICATE_MAX = 4096 };
#ifndef KEY_RECORDS
#define KEY_RECORDS (1 << 24) /* written under one key: AES-GCM is good for 2^24.5 (RFC 8446, 5.5) */
#endif
enum { RENEWALS = 32 }; /* of its key that a peer may make beside those which its records need */
enum { WIRE_FULL = 128 * 1024, WIRE_CAP = WIRE_FULL + 4 * (int)TLS_RECORD }; /* bytes of records that wait */

static const unsigned char cipher_suite[2] = {0x13, 0x01}; /* TLS_AES_128_GCM_SHA256 */
static const char context[] = "ppfs"; /* also the identity of the one key that all nodes had in old versions */
static const char binding_label[] = "EXPORTER-Channel-Binding"; /* RFC 9266 */

struct tls {
    enum tls_side side;
    struct tls_keys keys;
    SSL_CTX *context;
    struct proxy *proxy; /* the network process that has the connections; NULL: this process */
    const struct tls_proxy_ops *proxy_ops;
};

struct tls_conn {
    int fd;
    int err;                /* errno of the last read or write that failed for good, 0 */
    bool eof;               /* the socket has ended */
    bool greeted, outdated; /* outdated: the peer named the old key of all nodes */
    uint32_t records;       /* written since it has its key */
    uint64_t reads;         /* with bytes of the peer, at least one for each of its records */
    unsigned renewals;      /* and other messages of OpenSSL's after the handshake */
    uint8_t *wire;          /* records that are to be sent: from wire_at to wire_end */
    size_t wire_at, wire_end, wire_cap;
    const struct tls_keys *keys; /* until the handshake is over */
    struct tls_proof proof;
    SSL *ssl; /* NULL: bare, and its end is explained by ... */
    tls_fate *fate;
    void *fate_arg;
    uint32_t fate_number;
};

/* --- sending ----------------------------------------------------------------------------------------------------- */
/* 0, -EAGAIN: as much waits as may, or -ENOMEM. */
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
static SSL_SESSION *key_session(SSL *ssl, const struct tls_key *key) {
    const SSL_CIPHER *cipher = SSL_CIPHER_find(ssl, cipher_suite);
    SSL_SESSION *s = SSL_SESSION_new();

    if (s && cipher && SSL_SESSION_set1_master_key(s, key->psk, sizeof(key->psk)) &&
        SSL_SESSION_set_cipher(s, cipher) && SSL_SESSION_set_protocol_version(s, TLS1_3_VERSION) &&
        SSL_SESSION_set1_id_context(s, (const unsigned char *)context, sizeof(context) - 1))
        return s;
    SSL_SESSION_free(s);
    return NULL;
}

static int use_key(SSL *ssl, const EVP_MD *md, const unsigned char **id, size_t *id_size, SSL_SESSION **out) {
    struct tls_conn *c = SSL_get_app_data(ssl);
    const struct tls_key *key = tls_keys_find(c->keys, c->proof.key, TLS_KEY_ID);

    *out = key ? key_session(ssl, key) : NULL;
    *id = c->proof.key;
    *id_size = TLS_KEY_ID;
    return *out != NULL;
}

static int find_key(SSL *ssl, const unsigned char *id, size_t id_size, SSL_SESSION **out) {
    struct tls_conn *c = SSL_get_app_data(ssl);
    const struct tls_key *key = tls_keys_find(c->keys, id, id_size);

    *out = key ? key_session(ssl, key) : NULL;
    if (key)
        memcpy(c->proof.key, key->id, TLS_KEY_ID);
    c->outdated = id_size == sizeof(context) - 1 && !memcmp(id, context, id_size);
    return !key || *out;
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
        SSL_CTX_set_session_id_context(x, (const unsigned char *)context, sizeof(context) - 1))
        return x;
    SSL_CTX_free(x);
    return NULL;
}

int tls_create(struct tls **out, enum tls_side side, const uint8_t find[TLS_PSK], char *why, size_t why_size) {
    struct tls *t = calloc(1, sizeof(*t));

    if (!t) {
        snprintf(why, why_size, "out of memory");
        return -ENOMEM;
    }
    t->side = side;
    memcpy(t->keys.find, find, TLS_PSK);
    t->context = make_context(side == TLS_NODE ? TLS_client_method() : TLS_server_method());
    if (!t->context) {
        snprintf(why, why_size, "OpenSSL cannot do TLS 1.3 with TLS_AES_128_GCM_SHA256 here");
        tls_destroy(t);
        return -ENOTSUP;
    }
    *out = t;
    return 0;
}

void tls_destroy(struct tls *t) {
    if (!t)
        return;
    SSL_CTX_free(t->context);
    tls_keys_free(&t->keys);
    free(t);
}

int tls_add_key(struct tls *t, const struct tls_key *key) {
    if (t->side == TLS_NODE && t->keys.count)
        tls_drop_key(t, t->keys.at[0].id);
    int err = tls_keys_add(&t->keys, key);
    if (!err && t->proxy)
        t->proxy_ops->key(t->proxy, key);
    return err;
}

void tls_drop_key(struct tls *t, const uint8_t id[TLS_KEY_ID]) {
    if (t->proxy)
        t->proxy_ops->no_key(t->proxy, id);
    tls_keys_drop(&t->keys, id);
}

struct proxy *tls_proxy(const struct tls *t) {
    return t->proxy;
}

void tls_set_proxy(struct tls *t, struct proxy *p, const struct tls_proxy_ops *ops) {
    t->proxy = p;
    t->proxy_ops = ops;
}

int tls_sign(const struct tls *t, const void *bytes, size_t size, uint8_t mac[TLS_MAC_SIZE]) {
    return HMAC(EVP_sha256(), t->keys.find, TLS_PSK, bytes, size, mac, NULL) ? 0 : -ENOTSUP;
}

bool tls_verify(const struct tls *t, const void *bytes, size_t size, const uint8_t mac[TLS_MAC_SIZE]) {
    uint8_t right[TLS_MAC_SIZE];

    return !tls_sign(t, bytes, size, right) && CRYPTO_memcmp(right, mac, TLS_MAC_SIZE) == 0;
}

enum tls_side tls_side(const struct tls *t) {
    return t->side;
}

const struct tls_keys *tls_keys(const struct tls *t) {
    return &t->keys;
}

/* A renewal costs as much as many records, and OpenSSL goes on within one read as long as nothing else comes. */
static void count_renewals(int sent, int version, int type, const void *bytes, size_t size, SSL *ssl, void *arg) {
    struct tls_conn *c = arg;

    if (sent || !c->greeted || type != SSL3_RT_HANDSHAKE || ++c->renewals <= RENEWALS + c->reads / KEY_RECORDS)
        return;
    c->err = EBADMSG;
    SSL_set_shutdown(ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN); /* ends the read */
}

/* --- connections ------------------------------------------------------------------------------------------------- */
int tls_conn_create(struct tls_conn **out, const struct tls *t, int fd) {
    struct tls_conn *c = calloc(1, sizeof(*c));
    if (!c) {
        close(fd);
        return -ENOMEM;
    }
    c->fd = fd;
    c->keys = &t->keys;
    if (t->side == TLS_NODE && t->keys.count)
        memcpy(c->proof.key, t->keys.at[0].id, TLS_KEY_ID);
    c->ssl = SSL_new(t->context);
    BIO *b = c->ssl ? bio_new(c) : NULL;
    if (!b) {
        tls_conn_destroy(c);
        return -ENOMEM;
    }
    SSL_set_bio(c->ssl, b, b);
    SSL_set_app_data(c->ssl, c);
    SSL_set_msg_callback(c->ssl, count_renewals);
    SSL_set_msg_callback_arg(c->ssl, c);
    if (t->side == TLS_NODE)
        SSL_set_connect_state(c->ssl);
    else
        SSL_set_accept_state(c->ssl);
    *out = c;
    return 0;
}

void tls_conn_destroy(struct tls_conn *c) {
    if (!c)
        return;
    if (c->greeted && !c->err && !c->eof && SSL_shutdown(c->ssl) >= 0)
        tls_flush(c);
    ERR_clear_error();
    SSL_free(c->ssl);
    free(c->wire);
    OPENSSL_cleanse(&c->proof, sizeof(c->proof));
    close(c->fd);
    free(c);
}

int tls_conn_bare(struct tls_conn **out, int fd, const struct tls_proof *proof, tls_fate *fate, void *arg,
                  uint32_t number) {
    struct tls_conn *c = calloc(1, sizeof(*c));

    if (!c) {
        close(fd);
        return -ENOMEM;
    }
    *c = (struct tls_conn){.fd = fd, .proof = *proof, .fate = fate, .fate_arg = arg, .fate_number = number};
    *out = c;
    return 0;
}

bool tls_conn_is_bare(const struct tls_conn *c) {
    return !c->ssl;
}

int tls_conn_fate(const struct tls_conn *c) {
    return c->fate ? c->fate(c->fate_arg, c->fate_number) : 0;
}

int tls_conn_fd(const struct tls_conn *c) {
    return c->fd;
}

void tls_conn_proof(const struct tls_conn *c, struct tls_proof *out) {
    *out = c->proof;
}

/* The fault of the peer in a handshake that OpenSSL gave up. */
static int handshake_error(void) {
    switch (ERR_GET_REASON(ERR_peek_error())) {
    case SSL_R_BINDER_DOES_NOT_VERIFY:
    case SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM: /* it offered no key that we know, and we have no certificate */
    case SSL_R_NO_SHARED_CIPHER:
    case SSL_R_CERTIFICATE_VERIFY_FAILED:
    case SSL_R_EXCESSIVE_MESSAGE_SIZE: /* of a certificate */
    case SSL_R_SSLV3_ALERT_HANDSHAKE_FAILURE:
    case SSL_R_SSLV3_ALERT_ILLEGAL_PARAMETER:
    case SSL_R_TLSV1_ALERT_DECRYPT_ERROR: return -EACCES;
    case ERR_R_MALLOC_FAILURE: return -ENOMEM;
    default: return -EPROTO;
    }
}

/* The result of a read or write by SSL_get_error. -EBADMSG: a malformed or forged record. */
static int transfer_error(struct tls_conn *c, int result) {
    switch (SSL_get_error(c->ssl, result)) {
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE: return -EAGAIN;
    case SSL_ERROR_ZERO_RETURN: return -c->err;
    case SSL_ERROR_SYSCALL: return c->err ? -c->err : -EPIPE;
    default: return c->err ? -c->err : -EBADMSG;
    }
}

int tls_handshake(struct tls_conn *c, bool *want_write) {
    ERR_clear_error();
    int done = SSL_do_handshake(c->ssl);
    int err = done == 1 ? 0 : transfer_error(c, done);

    if (done == 1) {
        c->keys = NULL;
        c->greeted = SSL_session_reused(c->ssl) == 1 &&
                     SSL_export_keying_material(c->ssl, c->proof.binding, TLS_BINDING, binding_label,
                                                sizeof(binding_label) - 1, NULL, 0, 0) == 1;
        return c->greeted ? 0 : -EACCES;
    }
    if (c->outdated && err != -EAGAIN)
        return -EPFNOSUPPORT;
    *want_write = SSL_want_write(c->ssl);
    if (err == -EBADMSG)
        return handshake_error();
    return err ? err : -EPIPE;
}

ssize_t tls_read(struct tls_conn *c, void *to, size_t room) {
    size_t n;

    ERR_clear_error();
    int got = SSL_read_ex(c->ssl, to, room, &n);
    c->reads += got;
    return got ? (ssize_t)n : transfer_error(c, got);
}

ssize_t tls_write(struct tls_conn *c, const void *bytes, size_t size) {
    size_t n;

    if (tls_unsent(c) >= WIRE_FULL)
        return -EAGAIN;
    ERR_clear_error();
    if (c->records == KEY_RECORDS) { /* sent with the next write; the peer need not change its key */
        if (!SSL_key_update(c->ssl, SSL_KEY_UPDATE_NOT_REQUESTED))
            return -EPIPE;
        c->records = 0;
    }
    int put = SSL_write_ex(c->ssl, bytes, size < TLS_RECORD ? size : TLS_RECORD, &n);
    int err = put ? 0 : transfer_error(c, put);
    c->records += put;
    /* wire has room: OpenSSL waits for the rest of a handshake message, which no ppfs sends in pieces */
    if (err == -EAGAIN)
        return -EPROTO;
    if (put)
        return (ssize_t)n;
    return err ? err : -EPIPE;
}
