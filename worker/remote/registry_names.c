/* The names of nodes. A node with a key of its own has the name of that key, before any other; of the rest the first
 * one has its name. A restarted node comes with the name that its predecessor still has: that is asked for a sign of
 * life, and has a second for it, or, if the new one comes from another host, as long as its silence allows. */
#include <errno.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/address.h"
#include "worker/remote/registry_internal.h"

enum {
    PROBE_MS = 100,
    QUIET = 10 /* probes without a byte: it is dead */,
    PROBES = 100 /* who waits waits no longer */
};

static int by_name(const void *a, const void *b) {
    return strcmp(a, b);
}

/* Thousands may ask for their names again and again, so this is no walk. */
static struct member *named(const struct registry *f, const char *name) {
    struct member **found = tfind(name, &f->by_name, by_name);

    return found ? *found : NULL;
}

int registry_name(struct member *m, const char *name) {
    snprintf(m->name, sizeof(m->name), "%s", name);
    char **at = tsearch(m->name, &m->registry->by_name, by_name);
    if (at && *at == m->name)
        return 0;
    *m->name = 0;
    return -ENOMEM;
}

void registry_unname(struct member *m) {
    if (*m->name)
        tdelete(m->name, &m->registry->by_name, by_name);
    *m->name = 0;
}

/* A node is probed or ended only for another one with the same key. */
static bool same_key(const struct member *a, const struct member *b) {
    return remote_session(a->remote) && remote_session(b->remote) &&
           !memcmp(session_key(remote_session(a->remote)), session_key(remote_session(b->remote)), TLS_KEY_ID);
}

/* Whether a silent `other` is ended at once, and not only when it is missed. */
static bool may_end(const struct member *m, const struct member *other) {
    const struct keyed *key = registry_key_of(m->registry, session_key(remote_session(m->remote)));

    return (key && strcmp(key->name, REGISTRY_JOIN)) ||
           address_same_host(remote_address(other->remote), remote_address(m->remote));
}

/* Only an answer is a sign of life; while late bytes come it may be behind them. */
static void on_probe(evutil_socket_t fd, short what, void *arg) {
    struct member *m = arg, *other = named(m->registry, remote_about(m->remote)->name);
    bool lives = true;

    if (other && same_key(m, other)) {
        uint64_t heard = session_bytes(remote_session(other->remote));
        m->quiet = heard == m->heard ? m->quiet + 1 : 0;
        m->heard = heard;
        lives = session_answered(remote_session(other->remote), m->asked) || ++m->probes >= PROBES;
        bool dead = may_end(m, other) && (m->quiet >= QUIET || !remote_linked(other->remote));
        if (!lives && !dead)
            return;
    }
    event_del(m->probe);
    if (!lives) { /* its end is told, and then this node is up */
        remote_fail(other->remote, remote_linked(other->remote) ? "it was started again, and no longer answers"
                                                                : "it was started again");
        return;
    }
    m->probes = PROBES;
    if (!m->leaving)
        registry_member_up(m);
}

/* Asks the node with that name for a sign of life; on_probe goes on. */
static bool probe(struct member *m, struct member *other) {
    static const struct timeval pause = {.tv_usec = PROBE_MS * 1000};

    if (m->probes >= PROBES)
        return false;
    if (!m->probe)
        m->probe = event_new(m->registry->base, -1, EV_PERSIST, on_probe, m);
    if (!m->probe || event_add(m->probe, &pause))
        return false;
    m->heard = session_bytes(remote_session(other->remote));
    m->asked = remote_probe(other->remote);
    m->quiet = 0;
    return true;
}

/* A refused node keeps coming: it is logged once a minute, and told at its address, if that was dialled. */
static void refuse(struct member *m, const char *why) {
    struct registry *f = m->registry;
    const char *address = remote_address(m->remote), *port = strrchr(address, ':');
    char sentence[MESSAGE_SENTENCE], source[ADDRESS_MAX + MESSAGE_SENTENCE];

    snprintf(source, sizeof(source), "@%.*s %s", port ? (int)(port - address) : 0, address, why);
    snprintf(sentence, sizeof(sentence), "the node at %.200s is not taken in: %.600s", address, why);
    if (complaints_tell(&f->complaints, source, 1, sentence, sizeof(sentence)) &&
        complaints_tell_of(&f->complaints, address, COMPLAINTS_NODE, sentence, sizeof(sentence)))
        registry_log(f, "%s", sentence);
    for (struct target *t = LIST_FIRST(&f->targets); t; t = LIST_NEXT(t, next))
        if (t->there == m) {
            redial_refused(t->redial);
            if (f->ev.dialling && !t->found)
                f->ev.dialling(f->arg, t->address, why);
        }
    m->leaving = true;
    remote_refuse(m->remote, why);
}

