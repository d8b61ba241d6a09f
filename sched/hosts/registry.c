/* Nodes as hosts. A node that somebody dialled (mkdir nodes/HOST:PORT) is kept in the database and has a host for as
 * long, here or away; one that came by itself has a host until it says good-bye, and the last ones that were lost are
 * shown as down. rmdir makes a host leave: it takes nothing more, is shown no more, and goes when what it runs has
 * ended and is written down. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "net/peer/discover.h"
#include "net/peer/peer.h"
#include "net/tls/key.h"
#include "sched/hosts/registry.h"
#include "sched/hosts/hosts.h"
#include "sched/hosts/state.h"

#define LOST_MAX 32u /* lost nodes that are still shown */

/* --- the list ---------------------------------------------------------------------------------------------------- */

static struct host *enlist(struct sched *s, const char *name, bool dialled) {
    struct host *h = calloc(1, sizeof *h);
    if (!h)
        return NULL;
    *h = (struct host){.s = s, .dialled = dialled, .wish = -1, .told = -1};
    snprintf(h->name, sizeof h->name, "%s", name);
    if (host_enlist(s, h) == 0)
        return h;
    free(h);
    return NULL;
}

/* Removes it from the lost nodes that are shown. */
static void unlose(struct host *h) {
    if (!h->is_lost)
        return;
    TAILQ_REMOVE(&h->s->hosts->lost, h, lost);
    h->is_lost = false;
    h->s->hosts->lost_count--;
}

static void discard(struct host *h) {
    unlose(h);
    host_delist(h);
    host_unlist(h);
    free(h);
}

void host_vacant(struct host *h) {
    if (!h->leaving || h->undial || h->runs || h->leases || h->let_go)
        return;
    h->let_go = h->remote;
    if (h->remote)
        registry_let_go(h->s->hosts->registry, h->remote); /* gone() follows */
    else
        discard(h);
}

/* --- what the registry tells -------------------------------------------------------------------------------------- */

/* Jobs that fit nowhere are tried again only after a change that may help them, not for a flapping link. */
static void refresh(struct host *h, bool fresh) {
    const struct node_about *a = remote_about(h->remote);
    bool other = fresh || h->uid != a->uid || memcmp(&h->uids, &a->uids, sizeof h->uids) != 0 || h->cpus < a->cpus ||
                 h->memory != a->memory || memcmp(&h->resources, &a->resources, sizeof h->resources) != 0 ||
                 strcmp(h->python, a->python) != 0;
    h->cpus = a->cpus;
    h->memory = a->memory;
    h->resources = a->resources;
    h->known = true;
    h->uid = a->uid;
    host_set_user(h);
    h->uids = a->uids;
    snprintf(h->python, sizeof h->python, "%s", a->python);
    snprintf(h->address, sizeof h->address, "%s", remote_address(h->remote));
    if (other)
        host_changed(h);
    host_room(h); /* it may be linked again, or drain */
    host_trace(h);
    h->s->hosts->drained = true;
    sched_tick(h->s);
}

static struct host *host_of(struct sched *s, const struct remote *remote) {
    const char *dialled = remote_dialled(remote), *name = remote_name(remote);
    struct host *h = dialled ? host_find_any(s, dialled) : NULL;
    if (h && h->dialled && !h->remote)
        return h;
    h = host_find_any(s, name);
    if (!h)
        return enlist(s, name, false);
    return h->pool || h->remote || h->dialled ? NULL : h;
}

/* The name that it calls itself, if nodes/ has another. */
static const char *alias_of(const struct host *h, const struct remote *remote) {
    return strcmp(h->name, remote_name(remote)) ? remote_name(remote) : "";
}

/* The source of log lines about a node: its address, or its name if somebody has dialled it or given it a key: these
 * are few, and the others must not silence them. */
static const char *counted_at(const struct host *h, const struct remote *remote) {
    uint64_t id;
    return h->dialled || sched_find_key(h->s, h->name, &id) == 0 ? NULL : remote_address(remote);
}

