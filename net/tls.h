/* The shared key, and TLS 1.3 with nothing but that key. The only file that knows OpenSSL.
 *
 * From the bytes of the key file HKDF-SHA256 derives three keys: for connections that a ppfs opens to a node, for those
 * that a node opens to a ppfs, and for discovery. So what one side says can never be played back to it as the other's
 * words. */
#ifndef PPFS_TLS_H
#define PPFS_TLS_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define TLS_KEY_MIN 32u   /* bytes of the key file */
#define TLS_KEY_MAX 4096u
#define TLS_MAC_SIZE 32u
#define TLS_RECORD 16384u  /* bytes, the most that one record holds */

struct tls;      /* the keys of one key file, and what connections are made from */
struct tls_conn; /* one connection; owns its descriptor */

enum tls_side { TLS_PPFS, TLS_NODE }; /* what this process is */

/* Makes a key file of 32 random bytes (as 64 hexadecimal digits and a newline), mode 0600, complete or not at all.
 * 0, also when path is there already, or -errno. */
int tls_make_key(const char *path);

/* Reads the key file. 0, or -errno and one sentence in why: not there, too short (-EINVAL), readable by others
 * (-EPERM). */
int tls_create(struct tls **out, enum tls_side side, const char *key_file, char *why, size_t why_size);
void tls_destroy(struct tls *t); /* accepts NULL; connections may outlive it */
enum tls_side tls_side(const struct tls *t);

/* HMAC-SHA256 of bytes under the key for discovery. Verifying takes the same time for every wrong mac. 0 or -errno. */
int tls_sign(const struct tls *t, const void *bytes, size_t size, uint8_t mac[TLS_MAC_SIZE]);
bool tls_verify(const struct tls *t, const void *bytes, size_t size, const uint8_t mac[TLS_MAC_SIZE]);
/* Fills with random bytes for ids and nonces. 0 or -EIO. */
int tls_random(void *bytes, size_t size);

/* A connection over a connected, non-blocking stream socket; takes fd, also on failure. dialled: this end has opened
 * it. 0 or -errno. */
int tls_conn_create(struct tls_conn **out, const struct tls *t, int fd, bool dialled);
void tls_conn_destroy(struct tls_conn *c); /* accepts NULL; says goodbye if that needs no waiting */
int tls_conn_fd(const struct tls_conn *c);

/* One step of the handshake: 0 done and the peer has the key; -EAGAIN with *want_write saying what to wait for; else
 * the connection is useless: -EACCES when the peer has another key or none, -EPROTO when it speaks no TLS 1.3, -EPIPE,
 * -errno. */
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