/* The node of its key has the name before any other that calls itself so. */
static bool own_name(struct member *m, const char *key, struct member *other, char name[NODE_NAME]) {
    const char *said = remote_about(m->remote)->name;
    char why[MESSAGE_SENTENCE];

    snprintf(name, NODE_NAME, "%s", key);
    if (strcmp(said, key)) {
        snprintf(why, sizeof(why), "its key is for the node %s, and it calls itself %s", key, said);
        refuse(m, why);
        return false;
    }
    if (!other)
        return true;
    if (!same_key(m, other)) {
        remote_fail(other->remote, "a node with a key for that name has come");
    } else if (!remote_linked(other->remote)) {
        remote_fail(other->remote, "it was started again");
    } else if (!probe(m, other)) {
        snprintf(why, sizeof(why), "nodes/%s is there already, with the same key, at %s", key,
                 remote_address(other->remote));
        refuse(m, why);
    }
    return false;
}

/* The number behind "BASE-" in a name; 0: none. */
static size_t numbered(const char *name, const char *base) {
    size_t size = strlen(base);
    char *end;

    if (strncmp(name, base, size) || name[size] != '-' || name[size + 1] < '1' || name[size + 1] > '9')
        return 0;
    size_t n = strtoul(name + size + 1, &end, 10);
    return *end ? 0 : n;
}

/* BASE-N with the smallest free N from 2, by one look at each name, as thousands may call themselves the same. A number
 * up to 2 + members + keys is free. False: no memory. */
static bool next_name(const struct registry *f, const char *said, char name[NODE_NAME]) {
    size_t most = 2 + f->key_count, n = 2;
    char base[NODE_NAME_BASE + 1];
    const struct member *m;

    snprintf(base, sizeof(base), "%.*s", (int)NODE_NAME_BASE, said);
    LIST_FOREACH(m, &f->members, next) {
        most++;
    }
    bool *taken = calloc(most + 1, sizeof(*taken));
    if (!taken)
        return false;
    LIST_FOREACH(m, &f->members, next) {
        if (m->up && (n = numbered(remote_name(m->remote), base)) <= most)
            taken[n] = true;
    }
    for (size_t i = 0; i < f->key_count; i++)
        if ((n = numbered(f->keys[i].name, base)) <= most)
            taken[n] = true;
    for (n = 2; taken[n];)
        n++;
    free(taken);
    snprintf(name, NODE_NAME, "%s-%zu", base, n);
    return true;
}

bool registry_choose_name(struct member *m, char name[NODE_NAME]) {
    struct registry *f = m->registry;
    const char *said = remote_about(m->remote)->name;
    struct member *other = named(f, said);

    if (!remote_session(m->remote) || (m->probe && event_pending(m->probe, EV_TIMEOUT, NULL)))
        return false;
    const struct keyed *key = registry_key_of(f, session_key(remote_session(m->remote)));
    if (!key) {
        refuse(m, "its key was revoked");
        return false;
    }
    if (other && !remote_session(other->remote)) /* it is ending, and the name is free then */
        return false;
    if (strcmp(key->name, REGISTRY_JOIN))
        return own_name(m, key->name, other, name);
    if (other && same_key(m, other)) {
        if (!remote_linked(other->remote) && may_end(m, other)) {
            remote_fail(other->remote, "it was started again");
            return false;
        }
        if (probe(m, other))
            return false;
    }
    snprintf(name, NODE_NAME, "%s", said);
    if (strcmp(name, "local") && !other && !registry_key_named(f, name))
        return true;
    if (next_name(f, said, name))
        return true;
    remote_fail(m->remote, "there is no memory for it");
    return false;
}