static void *on_up(void *arg, struct remote *remote) {
    struct sched *s = arg;
    struct host *h = host_of(s, remote);
    if (!h) {
        sched_log_about(s, remote_name(remote), remote_address(remote),
                        "a node that calls itself %s is not taken in: there is another of that name",
                        remote_name(remote));
        return NULL;
    }
    bool known = h->cpus && !h->leaving && *h->python && strcmp(h->alias, alias_of(h, remote)) == 0;
    unlose(h);
    h->remote = remote;
    h->leaving = h->let_go = false;
    h->why[0] = 0;
    snprintf(h->alias, sizeof h->alias, "%s", alias_of(h, remote));
    remote_runner(remote, &h->runner);
    h->tell = s->hosts->telling = true;
    refresh(h, !known);
    sched_log_about(s, h->name, counted_at(h, remote), "nodes/%s is up: %s, %u slots, Python %s", h->name,
                    remote_address(remote), h->cpus, *h->python ? h->python : "not yet known");
    return h;
}

static void on_changed(void *node, struct remote *remote) {
    refresh(node, false);
}

/* Forgets the oldest lost node if there are too many. Thousands may go at once, so this is no walk. */
static void forget_lost(struct host *h) {
    struct sched *s = h->s;
    TAILQ_INSERT_TAIL(&s->hosts->lost, h, lost);
    h->is_lost = true;
    if (++s->hosts->lost_count <= LOST_MAX)
        return;
    struct host *oldest = TAILQ_FIRST(&s->hosts->lost);
    unlose(oldest);
    oldest->leaving |= !oldest->dialled;
    host_trace(oldest);
    host_vacant(oldest);
}

/* Its work was reported as lost before; the host stays until that is written. */
static void on_gone(void *node, struct remote *remote, const char *why) {
    struct host *h = node;
    struct sched *s = h->s;
    bool said_so = remote_about(remote)->draining || h->let_go;
    h->seen = remote_seen_us(remote);
    h->remote = NULL;
    h->runner = (struct runner){0};
    h->let_go = false;
    h->leaving |= !h->dialled && said_so;
    snprintf(h->why, sizeof h->why, "%s", why);
    host_trace(h);
    host_crashed(h);
    sched_log_about(s, h->name, counted_at(h, remote), "nodes/%s is gone: %s", h->name, why);
    sched_tick(s);
    if (!h->dialled && !h->leaving)
        forget_lost(h);
    else
        host_vacant(h);
}

static void on_dialling(void *arg, const char *address, const char *why) {
    struct sched *s = arg;
    struct host *h = host_find_any(s, address);
    if (!h || strcmp(h->why, why) == 0)
        return;
    snprintf(h->why, sizeof h->why, "%s", why);
    sched_log_about(s, address, NULL, "nodes/%s is not there: %s", address, h->why);
}

static void on_log(void *arg, const char *sentence) {
    sched_log(arg, "%s", sentence);
}

/* --- the registry ------------------------------------------------------------------------------------------------- */

static int dial_all(struct sched *s) {
    char address[NODE_NAME_MAX + 1] = "";
    int state, cpus, rc = 0;
    while (rc == 0 && store_node_next(s->store, address, &state, &cpus) == 0) {
        struct host *h = host_find_any(s, address);
        if (!h)
            h = enlist(s, address, true);
        if (!h)
            return -ENOMEM;
        h->dialled = true;
        h->leaving = false;
        h->state = state == NODE_DRAIN ? NODE_DRAIN : NODE_UP;
        h->wish = cpus;
        rc = registry_dial(s->hosts->registry, address);
        rc = rc == -EEXIST ? 0 : rc;
    }
    return rc;
}

