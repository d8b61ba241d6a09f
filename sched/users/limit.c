/* See limit.h. What runs is counted in memory, for its group and those around it; limits are read from the groups'
 * options, again after each change of these. */
#include "sched/users/limit.h"

#include <errno.h>
#include <inttypes.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sched/job/options.h"
#include "sched/turn/context.h"
#include "sched/users/state.h"

#define SWEEP_MIN 64u /* limits in memory, before those that nothing holds are freed */

struct limit {
    uint64_t group; /* first: key of the tree */
    struct sched *s;
    struct limit *outer; /* of the next limited group around it; NULL: there is none */
    uint64_t generation;
    uint32_t max;
    unsigned used, leased; /* jobs and leases that run in it and in what it holds; of these, leases */
    unsigned lent;         /* those in it itself that do not count, as they have lent their slots */
    unsigned inner;        /* limits whose outer one it is */
    uint64_t wanted_in;    /* the dispatch in which somebody waited for room in it ... */
    const struct stream *wanted_by;
    LIST_ENTRY(limit) mates;
};

const char *limit_skip(const char *place) {
    const char *end = *place == '#' ? strchr(place, ':') : NULL;
    return end ? end + 1 : place;
}

/* --- reading ----------------------------------------------------------------------------------------------------- */

int limit_options(struct sched *s, uint64_t group, uint32_t *max, uint32_t *max_fails) {
    char *saved = NULL;
    struct options *o = NULL;
    int rc = store_group_options(s->store, group, &saved);
    *max = *max_fails = 0;
    if (rc == 0 && strstr(saved, OPTIONS_SAVED_MAX)) {
        rc = (o = options_create()) ? options_load(o, saved) : -ENOMEM;
        *max = rc == 0 ? o->max : 0;
        *max_fails = rc == 0 ? o->max_fails : 0;
    }
    options_destroy(o);
    free(saved);
    return rc;
}

/* The innermost limited group from that one outward. 0, -ENOENT: none, -errno. */
static int find_limited(struct sched *s, uint64_t *group, uint32_t *max) {
    struct group g;
    uint32_t max_fails;
    for (unsigned level = 0; level <= GROUP_LEVELS; level++) {
        int rc = limit_options(s, *group, max, &max_fails);
        if (rc < 0 || *max)
            return rc;
        if (*group == 0 || store_group_get(s->store, *group, &g) < 0)
            break;
        *group = g.parent;
    }
    return -ENOENT;
}

void limit_place(struct sched *s, uint64_t group, char place[CONSTRAINT_MAX]) {
    char rest[CONSTRAINT_MAX];
    uint32_t max;
    strcpy(rest, limit_skip(place));
    if (s->users->limits.said && find_limited(s, &group, &max) == 0)
        snprintf(place, CONSTRAINT_MAX, "#%" PRIx64 ":%.*s", group, (int)(CONSTRAINT_MAX - LIMIT_PLACE_MAX), rest);
    else
        strcpy(place, rest);
}

static struct limit *limit_get(struct sched *s, uint64_t group);

static void hold_chain(struct limit *l, int used, int leased) {
    for (; l; l = l->outer) {
        l->used += (unsigned)used;
        l->leased += (unsigned)leased;
    }
}

/* What runs in it counts in the groups around it, wherever it is moved. */
static void set_outer(struct limit *l, struct limit *outer) {
    if (l->outer == outer)
        return;
    hold_chain(l->outer, -(int)l->used, -(int)l->leased);
    if (l->outer)
        l->outer->inner--;
    l->outer = outer;
    if (outer)
        outer->inner++;
    hold_chain(outer, (int)l->used, (int)l->leased);
}

static void read_again(struct limit *l) {
    struct sched *s = l->s;
    struct group g = {0};
    uint32_t max = 0, max_fails, outer_max;
    if (l->generation == s->users->limits.generation)
        return;
    l->generation = s->users->limits.generation;
    int rc = store_group_get(s->store, l->group, &g);
    if (rc == 0)
        rc = limit_options(s, l->group, &max, &max_fails);
    if (rc < 0 && rc != -ENOENT)
        return;
    l->max = max ? max : UINT32_MAX;
    uint64_t around = g.parent;
    bool found = rc == 0 && l->group != 0 && find_limited(s, &around, &outer_max) == 0;
    set_outer(l, found ? limit_get(s, around) : NULL);
}

