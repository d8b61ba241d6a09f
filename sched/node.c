/* Nodes as nodes/ shows and sets them: each is a host (host.h). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/clock.h"
#include "sched/stream_int.h"

#define CPUS_MAX 4096u

const char *node_state_name(enum node_state s) {
    static const char *const names[] = {[NODE_UP] = "up", [NODE_DRAIN] = "drain", [NODE_DOWN] = "down"};
    return names[s];
}

/* --- looking ----------------------------------------------------------------------------------------------------- */

static enum node_state state_of(const struct host *h) {
    if (!h->runner.ops || (h->far && !far_linked(h->far)))
        return NODE_DOWN;
    return host_drains(h) ? NODE_DRAIN : NODE_UP;
}

static void describe(const struct host *h, struct node *out) {
    *out = (struct node){.state = state_of(h), .cpus = h->cpus, .running = h->runs, .done = h->done, .failed = h->failed, .seconds = (double)h->run_us / 1e6};
    out->seen = h->pool ? clock_wall_us() : h->far ? far_seen_us(h->far) : h->seen;
    out->pickles = host_pickles(h);
    snprintf(out->name, sizeof out->name, "%s", h->name);
    snprintf(out->python, sizeof out->python, "%s", h->python);
    snprintf(out->address, sizeof out->address, "%s", h->pool ? "local" : h->far ? far_address(h->far) : h->name);
}

int sched_node(struct sched *s, const char *name, struct node *out) {
    const struct host *h = host_find(s, name);
    if (!h)
        return -ENOENT;
    describe(h, out);
    return 0;
}

int sched_list_nodes(struct sched *s, bool (*each)(void *, const struct node *), void *arg) {
    bool go_on = true;
    for (struct host *h = s->hosts; h && go_on; h = h->next) {
        struct node n;
        if (h->leaving)
            continue;
        describe(h, &n);
        go_on = each(arg, &n);
    }
    return 0;
}

const char *sched_node_of(struct sched *s, const struct job *j) {
    (void)s;
    return *j->node ? j->node : j->attempt ? "local" : "";
}

/* --- setting ----------------------------------------------------------------------------------------------------- */

static int save(struct sched *s, const struct host *h) {
    if (h->pool) {
        int rc = store_meta_set(s->store, "cpus", h->cpus);
        return sched_check(s, rc < 0 ? rc : store_meta_set(s->store, "node_state", h->state));
    }
    return h->dialled ? sched_check(s, store_node_put(s->store, h->name, h->state, h->wish)) : 0;
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
    host_resize(h);
    host_changed(s);
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
    sched_tick(s);
    return rc;
}

/* --- why nobody takes a job -------------------------------------------------------------------------------------- */

/* The place of a job, and that without its demand for a Python that understands its pickles. */
static void places_of(struct sched *s, const struct job *j, char place[PLACE_MAX], char named[PLACE_MAX]) {
    struct job_row r = {.job = *j};
    if (submit_place(s, &r, place) < 0)
        place[0] = 0;
    strcpy(named, place);
    if (*named)
        *named = '-';
}

void node_why_aside(struct sched *s, const struct job *j, char *buf, size_t size) {
    char place[PLACE_MAX], named[PLACE_MAX];
    places_of(s, j, place, named);
    unsigned most = host_largest(s, place);
    if (most) {
        snprintf(buf, size, "needs %u slots, and no node%s has more than %u", j->cpus, *place ? " that it may run on" : "", most);
        return;
    }
    for (struct host *h = s->hosts; h; h = h->next)
        if (host_fits(h, named)) {
            snprintf(buf, size, "it is a pickle of Python %s, and nodes/%s has %s, which would not understand it", s->hosts->python, h->name, *h->python ? h->python : "none yet");
            return;
        }
    snprintf(buf, size, "no node has a name that its option node=%s asks for", *named ? named + 1 : "");
}

void node_why_queued(struct sched *s, const struct job *j, char *buf, size_t size) {
    char place[PLACE_MAX], named[PLACE_MAX];
    const struct host *away = NULL, *drains = NULL;
    unsigned slots = 0, fitting = 0;
    places_of(s, j, place, named);
    for (const struct host *h = s->hosts; h; h = h->next) {
        if (!host_fits(h, place))
            continue;
        fitting++;
        if (host_live(h))
            slots = h->cpus > slots ? h->cpus : slots;
        else if (host_drains(h))
            drains = h;
        else
            away = h;
    }
    if (slots)
        snprintf(buf, size, "queued: waits for %u of %u slots to be free", j->cpus, slots);
    else if (away)
        snprintf(buf, size, "queued: nodes/%s is away%s%s", away->name, *away->why ? ": " : "", away->why);
    else if (drains && fitting == 1)
        snprintf(buf, size, "queued: nodes/%s drains, and there is no other node for it", drains->name);
    else if (drains)
        snprintf(buf, size, "queued: all nodes that it may run on drain");
    else
        snprintf(buf, size, "queued: there is no slot; echo 2 > nodes/local/cpus makes two");
}

/* --- clients that are jobs --------------------------------------------------------------------------------------- */

void sched_blocked(struct sched *s, pid_t pid, uint64_t request, bool waits) {
    if (waits) {
        struct parked *p = calloc(1, sizeof *p);
        if (!p)
            return; /* its slot is then not lent out */
        p->pid = pid;
        p->request = request;
        p->next = s->parked;
        s->parked = p;
        if (s->backlog || s->streams)
            sched_tick(s);
        return;
    }
    for (struct parked **at = &s->parked, *p; (p = *at); at = &p->next)
        if (p->request == request) {
            struct run *r = p->job ? run_find(s, p->job) : NULL;
            *at = p->next;
            bool waits_still = false; /* for another result */
            for (struct parked *other = s->parked; other; other = other->next)
                waits_still |= other->job == p->job;
            if (r && !waits_still)
                run_lend(r, false);
            else if (!waits_still)
                lease_lend(s, p->job, false);
            free(p);
            return;
        }
}