/* A restarted daemon listens where the first one did, so that nodes find it again: port 0 is for the first alone. */
static void listen_again(struct sched *s, char *listen, size_t size) {
    int64_t port;
    char *colon = strrchr(listen, ':');
    if (s->c.again && colon && strcmp(colon, ":0") == 0 && store_meta_get(s->store, "listen_port", &port) == 0)
        snprintf(colon, size - (size_t)(colon - listen), ":%d", (int)port);
}

/* Discovery goes on as the database has it. */
static void discover_again(struct sched *s) {
    char text[DISCOVER_WHERE_MAX];
    const char *now = registry_discovers(s->hosts->registry), *where = text;
    if (store_meta_get_text(s->store, "discover", text, sizeof text) < 0 || strcmp(text, "0") == 0)
        where = NULL;
    else if (strcmp(text, "1") == 0)
        where = "";
    if (now == where || (now && where && strcmp(now, where) == 0))
        return;
    if (registry_discover(s->hosts->registry, where) < 0)
        sched_log(s, "nodes are not looked for in the local network: that cannot be done here");
}

/* A key of an old version, which every node knew, is made anew. 0, or -errno and one sentence. */
static int make_key(struct sched *s, const char *path, bool *fresh, char *why, size_t why_size) {
    struct mount_key *key = NULL;
    int rc = mount_key_make(path);
    if (rc == -EEXIST)
        rc = mount_key_read(&key, path, why, why_size);
    else if (rc < 0)
        snprintf(why, why_size, "cannot make the key %s: %s", path, strerror(-rc));
    mount_key_destroy(key);
    *fresh = !key;
    if (rc != -EPFNOSUPPORT)
        return rc;
    rc = unlink(path) < 0 ? -errno : mount_key_make(path);
    if (rc < 0)
        snprintf(why, why_size, "cannot replace the key %s, which nodes know: %s", path, strerror(-rc));
    else
        sched_log(s,
                  "%s was known to every node, as in versions before; there is a new one, and nodes need %s/join.key",
                  path, s->state_dir);
    return rc;
}

int registry_make(struct sched *s, char *why, size_t why_size) {
    static const struct registry_events events = {
        .up = on_up, .changed = on_changed, .gone = on_gone, .dialling = on_dialling, .log = on_log};
    bool fresh = true;
    char path[4096], id[4096], listen[512] = "";
    int rc = 0;
    if (!s->c.key) {
        snprintf(path, sizeof path, "%s/key", s->state_dir);
        rc = make_key(s, path, &fresh, why, why_size);
    }
    if (s->c.listen) {
        snprintf(listen, sizeof listen, "%s", s->c.listen);
        listen_again(s, listen, sizeof listen);
    }
    snprintf(id, sizeof id, "%s/id", s->state_dir);
    struct registry_config c = {.key_file = s->c.key ? s->c.key : path,
                                .id_file = id,
                                .listen = *listen ? listen : NULL,
                                .silence_ms = s->c.silence_ms,
                                .runner = &host_events};
    if (rc == 0)
        rc = registry_create(&s->hosts->registry, s->c.base, &c, &events, s, why, why_size);
    if (rc < 0)
        return rc;
    const char *colon = strrchr(registry_address(s->hosts->registry), ':');
    if (colon)
        store_meta_set(s->store, "listen_port", atoi(colon + 1));
    if ((rc = keys_make(s, fresh)) < 0)
        snprintf(why, why_size, "cannot take up the keys of nodes in %s: %s", s->state_dir, strerror(-rc));
    if (rc < 0)
        return rc;
    /* a daemon killed before its first turn has its port in the database, too */
    store_commit(s->store);
    keys_committed(s);
    rc = dial_all(s);
    if (rc == 0)
        discover_again(s);
    if (rc < 0)
        snprintf(why, why_size, "cannot take up the nodes in %s: %s", s->state_dir, strerror(-rc));
    return rc;
}

/* --- nodes/ ------------------------------------------------------------------------------------------------------ */