/* NULL: no memory, and then there is no limit. */
static struct limit *limit_get(struct sched *s, uint64_t group) {
    struct limits *all = &s->users->limits;
    struct limit **found = tfind(&group, &all->tree, ids_compare);
    struct limit *l = found ? *found : calloc(1, sizeof *l);
    if (l && !found) {
        *l = (struct limit){.group = group, .s = s, .max = UINT32_MAX};
        if (!tsearch(&l->group, &all->tree, ids_compare)) {
            free(l);
            return NULL;
        }
        LIST_INSERT_HEAD(&all->all, l, mates);
        all->count++;
        l->generation = all->generation - 1;
    }
    if (l)
        read_again(l);
    return l;
}

struct limit *limit_of(struct sched *s, const char *place) {
    return *place == '#' ? limit_get(s, strtoull(place + 1, NULL, 16)) : NULL;
}

/* --- counting ---------------------------------------------------------------------------------------------------- */

bool limit_has_room(struct limit *l) {
    for (; l; l = l->outer) {
        read_again(l);
        if (l->used >= l->max)
            return false;
    }
    return true;
}

bool limit_is_leased(const struct limit *l) {
    return l && l->leased;
}

void limit_want(struct limit *l, const struct stream *who) {
    for (; l; l = l->outer) {
        if (l->used < l->max)
            continue;
        l->wanted_by = l->wanted_in != l->s->dispatches || l->wanted_by == who ? who : NULL;
        l->wanted_in = l->s->users->limits.wanted_in = l->s->dispatches;
    }
}

bool limit_wanted(const struct limit *l, const struct stream *but) {
    while (l && (l->used < l->max || l->wanted_in != l->s->dispatches || l->wanted_by == but))
        l = l->outer;
    return l;
}

void limit_unwant(struct limit *l) {
    for (; l; l = l->outer)
        l->wanted_in = 0;
}

bool limits_wanted(const struct sched *s) {
    return s->users->limits.wanted_in == s->dispatches;
}

void limit_holds(struct limit *l, int n, bool lease) {
    hold_chain(l, n, lease ? n : 0);
}

void limit_lends(struct limit *l, bool lend, bool lease) {
    if (l)
        l->lent += lend ? 1 : -1u;
    limit_holds(l, lend ? -1 : 1, lease);
}

bool limit_full(struct limit *l, struct limit_about *out) {
    for (; l && l->used < l->max; l = l->outer)
        ;
    if (l)
        *out = (struct limit_about){l->group, l->used, l->max};
    return l;
}

/* --- changes ----------------------------------------------------------------------------------------------------- */

static void drop(struct limit *l) {
    struct limits *all = &l->s->users->limits;
    set_outer(l, NULL);
    LIST_REMOVE(l, mates);
    tdelete(&l->group, &all->tree, ids_compare);
    all->count--;
    free(l);
}

static void sweep(struct limits *all) {
    for (struct limit *l = LIST_FIRST(&all->all), *next; l; l = next) {
        next = LIST_NEXT(l, mates);
        if (!l->used && !l->lent && !l->inner)
            drop(l);
    }
    all->kept = all->count;
}

void limits_changed(struct sched *s) {
    struct limits *all = &s->users->limits;
    all->generation++;
    if (all->count > SWEEP_MIN && all->count > 2 * all->kept)
        sweep(all);
}

uint64_t limits_generation(const struct sched *s) {
    return s->users->limits.generation;
}

bool limits_said(const struct sched *s) {
    return s->users->limits.said;
}

void limits_say(struct sched *s) {
    s->users->limits.said = true; /* stays so if this turn is not committed; what reads them then finds none */
}

void limits_begin(struct sched *s) {
    s->users->limits.said = store_groups_say(s->store, OPTIONS_SAVED_MAX);
}

void limits_free(struct sched *s) {
    tdestroy(s->users->limits.tree, free);
}
