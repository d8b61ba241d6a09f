/* Nodes: what can run a job. This machine is the node called local. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sched/stream_int.h"

#define CPUS_MAX 4096u

const char *node_state_name(enum node_state s) {
    static const char *const names[] = {[NODE_UP] = "up", [NODE_DRAIN] = "drain", [NODE_DOWN] = "down"};
    return names[s];
}

static int known(const char *name) {
    return strcmp(name, "local") == 0 ? 0 : -ENOENT;
}

int sched_node(struct sched *s, const char *name, struct node *out) {
    if (known(name) < 0)
        return -ENOENT;
    *out = (struct node){.state = s->node, .cpus = s->cpus, .running = s->run_count, .done = s->done, .failed = s->failed, .seconds = (double)s->run_us / 1e6, .seen = sched_now()};
    snprintf(out->name, sizeof out->name, "local");
    snprintf(out->python, sizeof out->python, "%s", pool_python(s->pool));
    snprintf(out->address, sizeof out->address, "local");
    return 0;
}

int sched_list_nodes(struct sched *s, bool (*each)(void *, const struct node *), void *arg) {
    struct node n;
    int rc = sched_node(s, "local", &n);
    if (rc == 0)
        each(arg, &n);
    return rc;
}

int sched_set_cpus(struct sched *s, const char *node, unsigned cpus) {
    if (known(node) < 0)
        return -ENOENT;
    if (cpus > CPUS_MAX)
        return -EINVAL;
    int rc = sched_check(s, store_meta_set(s->store, "cpus", cpus));
    if (rc < 0)
        return rc;
    if (cpus > s->cpus) { /* jobs that fitted no node may do so now (queue.c) */
        s->placing = true;
        s->placed = 0;
    }
    s->cpus = cpus;
    pool_resize(s->pool, cpus + s->lent);
    return 0;
}

int sched_set_node_state(struct sched *s, const char *node, enum node_state state) {
    if (known(node) < 0)
        return -ENOENT;
    if (state == NODE_DOWN)
        return -EINVAL;
    int rc = sched_check(s, store_meta_set(s->store, "node_state", state));
    if (rc == 0)
        s->node = state;
    return rc;
}

const char *sched_node_of(struct sched *s, const struct job *j) {
    (void)s;
    return j->attempt ? "local" : "";
}

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
                run_lend(s, r, false);
            else if (!waits_still)
                lease_lend(s, p->job, false);
            free(p);
            return;
        }
}
