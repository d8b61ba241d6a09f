/* Nodes as nodes/ shows and sets them: each is a host (host.h). */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "net/clock.h"
#include "net/printable.h"
#include "sched/hosts/hosts.h"
#include "sched/hosts/state.h"

#define CPUS_MAX 4096u

const char *node_state_name(enum node_state s) {
    static const char *const names[] = {[NODE_UP] = "up", [NODE_DRAIN] = "drain", [NODE_DOWN] = "down"};
    return names[s];
}

/* --- looking ----------------------------------------------------------------------------------------------------- */

static enum node_state state_of(const struct host *h) {
    if (!h->runner.ops || (h->remote && !remote_linked(h->remote)))
        return NODE_DOWN;
    return host_drains(h) ? NODE_DRAIN : NODE_UP;
}

bool node_why_silent(const struct host *h, char *buf, size_t size) {
    unsigned quiet = h->remote ? remote_quiet_ms(h->remote) : 0, limit = h->s->c.silence_ms ? h->s->c.silence_ms : 5000;
    bool cut = h->remote && !remote_linked(h->remote);
    buf[0] = 0;
    if (quiet >= 1000 || (quiet && !cut))
        snprintf(buf, size, "nodes/%s has not been heard of for %.2g s; it is given up after %g s", h->name,
                 quiet / 1e3, limit / 1e3);
    else if (cut)
        snprintf(buf, size, "nodes/%s has lost its connection; it is given up when it is not heard of for %g s",
                 h->name, limit / 1e3);
    return quiet || cut;
}

#define NOBODY ((uid_t)-1)

/* Names of modules are their user's, who may make them say anything. */
static void why_lacks(const struct host *h, uid_t asker, char *buf, size_t size) {
    bool shown = asker == h->lacks_of || asker == h->s->owner;
    snprintf(buf, size,
             "its Python has no module %s%s%s, or not where the calls look for it: "
             "those that need it go elsewhere, and are tried here from time to time",
             shown ? "'" : "that some calls need", shown ? h->lacks : "", shown ? "'" : "");
}

static void why_of(const struct host *h, uid_t asker, char *buf, size_t size) {
    int64_t pause = h->quiet_until - clock_us();
    if (!h->runner.ops)
        snprintf(buf, size, "%s", *h->why ? h->why : "it is dialled, and has not answered yet");
    else if (node_why_silent(h, buf, size))
        return;
    else if (h->crashes && pause > 0)
        snprintf(buf, size, "it was lost under its work, %u time%s in a row: it gets nothing for another %.0f s",
                 h->crashes, h->crashes == 1 ? "" : "s", (double)pause / 1e6);
    else if (h->crashes)
        snprintf(buf, size,
                 "it was lost under its work, %u time%s in a row: it gets one job at a time until it has finished one",
                 h->crashes, h->crashes == 1 ? "" : "s");
    else if (h->s->hosts->all->next && *h->lacks && estimate_doubted(h))
        why_lacks(h, asker, buf, size);
    else if (h->s->hosts->all->next && estimate_doubted(h))
        snprintf(buf, size,
                 "work of %u kind%s fails here and, as far as is known, nowhere else: it gets one piece of that at a "
                 "time, until one succeeds",
                 estimate_doubted(h), estimate_doubted(h) == 1 ? "" : "s");
    else if (h->known && h->uid && h->uids.count && !node_uids_have(&h->uids, h->only))
        snprintf(
            buf, size,
            "it runs as user %u, not as root, and takes no jobs of user %u, which it would get (ppfs-node --uids), "
            "or it has begun with those of another ppfs's: it does one user's until it is started again",
            (unsigned)h->uid, (unsigned)h->only);
    else if (h->known && h->uid && h->s->owner == 0)
        snprintf(buf, size, "it runs as user %u, not as root: it gets jobs of user %u only", (unsigned)h->uid,
                 (unsigned)h->only);
    else if (h->known && h->single && !h->uid)
        snprintf(buf, size, "it gets jobs of user %u only (ppfs --node-user), though it says that it runs as root",
                 (unsigned)h->only);
    else if (h->known && !h->uid && h->s->owner == 0 && !host_takes(h, 0))
        snprintf(buf, size, "it runs nothing of root (ppfs-node --root-jobs)");
    else if (*h->python && !host_pickles(h))
        snprintf(buf, size,
                 "its Python is %s, and here it is %s: it gets scripts, programs, JSON and source, but no pickles",
                 h->python, h->s->hosts->all->python);
}

