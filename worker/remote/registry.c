/* The registry: addresses that are dialled, and nodes that are there.
 *
 * A target is an address to keep a connection to: dialled (redial.h), greeted by the hub, and then carried by a member;
 * when the link of that member goes it is dialled again. One that discovery found is forgotten with its member: it is
 * found again.
 *
 * A member is a node: its remote, and the scheduler's handle of it. It is up() once it has said ABOUT and has a
 * name. */
#include "net/event.h"
#include "worker/remote/registry_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/runner/network.h"

enum { FOUND_TRIES = 5, FOUND_MAX = 1024 /* addresses that discovery has named and that are nobody yet */ };

/* --- targets ----------------------------------------------------------------------------------------------------- */
static struct target *target_at(struct registry *f, const char *address) {
    for (struct target *t = LIST_FIRST(&f->targets); t; t = LIST_NEXT(t, next))
        if (strcmp(t->address, address) == 0)
            return t;
    return NULL;
}

static void target_free(struct target *t) {
    struct registry *f = t->registry;

    LIST_REMOVE(t, next);
    if (t->greeting)
        hub_forget(f->hub, t);
    redial_destroy(t->redial);
    free(t);
}

/* Forgets an unreachable address of discovery, unless its node is here and has only lost its link. */
static void target_failed(void *arg, const char *why) {
    struct target *t = arg;
    struct registry *f = t->registry;

    if (t->found && !t->there && redial_tries(t->redial) >= FOUND_TRIES)
        target_free(t);
    else if (f->ev.dialling && !t->found)
        f->ev.dialling(f->arg, t->address, why);
}

static void on_connected(void *arg, struct tls_conn *conn) {
    struct target *t = arg;
    char why[MESSAGE_SENTENCE];
    int err = hub_greet(t->registry->hub, conn, t->address, t);

    t->greeting = !err;
    if (!err)
        return;
    redial_later(t->redial);
    snprintf(why, sizeof(why), "%.200s was reached and cannot be greeted now: %s", t->address, hub_greet_error(err));
    target_failed(t, why);
}

static struct target *target_new(struct registry *f, const char *address, bool found) {
    static const struct redial_events events = {.connected = on_connected, .failed = target_failed};
    struct target *t = calloc(1, sizeof(*t));

    if (!t)
        return NULL;
    *t = (struct target){.registry = f, .found = found};
    if (redial_create(&t->redial, f->base, f->tls, &f->dials, address, found, &events, t)) {
        free(t);
        return NULL;
    }
    t->address = redial_address(t->redial);
    LIST_INSERT_HEAD(&f->targets, t, next);
    redial_now(t->redial);
    return t;
}

int registry_dial(struct registry *f, const char *address) {
    char why[256];
    struct target *t = target_at(f, address);

    if (t && !t->found)
        return -EEXIST;
    if (peer_check_address(address, true, why, sizeof(why)))
        return -EINVAL;
    if (t) {
        t->found = false;
        redial_named(t->redial);
        return 0;
    }
    return target_new(f, address, false) ? 0 : -ENOMEM;
}

int registry_undial(struct registry *f, const char *address) {
    struct target *t = target_at(f, address);

    if (!t || t->found)
        return -ENOENT;
    target_free(t);
    return 0;
}

/* --- members ----------------------------------------------------------------------------------------------------- */
static const struct target *target_of(const struct registry *f, const struct member *m) {
    for (const struct target *t = LIST_FIRST(&f->targets); t; t = LIST_NEXT(t, next))
        if (t->there == m)
            return t;
    return NULL;
}

void registry_member_up(struct member *m) {
    struct registry *f = m->registry;
    const struct target *t = target_of(f, m);
    char name[NODE_NAME];
    bool chosen = registry_choose_name(m, name);

    if (m->waits)
        TAILQ_REMOVE(&f->waiting, m, queued);
    m->waits = !chosen && !m->leaving;
    if (m->waits)
        TAILQ_INSERT_TAIL(&f->waiting, m, queued);
    if (!chosen)
        return;
    if (registry_name(m, name) || remote_set_name(m->remote, name, t ? t->address : NULL)) {
        remote_fail(m->remote, "there is no memory for it");
        return;
    }
    m->up = true;
    m->node = f->ev.up(f->arg, m->remote);
    if (m->node) {
        remote_begin(m->remote, f->runner, m->node);
        return;
    }
    m->up = false;
    registry_unname(m);
    registry_let_go(f, m->remote);
}

static void member_free(struct member *m) {
    registry_unname(m);
    event_drop(m->probe);
    remote_destroy(m->remote);
    free(m);
}

static void on_about(void *arg, struct remote *remote) {
    struct member *m = arg;
    struct registry *f = m->registry;
    bool linked = remote_linked(remote);

    if (!m->up) {
        if (!m->leaving)
            registry_member_up(m);
    } else {
        f->ev.changed(m->node, remote);
    }
    if (linked)
        return;
    for (struct target *t = LIST_FIRST(&f->targets); t; t = LIST_NEXT(t, next))
        if (t->there == m && !t->greeting)
            redial_again(t->redial);
}

