/* Which node may have which name. One with a key of its own has the name of that key, before any other; of the rest who
 * comes first. A node that was started again comes with the name that its predecessor still has: that one is asked for
 * a sign of life, and has a second for it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/address.h"
#include "worker/remote/fleet_internal.h"

enum { PROBE_MS = 100, PROBES = 10 };

static struct member *named(const struct fleet *f, const char *name) {
    for (struct member *m = f->members; m; m = m->next)
        if (m->up && strcmp(far_name(m->far), name) == 0)
            return m;
    return NULL;
}

static void on_probe(evutil_socket_t fd, short what, void *arg) {
    struct member *m = arg, *other = named(m->fleet, far_about(m->far)->name);
    bool linked = other && far_linked(other->far), lives = linked && session_bytes(far_session(other->far)) != m->heard;

    (void)fd;
    (void)what;
    if (linked && !lives && ++m->probes < PROBES)
        return;
    event_del(m->probe);
    if (linked && !lives) { /* its end is told, and then this one is up */
        far_fail(other->far, "it was started again, and no longer answers");
        return;
    }
    m->probes = PROBES;
    if (!m->leaving)
        fleet_member_up(m);
}

/* Asks the one that has the name for a sign of life; on_probe goes on. */
static bool probe(struct member *m, struct member *other) {
    static const struct timeval pause = {.tv_usec = PROBE_MS * 1000};

    if (!m->probe)
        m->probe = event_new(m->fleet->base, -1, EV_PERSIST, on_probe, m);
    if (!m->probe || event_add(m->probe, &pause))
        return false;
    m->heard = far_probe(other->far);
    return true;
}

/* It comes again and again: that is told once a minute, and where somebody has named its address also there. */
static void refuse(struct member *m, const char *why) {
    struct fleet *f = m->fleet;
    const char *address = far_address(m->far), *port = strrchr(address, ':');
    char sentence[FAR_SENTENCE], source[ADDRESS_MAX + FAR_SENTENCE];

    snprintf(source, sizeof(source), "@%.*s %s", port ? (int)(port - address) : 0, address, why);
    snprintf(sentence, sizeof(sentence), "the node at %.200s is not taken in: %.600s", address, why);
    if (complaints_tell(&f->complaints, source, 1, sentence, sizeof(sentence)) &&
        complaints_tell_of(&f->complaints, address, COMPLAINTS_NODE, sentence, sizeof(sentence)))
        fleet_log(f, "%s", sentence);
    for (struct target *t = f->targets; t; t = t->next)
        if (t->there == m) {
            redial_refused(t->redial);
            if (f->ev.dialling && !t->found)
                f->ev.dialling(f->arg, t->address, why);
        }
    m->leaving = true;
    far_refuse(m->far, why);
}

/* Nobody is put to the test, or let go, for what somebody says who has another key. */
static bool same_key(const struct member *a, const struct member *b) {
    return far_session(a->far) && far_session(b->far) &&
           !memcmp(session_key(far_session(a->far)), session_key(far_session(b->far)), TLS_KEY_ID);
}

/* The one node that its key is for. It has that name also before another that calls itself so. */
static bool own_name(struct member *m, const char *key, struct member *other, char name[FAR_NAME]) {
    const char *said = far_about(m->far)->name;
    char why[FAR_SENTENCE];

    snprintf(name, FAR_NAME, "%s", key);
    if (strcmp(said, key)) {
        snprintf(why, sizeof(why), "its key is for the node %s, and it calls itself %s", key, said);
        refuse(m, why);
        return false;
    }
    if (!other)
        return true;
    if (!far_session(other->far)) /* it is going */
        return false;
    if (!same_key(m, other)) {
        far_fail(other->far, "a node with a key for that name has come");
    } else if (!far_linked(other->far)) {
        far_fail(other->far, "it was started again");
    } else if (m->probes >= PROBES || !probe(m, other)) {
        snprintf(why, sizeof(why), "nodes/%s is there already, with the same key, at %s", key, far_address(other->far));
        refuse(m, why);
    }
    return false;
}

/* The number behind "BASE-" in a name; 0: it has none, or is not of that kind. */
static size_t numbered(const char *name, const char *base) {
    size_t size = strlen(base);
    char *end;

    if (strncmp(name, base, size) || name[size] != '-' || name[size + 1] < '1' || name[size + 1] > '9')
        return 0;
    size_t n = strtoul(name + size + 1, &end, 10);
    return *end ? 0 : n;
}

/* BASE-N with the smallest N from 2 that nobody has. Of so many names as there are members and keys not all numbers up
 * to that can be taken; one look at each, as thousands may call themselves the same. False: no memory. */
static bool next_name(const struct fleet *f, const char *said, char name[FAR_NAME]) {
    size_t most = 2 + f->key_count, n = 2;
    char base[51];

    snprintf(base, sizeof(base), "%.50s", said);
    for (const struct member *m = f->members; m; m = m->next)
        most++;
    bool *taken = calloc(most + 1, sizeof(*taken));
    if (!taken)
        return false;
    for (const struct member *m = f->members; m; m = m->next)
        if (m->up && (n = numbered(far_name(m->far), base)) <= most)
            taken[n] = true;
    for (size_t i = 0; i < f->key_count; i++)
        if ((n = numbered(f->keys[i].name, base)) <= most)
            taken[n] = true;
    for (n = 2; taken[n];)
        n++;
    free(taken);
    snprintf(name, FAR_NAME, "%s-%zu", base, n);
    return true;
}

bool fleet_choose_name(struct member *m, char name[FAR_NAME]) {
    struct fleet *f = m->fleet;
    const char *said = far_about(m->far)->name;
    struct member *other = named(f, said);

    if (!far_session(m->far) || (m->probe && event_pending(m->probe, EV_TIMEOUT, NULL)))
        return false;
    const struct keyed *key = fleet_key_of(f, session_key(far_session(m->far)));
    if (!key) {
        refuse(m, "its key was revoked");
        return false;
    }
    if (strcmp(key->name, FLEET_JOIN))
        return own_name(m, key->name, other, name);
    if (other && same_key(m, other) && address_same_host(far_address(other->far), far_address(m->far))) {
        if (!far_linked(other->far)) {
            far_fail(other->far, "it was started again");
            return false;
        }
        if (m->probes < PROBES && probe(m, other))
            return false;
    }
    snprintf(name, FAR_NAME, "%s", said);
    if (strcmp(name, "local") && !other && !fleet_key_named(f, name))
        return true;
    if (next_name(f, said, name))
        return true;
    far_fail(m->far, "there is no memory for it");
    return false;
}
