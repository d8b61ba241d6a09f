/* Keys: the secret of a mount, which never leaves its machine, and the keys that it gives to nodes.
 *
 * A key for nodes is a text file:
 *
 *   ppfs node key 1
 *   name: the node that it is for; * for any number of nodes
 *   secret: 64 hexadecimal digits, known to that node and the mount
 *   mount: 64, the public key by which the node knows the mount
 *   find: 64, the key for discovery
 *
 * Who has it can be that node for that mount. He can not be the mount, which signs its greeting.
 *
 * HKDF-SHA256 with the salt "ppfs key 2" derives from the secret of a mount an Ed25519 key pair ("mount signs"), the
 * key for discovery ("discovery"), and the secret of the key for any number of nodes ("any node"); from the secret of a
 * node the pre-shared key of TLS ("connection") and the 16 bytes that name it in the ClientHello ("identity"): they say
 * nothing, but are the same each time. */
#ifndef PPFS_KEY_H
#define PPFS_KEY_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "net/tls/tls.h"

#define KEY_NAME 64u /* bytes with the final zero */
#define KEY_ANY "*"  /* the name in a key for any number of nodes */
#define KEY_SECRET 32u
#define KEY_SIGNATURE 64u
#define KEY_NONCE 32u
#define KEY_TEXT 320u /* bytes of a file with the final zero */

struct mount_key;
struct node_key {
    char name[KEY_NAME];
    uint8_t secret[KEY_SECRET], mount[KEY_SECRET], find[TLS_PSK];
};

/* Makes a file with a new secret of a mount, or with 32 random bytes as text: mode 0600, complete or not at all. 0,
 * -EEXIST, or -errno. */
int mount_key_make(const char *path);
int key_make_random(const char *path);
/* 0, or -errno and one sentence: missing, another user's, readable by others, too long, no secret of a mount (-EINVAL),
 * one of an old version, which nodes had (-EPFNOSUPPORT). */
int mount_key_read(struct mount_key **out, const char *path, char *why, size_t why_size);
void mount_key_destroy(struct mount_key *m);              /* accepts NULL */
const uint8_t *mount_key_find(const struct mount_key *m); /* TLS_PSK bytes, the key for discovery */
/* The secret of the first key for any number of nodes, the same for all mounts with this secret. 0 or -ENOTSUP. */
int mount_key_join(const struct mount_key *m, uint8_t secret[KEY_SECRET]);
/* Makes the key of the node called name. */
void mount_key_node(const struct mount_key *m, const char *name, const uint8_t secret[KEY_SECRET],
                    struct node_key *out);

/* Writes the text of a key file into buf of KEY_TEXT bytes; returns its length. */
size_t node_key_text(const struct node_key *k, char *buf);
/* Writes that file, mode 0600, replacing an old one. 0 or -errno. */
int node_key_write(const struct node_key *k, const char *path);
/* 0, or -errno and one sentence, as with mount_key_read. */
int node_key_read(struct node_key *out, const char *path, char *why, size_t why_size);
/* the key of TLS from its secret. 0 or -ENOTSUP */
int node_key_tls(const uint8_t secret[KEY_SECRET], struct tls_key *out);
void key_wipe(void *bytes, size_t size);

/* What a mount signs for one greeting and no other: the binding is its connection's, the nonce of the node that asks,
 * the last two are the ids of both hubs. */
struct key_greeting {
    uint8_t binding[TLS_BINDING], nonce[KEY_NONCE], ppfs[16], node[16];
};
/* 0 or -ENOTSUP */
int mount_key_sign(const struct mount_key *m, const struct key_greeting *g, uint8_t signature[KEY_SIGNATURE]);
/* Whether the mount of this key has signed that. */
bool node_key_verify(const struct node_key *k, const struct key_greeting *g, const uint8_t signature[KEY_SIGNATURE]);
#endif
