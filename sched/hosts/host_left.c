/* What a host has besides slots: its memory and its named resources, and what of them is left. */
#include <string.h>

#include "sched/hosts/hosts.h"
#include "sched/hosts/state.h"

void host_hold_memory(struct host *h, uint64_t bytes, bool hold) {
    h->memory_used += hold ? bytes : -bytes;
}

uint64_t host_free_memory(const struct host *h) {
    if (!h->memory)
        return UINT64_MAX;
    return h->memory_used < h->memory ? h->memory - h->memory_used : 0;
}

bool host_has(const struct host *h, const struct constraint *p) {
    return p->memory <= host_free_memory(h) && (!p->resources || host_has_resources(h, p, OF_LEFT));
}

bool host_keeps(const struct host *h, const struct constraint *p) {
    return (p->memory && h->memory_kept == h->s->dispatches) || (p->resources && !host_has_resources(h, p, OF_UNKEPT));
}

bool host_has_left(struct host *h, const char *place) {
    struct constraint p = constraint_parse(place);
    if (host_has(h, &p) && !host_keeps(h, &p))
        return true;
    h->s->hosts->memory_short = h->s->dispatches;
    return false;
}

bool host_any_short(const struct sched *s, uint64_t dispatch) {
    return s->hosts->memory_short == dispatch;
}

/* --- named resources --------------------------------------------------------------------------------------------- */

static uint64_t all_of(unsigned n) {
    return n < 64 ? (UINT64_C(1) << n) - 1 : UINT64_MAX;
}

/* What a place asks for; what stands in it was checked when it was made. */
static struct resources asked(const char *resources) {
    struct resources r = {0};
    resources_parse(&r, resources, strcspn(resources, ":"));
    return r;
}

static unsigned left_of(const struct host *h, int kind) {
    return kind < 0 ? 0 : h->resources.at[kind].n - host_taken(h, (unsigned)kind);
}

bool host_has_resources(const struct host *h, const struct constraint *p, enum count_of which) {
    struct resources wants = asked(p->resources);
    for (unsigned i = 0; i < wants.count; i++) {
        int at = resources_find(&h->resources, wants.at[i].name);
        if (at < 0 || (which == OF_UNKEPT && h->resources_kept[at] == h->s->dispatches) ||
            wants.at[i].n > (which == OF_ALL ? h->resources.at[at].n : left_of(h, at)))
            return false;
    }
    return true;
}

/* What that user's runs hold there. */
static struct slot_use held_by(const struct host *h, uid_t uid) {
    struct slot_use all = {0};
    const struct slot_use *r;
    LIST_FOREACH(r, &h->under_way, mates) {
        if (r->uid != uid || r->over)
            continue;
        all.memory += r->lent ? 0 : r->memory;
        for (unsigned i = 0; i < RESOURCE_KINDS; i++)
            all.resources[i] |= r->resources[i];
    }
    return all;
}

void host_keep_left(struct host *h, const struct demand *d) {
    struct constraint p = constraint_parse(d->place);
    struct resources wants = asked(p.resources ? p.resources : "");
    struct slot_use own = held_by(h, d->uid);
    if (p.memory > host_free_memory(h) && !own.memory)
        h->memory_kept = h->s->dispatches;
    for (unsigned i = 0; i < wants.count; i++) {
        int at = resources_find(&h->resources, wants.at[i].name);
        if (at >= 0 && wants.at[i].n > left_of(h, at) && !own.resources[at])
            h->resources_kept[at] = h->s->dispatches;
    }
}

unsigned host_taken(const struct host *h, unsigned kind) {
    return (unsigned)__builtin_popcountll(h->taken[kind] & all_of(h->resources.at[kind].n));
}

void host_take_resources(struct host *h, const char *place, uint64_t taken[RESOURCE_KINDS]) {
    struct constraint p = constraint_parse(place);
    struct resources wants = asked(p.resources ? p.resources : "");
    for (unsigned i = 0; i < wants.count; i++) {
        int at = resources_find(&h->resources, wants.at[i].name);
        uint64_t left = at < 0 ? 0 : all_of(h->resources.at[at].n) & ~h->taken[at];
        for (; left && wants.at[i].n; wants.at[i].n--, left &= left - 1) {
            taken[at] |= left & -left;
            h->taken[at] |= left & -left;
        }
    }
}

void host_give_resources(struct host *h, const uint64_t taken[RESOURCE_KINDS]) {
    for (unsigned i = 0; i < RESOURCE_KINDS; i++)
        h->taken[i] &= ~taken[i];
}