/* That name has become free. Who waits for it gets it, or queues again. */
static void ask_again(struct registry *f, const char *name) {
    unsigned count = 0;
    struct member *m;

    TAILQ_FOREACH(m, &f->waiting, queued) {
        count++;
    }
    while (count-- && (m = TAILQ_FIRST(&f->waiting))) {
        if (strcmp(remote_about(m->remote)->name, name) == 0) {
            registry_member_up(m);
        } else {
            TAILQ_REMOVE(&f->waiting, m, queued);
            TAILQ_INSERT_TAIL(&f->waiting, m, queued);
        }
    }
}

static void on_lost(void *arg, struct remote *remote, const char *why) {
    struct member *m = arg;
    struct registry *f = m->registry;
    char name[NODE_NAME];

    snprintf(name, sizeof(name), "%s", m->name);
    registry_unname(m);
    LIST_REMOVE(m, next);
    if (m->waits)
        TAILQ_REMOVE(&f->waiting, m, queued);
    for (struct target *t = LIST_FIRST(&f->targets), *next; t; t = next) {
        next = LIST_NEXT(t, next);
        if (t->there != m)
            continue;
        t->there = NULL;
        if (t->found)
            target_free(t);
        else
            redial_later(t->redial);
    }
    if (m->up)
        f->ev.gone(m->node, remote, why);
    member_free(m);
    if (*name)
        ask_again(f, name);
}

static struct member *member_of(const struct registry *f, const struct session *s) {
    struct member *m;

    LIST_FOREACH(m, &f->members, next) {
        if (remote_session(m->remote) == s)
            break;
    }
    return m;
}

/* A user has dialled an address whose node is here by another: tells under which name. */
static void tell_other_way(struct registry *f, const struct target *t, const struct member *m) {
    const char *dialled = remote_dialled(m->remote);
    char why[MESSAGE_SENTENCE];

    if (!m->up || t->found || !f->ev.dialling || (dialled && strcmp(dialled, t->address) == 0))
        return;
    snprintf(why, sizeof(why), "who answers at %s is nodes/%s already", t->address,
             dialled ? dialled : remote_name(m->remote));
    f->ev.dialling(f->arg, t->address, why);
}

static void on_greeted(void *arg, void *tag, struct session *s, bool fresh) {
    static const struct remote_owner owner = {.about = on_about, .lost = on_lost};
    struct registry *f = arg;
    struct target *t = tag;
    struct member *m = fresh ? calloc(1, sizeof(*m)) : member_of(f, s);

    if (t)
        t->greeting = false;
    if (fresh && !m) {
        session_destroy(s);
    } else if (fresh) {
        *m = (struct member){.registry = f};
        if (remote_create(&m->remote, f->base, f->disk, s, &owner, m)) {
            free(m);
            m = NULL;
        } else {
            LIST_INSERT_HEAD(&f->members, m, next);
            if (f->id_size)
                remote_hello(m->remote, f->id, f->id_size);
        }
    }
    if (m && remote_session(m->remote) && !registry_key_of(f, session_key(remote_session(m->remote))))
        remote_fail(m->remote, "its key was revoked");
    if (!t)
        return;
    t->there = m;
    if (!m) {
        redial_later(t->redial);
        return;
    }
    redial_calm(t->redial);
    tell_other_way(f, t, m);
}

/* why begins with the address; an attacker with a network has many. */
static void not_taken(struct registry *f, const char *why) {
    char sentence[1024];

    snprintf(sentence, sizeof(sentence), "a node that dialled us was not taken: %.900s", why);
    if (complaints_tell_of(&f->complaints, why, COMPLAINTS_NODE, sentence, sizeof(sentence)) &&
        complaints_tell(&f->complaints, "such", COMPLAINTS_ADDRESS, sentence, sizeof(sentence)))
        registry_log(f, "%s", sentence);
}

static void on_failed(void *arg, void *tag, const char *why) {
    struct registry *f = arg;
    struct target *t = tag;

    if (!t) {
        not_taken(f, why);
        return;
    }
    t->greeting = false;
    redial_later(t->redial);
    target_failed(t, why);
}

void registry_let_go(struct registry *f, struct remote *remote) {
    struct member *m;

    LIST_FOREACH(m, &f->members, next) {
        if (m->remote == remote)
            break;
    }
    if (!m || m->leaving)
        return;
    m->leaving = true;
    for (struct target *t = LIST_FIRST(&f->targets), *next; t; t = next) {
        next = LIST_NEXT(t, next);
        if (t->there == m)
            target_free(t);
    }
    if (remote_session(remote))
        memcpy(f->strangers[f->stranger++ % STRANGERS], session_peer_shown(remote_session(remote)), SESSION_ID);
    remote_leave(remote);
}