int sched_add_node(struct sched *s, const char *address) {
    struct host *h = host_find_any(s, address);
    char why[256];
    if (strlen(address) > NODE_NAME_MAX)
        return -ENAMETOOLONG;
    if (h && !h->leaving)
        return -EEXIST;
    if (peer_check_address(address, true, why, sizeof why) < 0)
        return -EINVAL;
    if (!h)
        h = enlist(s, address, true);
    if (!h)
        return -ENOMEM;
    h->dialled = true;
    h->leaving = h->undial = false;
    h->dial = s->hosts->telling = true;
    host_trace(h);
    host_changed(h);
    /* not written: host_rolled_back lets it go */
    return store_node_put(s->store, address, h->state, h->wish);
}

static void leave(struct host *h) {
    registry_undial(h->s->hosts->registry, h->name);
    h->dialled = h->dial = h->undial = false;
    h->leaving = h->s->hosts->drained = true;
    host_trace(h);
    host_vacant(h);
}

int sched_remove_node(struct sched *s, const char *name) {
    struct host *h = host_find(s, name);
    if (!h || h->pool)
        return h ? -EBUSY : -ENOENT;
    int rc = h->dialled ? store_node_delete(s->store, name) : 0;
    if (rc < 0)
        return rc;
    h->leaving = h->undial = s->hosts->telling = s->hosts->drained = true;
    host_trace(h);
    sched_tick(s);
    return 0;
}

/* Anything that finds no memory is tried again at the next commit. */
void host_committed(struct sched *s) {
    keys_committed(s);
    if (!s->hosts->telling)
        return;
    s->hosts->telling = false;
    for (struct host *h = s->hosts->all, *next; h; h = next) {
        next = h->next;
        int rc = h->dial ? registry_dial(s->hosts->registry, h->name) : 0;
        h->dial = rc < 0 && rc != -EEXIST;
        s->hosts->telling |= h->dial;
        if (h->tell)
            host_resize(h);
        h->tell = false;
        if (h->undial)
            leave(h);
    }
}

void host_rolled_back(struct sched *s) {
    struct host *local = s->hosts->all;
    int64_t value;
    s->hosts->drained = true;
    for (struct host *h = s->hosts->all; h;
         h = h->next) { /* of those that came by themselves the database has nothing */
        if (h->undial)
            h->leaving = h->undial = false;
        host_trace(h);
        host_room(h);
        h->wish = h->dialled ? h->wish : h->told;
    }
    if (store_meta_get(s->store, "cpus", &value) == 0) {
        local->cpus = (unsigned)value;
        host_resize(local);
    }
    if (store_meta_get(s->store, "node_state", &value) == 0)
        local->state = value == NODE_DRAIN ? NODE_DRAIN : NODE_UP;
    if (!s->hosts->registry)
        return;
    for (struct host *h = s->hosts->all, *next; h; h = next) {
        int state, cpus;
        next = h->next;
        if (h->dialled && store_node_get(s->store, h->name, &state, &cpus) == -ENOENT)
            leave(h);
    }
    dial_all(s);
    discover_again(s);
    keys_rolled_back(s);
}

void sched_listens(struct sched *s, char buf[256]) {
    const char *at = registry_address(s->hosts->registry), *port = strrchr(at, ':');
    char host[HOST_NAME_MAX + 1] = "";
    snprintf(buf, 256, "%s", at);
    if (strncmp(at, "0.0.0.0:", 8) != 0 && strncmp(at, "[::]:", 5) != 0)
        return;
    gethostname(host, sizeof host - 1);
    if (*host)
        snprintf(buf, 256, "%s%s", host, port);
}

const char *sched_discovers(struct sched *s) {
    return registry_discovers(s->hosts->registry);
}

int sched_set_discover(struct sched *s, const char *where) {
    int rc = registry_discover(s->hosts->registry, where);
    if (!where || !*where)
        where = where ? "1" : "0";
    return rc < 0 ? rc : store_meta_set_text(s->store, "discover", where);
}
