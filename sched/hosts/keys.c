/* Keys of nodes, nodes/.keys. The database has them, memory has a copy, and the registry has it after the commit.
 * join.key in the state directory is the key for any number of nodes, if there is one. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/tls/key.h"
#include "sched/hosts/registry.h"
#include "sched/hosts/hosts.h"
#include "sched/hosts/state.h"
#include "worker/runner/node_about.h"

#define KEYS_MAX 4096u

struct keys {
    struct registry_key *items; /* in order of host_id of their names */
    size_t count, room;
    bool changed; /* the registry does not know the change yet */
    bool said;    /* ... and the log has why */
};

/* The index of the first key whose id is not lower. */
static size_t index_of(const struct keys *k, uint64_t id) {
    size_t low = 0, high = k->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (host_id(k->items[middle].name) < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* By hand: what realloc leaves behind would still hold secrets. */
static int grow(struct keys *k) {
    size_t room = k->room ? 2 * k->room : 8;
    struct registry_key *grown = calloc(room, sizeof *grown);
    if (!grown)
        return -ENOMEM;
    if (k->count)
        memcpy(grown, k->items, k->count * sizeof *grown);
    if (k->items)
        key_wipe(k->items, k->room * sizeof *k->items);
    free(k->items);
    k->items = grown;
    k->room = room;
    return 0;
}

static int add(struct keys *k, const struct registry_key *key) {
    size_t at = index_of(k, host_id(key->name));
    int rc = k->count == k->room ? grow(k) : 0;
    if (rc < 0)
        return rc;
    memmove(k->items + at + 1, k->items + at, (k->count - at) * sizeof *k->items);
    k->items[at] = *key;
    k->count++;
    return 0;
}

static struct registry_key *by_id(const struct keys *k, uint64_t id) {
    size_t at = index_of(k, id);
    return at < k->count && host_id(k->items[at].name) == id ? &k->items[at] : NULL;
}

static struct registry_key *named(const struct keys *k, const char *name) {
    struct registry_key *key = by_id(k, host_id(name));
    return key && strcmp(key->name, name) == 0 ? key : NULL;
}

static void forget(struct keys *k) {
    if (k->items)
        key_wipe(k->items, k->room * sizeof *k->items);
    free(k->items);
    *k = (struct keys){0};
}

/* Reads the list from the database; it stays as it is if that fails. */
static int load(struct sched *s) {
    struct keys *old = s->hosts->keys, k = {.changed = old->changed};
    char name[NODE_NAME_MAX + 1] = "";
    struct registry_key key = {0};
    int rc;
    while ((rc = store_key_next(s->store, name, key.secret)) == 0) {
        memset(key.name, 0, sizeof key.name);
        snprintf(key.name, sizeof key.name, "%.63s", name);
        if ((rc = add(&k, &key)) < 0)
            break;
    }
    key_wipe(&key, sizeof key);
    if (rc != -ENOENT) {
        forget(&k);
        return rc;
    }
    k.changed |= k.count != old->count || (k.count && memcmp(k.items, old->items, k.count * sizeof *k.items) != 0);
    forget(old);
    *old = k;
    return 0;
}

static void join_path(const struct sched *s, char path[4096]) {
    snprintf(path, 4096, "%s/join.key", s->state_dir);
}

/* Anything that fails is tried again at the next commit. */
void keys_committed(struct sched *s) {
    char path[4096];
    if (!s->hosts->keys || !s->hosts->keys->changed)
        return;
    join_path(s, path);
    int rc = registry_set_keys(s->hosts->registry, s->hosts->keys->items, s->hosts->keys->count);
    if (rc == 0)
        rc = registry_key_write(s->hosts->registry, named(s->hosts->keys, REGISTRY_JOIN), path);
    if (rc < 0 && !s->hosts->keys->said)
        sched_log(s, "the keys of nodes are not as nodes/.keys says, which is tried again: %s", strerror(-rc));
    s->hosts->keys->changed = s->hosts->keys->said = rc < 0;
}

void keys_rolled_back(struct sched *s) {
    if (s->hosts->keys && s->hosts->registry)
        load(s);
}

/* The first start. If the database was lost, join.key still has the key that was not revoked. */
static int make_first(struct sched *s, bool fresh) {
    char path[4096];
    struct registry_key join;
    bool found;
    int64_t made;
    if (store_meta_get(s->store, "keys", &made) == 0)
        return 0;
    join_path(s, path);
    int rc = registry_first_key(s->hosts->registry, path, &join, &found);
    if (rc == 0 && (found || fresh) && !named(s->hosts->keys, REGISTRY_JOIN))
        rc = store_key_put(s->store, REGISTRY_JOIN, join.secret);
    if (rc == 0)
        rc = store_meta_set(s->store, "keys", 1);
    key_wipe(&join, sizeof join);
    return rc < 0 ? rc : load(s);
}

int keys_make(struct sched *s, bool fresh) {
    s->hosts->keys = calloc(1, sizeof *s->hosts->keys);
    int rc = s->hosts->keys ? load(s) : -ENOMEM;
    if (rc == 0)
        s->hosts->keys->changed = true; /* the registry has none yet */
    if (rc == 0)
        rc = make_first(s, fresh);
    return rc;
}

void keys_free(struct sched *s) {
    if (!s->hosts || !s->hosts->keys)
        return;
    forget(s->hosts->keys);
    free(s->hosts->keys);
    s->hosts->keys = NULL;
}

int sched_add_key(struct sched *s, const char *name) {
    struct registry_key key = {0};
    if (strlen(name) >= sizeof key.name)
        return -ENAMETOOLONG;
    if (!node_name_valid(name) || strcmp(name, "local") == 0)
        return -EINVAL;
    if (by_id(s->hosts->keys, host_id(name)))
        return -EEXIST;
    if (s->hosts->keys->count >= KEYS_MAX)
        return -ENOSPC;
    strcpy(key.name, name);
    int rc = tls_random(key.secret, sizeof key.secret);
    if (rc == 0)
        rc = add(s->hosts->keys, &key);
    if (rc == 0) {
        s->hosts->keys->changed = true;
        rc = store_key_put(s->store, name, key.secret);
    }
    key_wipe(&key, sizeof key);
    return rc;
}

int sched_remove_key(struct sched *s, const char *name) {
    struct keys *k = s->hosts->keys;
    struct registry_key *key = named(k, name);
    if (!key)
        return -ENOENT;
    int rc = store_key_delete(s->store, name);
    if (rc < 0)
        return rc;
    k->count--;
    memmove(key, key + 1, (size_t)(k->items + k->count - key) * sizeof *key);
    key_wipe(&k->items[k->count], sizeof *key);
    k->changed = true;
    return 0;
}

int sched_find_key(struct sched *s, const char *name, uint64_t *id) {
    *id = host_id(name);
    return named(s->hosts->keys, name) ? 0 : -ENOENT;
}

int sched_key(struct sched *s, uint64_t id, char text[SCHED_KEY_TEXT]) {
    const struct registry_key *key = by_id(s->hosts->keys, id);
    if (!key)
        return -ENOENT;
    if (text)
        registry_key_text(s->hosts->registry, key, text);
    return 0;
}

void sched_page_keys(struct sched *s, uint64_t after, bool (*each)(void *arg, const char *name, uint64_t id),
                     void *arg) {
    const struct keys *k = s->hosts->keys;
    for (size_t i = after == UINT64_MAX ? k->count : index_of(k, after + 1); i < k->count; i++)
        if (!each(arg, k->items[i].name, host_id(k->items[i].name)))
            return;
}
