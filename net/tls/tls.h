/* TLS 1.3 with pre-shared keys (net/tls/key.h makes them) and nothing else. A ppfs has a table of keys, one for each
 * node or for any number of them; a node has the one that it was given. Whoever dialled, the node is the client of TLS:
 * it says which key it has, and two of one kind have nothing to say to each other.
 *
 * A key proves a node. The ppfs proves itself in the greeting, by a signature over the binding of the connection
 * (hub.c). */
#ifndef PPFS_TLS_H
#define PPFS_TLS_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define TLS_KEY_ID 16u
#define TLS_PSK 32u
#define TLS_BINDING 32u
#define TLS_MAC_SIZE 32u
#define TLS_RECORD 16384u     /* bytes, the most that one record holds */
#define TLS_HANDSHAKE_MS 5000 /* from connect or accept to the end of the handshake */

struct tls;      /* the keys, and the OpenSSL context of connections */
struct tls_conn; /* one connection; owns its descriptor */

enum tls_side { TLS_PPFS, TLS_NODE }; /* the side of this process */

struct tls_key {
    uint8_t id[TLS_KEY_ID]; /* said in clear */
    uint8_t psk[TLS_PSK];
};

/* What a handshake has shown: which key the peer has, and the channel binding of RFC 9266, the same at both ends of one
 * connection and of no other. */
struct tls_proof {
    uint8_t key[TLS_KEY_ID];
    uint8_t binding[TLS_BINDING];
};

/* Without a key: nobody is let in. find: the key for discovery. 0, or -errno and one sentence in why. */
int tls_create(struct tls **out, enum tls_side side, const uint8_t find[TLS_PSK], char *why, size_t why_size);
void tls_destroy(struct tls *t); /* accepts NULL; connections that have done their handshake may outlive it */
enum tls_side tls_side(const struct tls *t);
/* A node shows the last that it was given. 0, -EEXIST or -ENOMEM. */
int tls_add_key(struct tls *t, const struct tls_key *key);
/* For later connections; the hub ends the present ones. */
void tls_drop_key(struct tls *t, const uint8_t id[TLS_KEY_ID]);

/* HMAC-SHA256 of bytes under the key for discovery. Verifying takes the same time for every wrong mac. 0 or -errno. */
int tls_sign(const struct tls *t, const void *bytes, size_t size, uint8_t mac[TLS_MAC_SIZE]);
bool tls_verify(const struct tls *t, const void *bytes, size_t size, const uint8_t mac[TLS_MAC_SIZE]);
/* Fills with random bytes for ids and nonces. 0 or -EIO. */
int tls_random(void *bytes, size_t size);

/* A connection over a connected, non-blocking stream socket; takes fd, also on failure. 0 or -errno. */
int tls_conn_create(struct tls_conn **out, const struct tls *t, int fd);
void tls_conn_destroy(struct tls_conn *c); /* accepts NULL; says goodbye if that needs no waiting */
int tls_conn_fd(const struct tls_conn *c);
void tls_conn_proof(const struct tls_conn *c, struct tls_proof *out); /* after the handshake */

/* One step of the handshake: 0 done and the peer has the key; -EAGAIN with *want_write saying what to wait for; else
 * the connection is useless: -EACCES when the peer has another key or none, -EPFNOSUPPORT when its ppfs is of before
 * there was a key for each node, -EPROTO when it speaks no TLS 1.3, -EPIPE, -errno. */
int tls_handshake(struct tls_conn *c, bool *want_write);

/* As read on a non-blocking socket: the bytes read; 0 end of file; -EAGAIN; -EBADMSG: what came was changed on its way;
 * -errno. It may leave bytes behind that poll does not see: read until -EAGAIN, or come back unasked. */
ssize_t tls_read(struct tls_conn *c, void *to, size_t room);
/* Encrypts up to TLS_RECORD bytes as one record, which tls_flush sends. The bytes taken; -EAGAIN: so much waits that
 * tls_flush has to come first; -EPROTO: the peer has stopped in the middle of a message of TLS itself; -errno. */
ssize_t tls_write(struct tls_conn *c, const void *bytes, size_t size);
/* Sends what waits in one write where it can: few large ones cost the network half of many small ones. 0: nothing waits
 * any more; -EAGAIN; -errno. No SIGPIPE. */
int tls_flush(struct tls_conn *c);
size_t tls_unsent(const struct tls_conn *c); /* bytes that wait for it; a read may have left some, too */
#endif
