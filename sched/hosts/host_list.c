/* The list of hosts in order of arrival, and an array in order of their ids, by which one host or a page of them is
 * found without a walk. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "net/hash.h"
#include "sched/hosts/hosts.h"
#include "sched/hosts/state.h"

/* 56 bits; never 0. */
uint64_t host_id(const char *name) {
    uint64_t h = hash_bytes(name, strlen(name)) >> 8;
    return h ? h : 1;
}

/* The index of the first host whose id is not lower. */
static size_t index_of(struct sched *s, uint64_t id) {
    size_t from = 0, to = s->hosts->count;
    while (from < to) {
        size_t middle = from + (to - from) / 2;
        s->steps++;
        if (s->hosts->by_id[middle]->id < id)
            from = middle + 1;
        else
            to = middle;
    }
    return from;
}

int host_enlist(struct sched *s, struct host *h) {
    struct host **last = &s->hosts->all;
    h->id = host_id(h->name);
    size_t at = index_of(s, h->id);
    if (at < s->hosts->count && s->hosts->by_id[at]->id == h->id)
        return -EEXIST;
    struct host **grown = reallocarray(s->hosts->by_id, s->hosts->count + 1, sizeof *grown);
    if (!grown)
        return -ENOMEM;
    memmove(grown + at + 1, grown + at, (s->hosts->count - at) * sizeof *grown);
    grown[at] = h;
    s->hosts->by_id = grown;
    s->hosts->count++;
    h->order = s->hosts->orders++;
    host_room(h);
    while (*last)
        last = &(*last)->next;
    *last = h;
    return 0;
}

void host_delist(struct host *h) {
    struct sched *s = h->s;
    struct host **at = &s->hosts->all;
    size_t i = index_of(s, h->id);
    while (*at != h)
        at = &(*at)->next;
    *at = h->next;
    s->hosts->count--;
    memmove(s->hosts->by_id + i, s->hosts->by_id + i + 1, (s->hosts->count - i) * sizeof *s->hosts->by_id);
}

struct host *host_by_id(struct sched *s, uint64_t id) {
    size_t i = index_of(s, id);
    struct host *h = i < s->hosts->count ? s->hosts->by_id[i] : NULL;
    return h && h->id == id ? h : NULL;
}

struct host *host_behind(struct sched *s, uint64_t id) {
    size_t i = index_of(s, id + 1);
    return i < s->hosts->count ? s->hosts->by_id[i] : NULL;
}

struct host *host_find_any(struct sched *s, const char *name) {
    struct host *h = host_by_id(s, host_id(name));
    return h && strcmp(h->name, name) == 0 ? h : NULL;
}

struct host *host_find(struct sched *s, const char *name) {
    struct host *h = host_find_any(s, name);
    return h && !h->leaving ? h : NULL;
}
