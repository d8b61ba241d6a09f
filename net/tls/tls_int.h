/* Shared by tls.c and tls_key.c. */
#ifndef PPFS_TLS_INT_H
#define PPFS_TLS_INT_H
#include "net/tls/tls.h"

struct proxy;

/* The keys in the order of their ids. */
struct tls_keys {
    struct tls_key *at;
    size_t count, room;
    uint8_t find[TLS_PSK];
};

const struct tls_keys *tls_keys(const struct tls *t);
int tls_keys_add(struct tls_keys *keys, const struct tls_key *key); /* 0, -EEXIST or -ENOMEM */
void tls_keys_drop(struct tls_keys *keys, const uint8_t id[TLS_KEY_ID]);
const struct tls_key *tls_keys_find(const struct tls_keys *keys, const uint8_t *id, size_t size); /* NULL: unknown */
void tls_keys_free(struct tls_keys *keys);

/* The network process that has all listeners and dials made with t (proxy.h); NULL: this process has them. It hears of
 * changes of the keys. */
struct tls_proxy_ops {
    void (*key)(struct proxy *p, const struct tls_key *key);
    void (*no_key)(struct proxy *p, const uint8_t id[TLS_KEY_ID]);
};
struct proxy *tls_proxy(const struct tls *t);
void tls_set_proxy(struct tls *t, struct proxy *p, const struct tls_proxy_ops *ops);

/* A connection whose TLS is elsewhere: bare bytes over fd, which is taken, also on failure. Its end of file is for
 * fate(arg, number) to explain: 0 or an errno. 0 or -ENOMEM. */
typedef int tls_fate(void *arg, uint32_t number);
int tls_conn_bare(struct tls_conn **out, int fd, const struct tls_proof *proof, tls_fate *fate, void *arg,
                  uint32_t number);
bool tls_conn_is_bare(const struct tls_conn *c);
int tls_conn_fate(const struct tls_conn *c); /* 0 or an errno; 0 where its TLS is here */
#endif
