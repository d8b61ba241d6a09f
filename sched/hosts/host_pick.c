/* The choice among hosts within a dispatch: a heap by cost, so that a slot costs the same with any number of hosts.
 * Hosts only fill up in a dispatch, so a cost in the heap is never above the present one. */
#include <stdlib.h>
#include <string.h>

#include "net/clock.h"
#include "net/hash.h"
#include "sched/hosts/hosts.h"
#include "sched/hosts/state.h"

enum { NONE_US = 10000 }; /* for so long it is known that no other host fits */

static bool is_another(const struct host *h, const struct demand *d) {
    return host_live(h) && h->cpus >= d->cpus && host_fits(h, d->place, d->uid) && !estimate_doubts(h, d->function);
}

/* Thousands of hosts may be doubted for one function, and each of them asks this for each of its calls. */
bool host_another(struct sched *s, const struct demand *d, const struct host *but) {
    struct another *a = &s->hosts->estimates.another[d->function];
    if (a->found && a->found != but && is_another(a->found, d))
        return true;
    uint64_t place = hash_bytes(d->place, strlen(d->place));
    if (a->until && a->round == s->placing_round && a->cpus == d->cpus && a->uid == d->uid && a->place == place &&
        clock_us() < a->until)
        return a->but != but && is_another(a->but, d);
    *a = (struct another){.but = but, .round = s->placing_round, .cpus = d->cpus, .uid = d->uid, .place = place};
    for (const struct host *h = s->hosts->all; h && !a->found; h = h->next, s->steps++)
        a->found = h != but && is_another(h, d) ? h : NULL;
    a->until = a->found ? 0 : clock_us() + NONE_US;
    return a->found;
}

static bool less(const struct candidate *a, const struct candidate *b) {
    return a->cost != b->cost ? a->cost < b->cost : a->at < b->at;
}

static void sift(struct picks *p, unsigned i) {
    struct candidate moved = p->items[i];
    for (unsigned child; (child = 2 * i + 1) < p->count; i = child) {
        child += child + 1 < p->count && less(&p->items[child + 1], &p->items[child]);
        if (!less(&p->items[child], &moved))
            break;
        p->items[i] = p->items[child];
    }
    p->items[i] = moved;
}

static bool gather(struct sched *s, struct picks *p, const struct demand *d) {
    unsigned n = 0;
    struct host *h;
    TAILQ_FOREACH(h, &s->hosts->roomy, room)
        n++;
    s->steps += n;
    if (n > p->cap) {
        struct candidate *grown = reallocarray(p->items, n, sizeof *grown);
        if (!grown)
            return false;
        p->items = grown;
        p->cap = n;
    }
    p->dispatch = s->dispatches;
    p->function = d->function;
    p->uid = d->uid;
    strcpy(p->place, d->place);
    p->count = 0;
    TAILQ_FOREACH(h, &s->hosts->roomy, room)
        if (host_free_now(h) && host_fits(h, d->place, d->uid))
            p->items[p->count++] = (struct candidate){host_cost(h, d->function), h->order, h};
    for (unsigned i = p->count / 2; i-- > 0;)
        sift(p, i);
    return true;
}

static struct picks *picks_for(struct sched *s, const struct demand *d) {
    for (unsigned i = 0; i < PICKS; i++)
        if (s->hosts->picks[i].dispatch == s->dispatches && s->hosts->picks[i].function == d->function &&
            s->hosts->picks[i].uid == d->uid && strcmp(s->hosts->picks[i].place, d->place) == 0)
            return &s->hosts->picks[i];
    struct picks *p = &s->hosts->picks[s->hosts->pick_next++ % PICKS];
    p->dispatch = 0;
    return gather(s, p, d) ? p : NULL;
}

struct host *host_pick(struct sched *s, const struct demand *d) {
    struct picks *p = d->cpus == 1 && !*d->avoid ? picks_for(s, d) : NULL;
    if (!p)
        return host_choose(s, d);
    while (p->count) {
        struct candidate *top = &p->items[0];
        bool takes = host_free_now(top->host) && host_has_left(top->host, d->place) && !host_shuns(top->host, d);
        double cost = takes ? host_cost(top->host, d->function) : 0;
        s->steps++;
        if (takes && cost == top->cost)
            return top->host;
        if (takes)
            top->cost = cost;
        else
            *top = p->items[--p->count];
        sift(p, 0);
    }
    return NULL;
}

void host_picks_free(struct sched *s) {
    for (unsigned i = 0; i < PICKS; i++)
        free(s->hosts->picks[i].items);
}