/* --- arrivals ---------------------------------------------------------------------------------------------------- */
static void on_accepted(void *arg, struct tls_conn *conn, const char *address) {
    hub_accept(((struct registry *)arg)->hub, conn, address);
}

static void on_refused(void *arg, const char *sentence) {
    struct registry *f = arg;
    registry_log(f, "%s", sentence);
}

static bool is_known(const struct registry *f, const uint8_t id[SESSION_ID]) {
    const struct member *m;

    LIST_FOREACH(m, &f->members, next) {
        if (remote_session(m->remote) && memcmp(session_peer_shown(remote_session(m->remote)), id, SESSION_ID) == 0)
            return true;
    }
    for (unsigned i = 0; i < STRANGERS; i++)
        if (i < f->stranger && memcmp(f->strangers[i], id, SESSION_ID) == 0)
            return true;
    return false;
}

/* Makes room for one more address of discovery: the oldest one with a failed dial gives way, as a holder of a key can
 * name dead addresses without end. A dropped one is found again. */
static bool has_room_for_found(struct registry *f) {
    struct target *oldest = NULL;
    unsigned count = 0;

    for (struct target *t = LIST_FIRST(&f->targets); t; t = LIST_NEXT(t, next)) {
        if (!t->found || t->there)
            continue;
        count++;
        if (!t->greeting && redial_tries(t->redial))
            oldest = t; /* the list begins with the newest */
    }
    if (count >= FOUND_MAX && oldest)
        target_free(oldest);
    return count < FOUND_MAX || oldest;
}

static void on_found(void *arg, const char *address, const uint8_t id[SESSION_ID]) {
    struct registry *f = arg;
    char why[256];

    if (!is_known(f, id) && !target_at(f, address) && peer_check_address(address, true, why, sizeof(why)) == 0 &&
        has_room_for_found(f))
        target_new(f, address, true);
}

int registry_discover(struct registry *f, const char *where) {
    static const struct discover_events events = {.found = on_found, .refused = on_refused};
    struct discover *d = NULL;
    char why[256];

    if (where) {
        int err = strlen(where) < sizeof(f->where) ? 0 : -EINVAL;
        if (!err)
            err = discover_create(&d, f->base, f->tls, where, hub_shown(f->hub), 0, &events, f, why, sizeof(why));
        if (err) {
            if (err != -EINVAL)
                registry_log(f, "%s", why);
            return err;
        }
        snprintf(f->where, sizeof(f->where), "%s", where);
    }
    discover_destroy(f->discover);
    f->discover = d;
    return 0;
}

const char *registry_discovers(const struct registry *f) {
    return f->discover ? f->where : NULL;
}

const char *registry_address(const struct registry *f) {
    return f->listener ? peer_listener_address(f->listener) : "";
}

/* --- its life ---------------------------------------------------------------------------------------------------- */
int registry_create(struct registry **out, struct event_base *base, const struct registry_config *config,
                    const struct registry_events *ev, void *arg, char *why, size_t why_size) {
    static const struct hub_events hub_events = {.greeted = on_greeted, .failed = on_failed};
    static const struct peer_listener_events listener_events = {.accepted = on_accepted, .refused = on_refused};
    struct hub_config hub = {.side = TLS_PPFS, .silence_ms = config->silence_ms};
    struct registry *f = calloc(1, sizeof(*f));
    int err = -ENOMEM;

    snprintf(why, why_size, "not enough memory");
    if (!f)
        return err;
    *f = (struct registry){.base = base, .ev = *ev, .runner = config->runner, .arg = arg};
    TAILQ_INIT(&f->waiting);
    dials_init(&f->dials);
    err = mount_key_read(&f->key, config->key_file, why, why_size);
    hub.mount = f->key;
    if (!err)
        err = tls_create(&f->tls, TLS_PPFS, mount_key_find(f->key), why, why_size);
    if (!err && config->id_file)
        err = registry_read_id(f, config->id_file, why, why_size);
    if (!err)
        err = network_create(&f->proxy, base, f->tls, on_refused, f, why, why_size);
    if (!err)
        err = disk_create(&f->disk, base);
    if (!err)
        err = hub_create(&f->hub, base, &hub, &hub_events, f);
    if (!err && config->listen)
        err = peer_listen(&f->listener, base, f->tls, config->listen, &listener_events, f, why, why_size);
    if (err)
        registry_destroy(f);
    else
        *out = f;
    return err;
}

void registry_destroy(struct registry *f) {
    if (!f)
        return;
    discover_destroy(f->discover);
    peer_listener_destroy(f->listener);
    while (!LIST_EMPTY(&f->targets))
        target_free(LIST_FIRST(&f->targets));
    for (struct member *m; (m = LIST_FIRST(&f->members));) {
        LIST_REMOVE(m, next);
        member_free(m);
    }
    hub_destroy(f->hub);
    proxy_destroy(f->proxy);
    disk_destroy(f->disk);
    tls_destroy(f->tls);
    mount_key_destroy(f->key);
    free(f->keys);
    free(f);
}
