/* The key of a node: read once, before anything runs here, and then no longer known but to TLS. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "worker/node/node.h"

int node_tls(const struct node_args *a, struct node_key *key, char name[NODE_NAME], struct tls **out, char *why,
             size_t size) {
    struct tls_key shown;
    int err = node_key_read(key, a->key_file, why, size);
    bool own = !err && strcmp(key->name, KEY_ANY);

    if (err)
        return err;
    snprintf(name, NODE_NAME, "%s", own && !a->named ? key->name : a->name);
    if (own && strcmp(name, key->name)) {
        snprintf(why, size, "the key %.300s is for the node %s, and --name says %s (leave --name out)", a->key_file,
                 key->name, name);
        err = -EINVAL;
    } else if ((err = tls_create(out, TLS_NODE, key->find, why, size)) == 0) {
        if ((err = node_key_tls(key->secret, &shown)) || (err = tls_add_key(*out, &shown)))
            snprintf(why, size, "the key cannot be used: %s", strerror(-err));
        key_wipe(&shown, sizeof(shown));
    }
    key_wipe(key->secret, sizeof(key->secret));
    return err;
}