/* Slots of idle leases count as free. */
static void count(const struct host *h, struct node *out) {
    out->state = state_of(h);
    out->cpus = h->cpus;
    out->running = h->used - h->idle;
    out->done = h->done;
    out->failed = h->failed;
    out->seconds = (double)h->run_us / 1e6;
    memcpy(out->name, h->name, sizeof out->name);
}

static void describe(const struct host *h, uid_t asker, struct node *out) {
    *out = (struct node){0};
    count(h, out);
    out->seen = h->remote ? remote_seen_us(h->remote) : h->seen;
    if (h->pool)
        out->seen = clock_wall_us();
    out->pickles = host_pickles(h);
    snprintf(out->python, sizeof out->python, "%s", h->python);
    size_t n = 0;
    *out->resources = 0;
    for (unsigned i = 0; i < h->resources.count; i++)
        n += (size_t)snprintf(out->resources + n, sizeof out->resources - n, "%s %u %u\n", h->resources.at[i].name,
                              host_taken(h, i), h->resources.at[i].n);
    why_of(h, asker, out->why, sizeof out->why);
    const char *address = *h->address ? h->address : h->name;
    snprintf(out->address, sizeof out->address, "%s", h->pool ? "local" : address);
    printable(out->python, sizeof out->python);
    printable(out->why, sizeof out->why);
    printable(out->address, sizeof out->address);
}

int sched_node(struct sched *s, uint64_t id, uid_t asker, struct node *out) {
    const struct host *h = host_by_id(s, id);
    if (!h || h->leaving)
        return -ENOENT;
    describe(h, asker, out);
    return 0;
}

uint64_t sched_node_id(const char *name) {
    return host_id(name);
}

int sched_find_node(struct sched *s, const char *name, uint64_t *id) {
    const struct host *h = host_find(s, name);
    if (!h)
        return -ENOENT;
    *id = h->id;
    return 0;
}

void sched_page_nodes(struct sched *s, uint64_t after, bool (*each)(void *, const char *, uint64_t), void *arg) {
    for (const struct host *h; (h = host_behind(s, after)); after = h->id)
        if (!h->leaving && !each(arg, h->name, h->id))
            return;
}

struct nodes_sum sched_sum_nodes(const struct sched *s) {
    struct nodes_sum sum = {0};
    for (const struct host *h = s->hosts->all; h; h = h->next) {
        if (h->leaving)
            continue;
        sum.slots += state_of(h) == NODE_UP ? h->cpus : 0;
        sum.ended += h->done + h->failed;
    }
    return sum;
}

int sched_list_nodes(struct sched *s, bool brief, bool (*each)(void *, const struct node *), void *arg) {
    bool go_on = true;
    struct node n = {0};
    for (struct host *h = s->hosts->all; h && go_on; h = h->next, s->steps++) {
        if (h->leaving)
            continue;
        if (brief)
            count(h, &n);
        else
            describe(h, NOBODY, &n);
        go_on = each(arg, &n);
    }
    return 0;
}

/* --- setting ----------------------------------------------------------------------------------------------------- */

static int save(struct sched *s, const struct host *h) {
    if (h->pool) {
        int rc = store_meta_set(s->store, "cpus", h->cpus);
        return sched_check(s, rc < 0 ? rc : store_meta_set(s->store, "node_state", h->state));
    }
    return h->dialled ? store_node_put(s->store, h->name, h->state, h->wish) : 0;
}

int sched_set_cpus(struct sched *s, const char *node, unsigned cpus) {
    struct host *h = host_find(s, node);
    if (!h || cpus > CPUS_MAX)
        return h ? -EINVAL : -ENOENT;
    unsigned before = h->cpus;
    int wish = h->wish;
    h->wish = (int)cpus;
    if (h->pool)
        h->cpus = cpus;
    int rc = save(s, h);
    if (rc < 0) {
        h->cpus = before;
        h->wish = wish;
        return rc;
    }
    h->tell = s->hosts->telling = true;
    host_trace(h);
    host_changed(h);
    return 0;
}

int sched_set_node_state(struct sched *s, const char *node, enum node_state state) {
    struct host *h = host_find(s, node);
    if (!h || state == NODE_DOWN)
        return h ? -EINVAL : -ENOENT;
    enum node_state before = h->state;
    h->state = state;
    int rc = save(s, h);
    if (rc < 0)
        h->state = before;
    host_room(h);
    host_trace(h);
    s->hosts->drained = true;
    sched_tick(s);
    return rc;
}
