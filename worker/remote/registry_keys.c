/* The keys that let nodes in: set all at once, and the table of TLS follows. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "net/trusted.h"
#include "worker/remote/registry_internal.h"

const struct keyed *registry_key_of(const struct registry *f, const uint8_t id[TLS_KEY_ID]) {
    for (size_t i = 0; i < f->key_count; i++)
        if (memcmp(f->keys[i].id, id, TLS_KEY_ID) == 0)
            return &f->keys[i];
    return NULL;
}

const struct keyed *registry_key_named(const struct registry *f, const char *name) {
    for (size_t i = 0; i < f->key_count; i++)
        if (strcmp(f->keys[i].name, name) == 0)
            return &f->keys[i];
    return NULL;
}

static bool is_among(const struct tls_key *keys, size_t count, const uint8_t id[TLS_KEY_ID]) {
    for (size_t i = 0; i < count; i++)
        if (memcmp(keys[i].id, id, TLS_KEY_ID) == 0)
            return true;
    return false;
}

/* Adds new keys before it drops old ones: without memory nothing has changed. */
static int tell_tls(struct registry *f, const struct tls_key *keys, size_t count) {
    for (size_t i = 0; i < count; i++) {
        int err = tls_add_key(f->tls, &keys[i]);
        if (err && err != -EEXIST) {
            while (i--)
                if (!registry_key_of(f, keys[i].id))
                    tls_drop_key(f->tls, keys[i].id);
            return err;
        }
    }
    for (size_t i = 0; i < f->key_count; i++)
        if (!is_among(keys, count, f->keys[i].id))
            tls_drop_key(f->tls, f->keys[i].id);
    return 0;
}

int registry_set_keys(struct registry *f, const struct registry_key *keys, size_t count) {
    struct tls_key *all = calloc(count + 1, sizeof(*all));
    struct keyed *table = calloc(count + 1, sizeof(*table));
    int err = all && table ? 0 : -ENOMEM;

    for (size_t i = 0; i < count && !err; i++) {
        err = node_key_tls(keys[i].secret, &all[i]);
        memcpy(table[i].id, all[i].id, TLS_KEY_ID);
        snprintf(table[i].name, KEY_NAME, "%s", keys[i].name);
    }
    if (!err)
        err = tell_tls(f, all, count);
    if (!err) {
        free(f->keys);
        f->keys = table;
        f->key_count = count;
        table = NULL;
        struct member *m;
        LIST_FOREACH(m, &f->members, next) {
            if (remote_session(m->remote) && !registry_key_of(f, session_key(remote_session(m->remote))))
                remote_fail(m->remote, "its key was revoked");
        }
    }
    if (all)
        key_wipe(all, (count + 1) * sizeof(*all));
    free(all);
    free(table);
    return err;
}

static void node_key(const struct registry *f, const struct registry_key *key, struct node_key *out) {
    mount_key_node(f->key, strcmp(key->name, REGISTRY_JOIN) ? key->name : KEY_ANY, key->secret, out);
}

size_t registry_key_text(const struct registry *f, const struct registry_key *key, char buf[REGISTRY_KEY_TEXT]) {
    struct node_key k;

    node_key(f, key, &k);
    size_t size = node_key_text(&k, buf);
    key_wipe(&k, sizeof(k));
    return size;
}

int registry_key_write(const struct registry *f, const struct registry_key *key, const char *path) {
    struct node_key k;

    if (!key)
        return unlink(path) && errno != ENOENT ? -errno : 0;
    node_key(f, key, &k);
    int err = node_key_write(&k, path);
    key_wipe(&k, sizeof(k));
    return err;
}

int registry_first_key(const struct registry *f, const char *path, struct registry_key *out, bool *found) {
    struct node_key in_file, ours;
    char why[256];
    uint8_t secret[KEY_SECRET] = {0};

    *out = (struct registry_key){.name = REGISTRY_JOIN};
    mount_key_node(f->key, KEY_ANY, secret, &ours);
    *found = node_key_read(&in_file, path, why, sizeof(why)) == 0 && strcmp(in_file.name, KEY_ANY) == 0 &&
             memcmp(in_file.mount, ours.mount, KEY_SECRET) == 0;
    if (*found)
        memcpy(out->secret, in_file.secret, KEY_SECRET);
    key_wipe(&in_file, sizeof(in_file));
    return *found ? 0 : mount_key_join(f->key, out->secret);
}

int registry_read_id(struct registry *f, const char *path, char *why, size_t why_size) {
    int err = key_make_random(path);
    err = err == -EEXIST ? 0 : err;
    int fd = err ? err : trusted_file(AT_FDCWD, path, O_RDONLY);
    ssize_t size = fd < 0 ? fd : read(fd, f->id, sizeof(f->id));

    if (size < 0)
        err = fd < 0 ? fd : -errno;
    f->id_size = size > 0 ? (size_t)size : 0;
    if (fd >= 0)
        close(fd);
    if (!err && f->id_size < PPFS_ID_MIN)
        err = -EIO;
    if (err)
        snprintf(why, why_size, "%.300s, by which nodes know this ppfs, cannot be read: %s (remove it and start again)",
                 path, strerror(-err));
    return err;
}
