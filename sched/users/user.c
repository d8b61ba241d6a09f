/* See user.h. Virtual times only grow, so a heap's values are lower bounds: the first user is refreshed until he stays
 * the first, each user at most once in REFRESH_US. */
#include "sched/users/user.h"
#include "sched/users/state.h"

#include <errno.h>
#include <search.h>
#include <stdlib.h>

#include "net/clock.h"

#define REFRESH_US 20000 /* maximal age of the count of slots in use */
#define START_US 1e6     /* assumed use of a slot when it is given, so that slots that are free at once are shared */

static int compare(const void *a, const void *b) {
    uid_t x = *(const uid_t *)a, y = *(const uid_t *)b;
    return x < y ? -1 : x > y;
}

struct user *user_of(struct sched *s, uid_t uid) {
    struct user **found = tfind(&uid, &s->users->tree, compare);
    if (found)
        return *found;
    struct user *u = calloc(1, sizeof *u);
    if (!u)
        return NULL;
    *u = (struct user){.uid = uid, .s = s, .urgent = NOT_URGENT, .quota = quota_of(s, uid)};
    TAILQ_INIT(&u->wanted);
    TAILQ_INIT(&u->bodies);
    TAILQ_INIT(&u->waiting);
    TAILQ_INIT(&u->endings);
    if (!tsearch(&u->uid, &s->users->tree, compare)) {
        free(u);
        return NULL;
    }
    return u;
}

int users_make(struct sched *s) {
    s->users = calloc(1, sizeof *s->users);
    return s->users ? 0 : -ENOMEM;
}

void users_free(struct sched *s) {
    if (!s->users)
        return;
    tdestroy(s->users->tree, free);
    tdestroy(s->users->wants, free);
    limits_free(s);
    for (int i = 0; i < USERS_HEAPS; i++)
        free(s->users->heaps[i].items);
    free(s->users);
}

bool user_is_trusted(const struct sched *s, uid_t uid) {
    return uid == 0 || uid == s->owner;
}

/* --- heaps ------------------------------------------------------------------------------------------------------- */

static double key(const struct user *u, int which) {
    return u->used_us + (which == USERS_READY ? START_US * u->slots : 0);
}

static bool less(const struct user *a, const struct user *b, int which) {
    double x = key(a, which), y = key(b, which);
    return x != y ? x < y : a->uid < b->uid;
}

static void put(struct user_heap *h, unsigned at, struct user *u, int which) {
    h->items[at] = u;
    u->in[which] = at + 1;
}

/* Moves the user to his place in the heap. */
static void sift(struct sched *s, struct user *u, int which) {
    struct user_heap *h = &s->users->heaps[which];
    unsigned at = u->in[which] - 1;
    for (; at && less(u, h->items[(at - 1) / 2], which); at = (at - 1) / 2, s->steps++)
        put(h, at, h->items[(at - 1) / 2], which);
    for (unsigned child; (child = 2 * at + 1) < h->count; at = child, s->steps++) {
        child += child + 1 < h->count && less(h->items[child + 1], h->items[child], which);
        if (!less(h->items[child], u, which))
            break;
        put(h, at, h->items[child], which);
    }
    put(h, at, u, which);
}

static void enter(struct sched *s, struct user *u, int which) {
    struct user_heap *h = &s->users->heaps[which];
    if (u->in[which])
        return;
    if (h->count == h->cap) {
        unsigned cap = h->cap ? h->cap * 2 : 4;
        struct user **grown = reallocarray(h->items, cap, sizeof(struct user *));
        if (!grown) {
            s->users->unknown = true; /* he is found later */
            sched_check(s, -ENOMEM);
            return;
        }
        h->items = grown;
        h->cap = cap;
    }
    put(h, h->count++, u, which);
    sift(s, u, which);
}

static void leave(struct sched *s, struct user *u, int which) {
    struct user_heap *h = &s->users->heaps[which];
    if (!u->in[which])
        return;
    struct user *last = h->items[--h->count];
    if (last != u) {
        put(h, u->in[which] - 1, last, which);
        sift(s, last, which);
    }
    u->in[which] = 0;
}

/* --- virtual time ------------------------------------------------------------------------------------------------ */

static void charge(struct user *u, int64_t now) {
    u->used_us += (double)u->slots * (double)(now - u->at);
    u->at = now;
    for (int i = 0; i < USERS_HEAPS; i++)
        if (u->in[i])
            sift(u->s, u, i);
}

/* True: his time was out of date. */
static bool refresh(struct user *u, int64_t now) {
    bool stale = u->slots && now - u->at >= REFRESH_US;
    if (stale)
        charge(u, now);
    return stale;
}

static struct user *first(struct sched *s, int which) {
    struct user_heap *h = &s->users->heaps[which];
    int64_t now = clock_us();
    while (h->count && refresh(h->items[0], now))
        s->steps++;
    return h->count ? h->items[0] : NULL;
}

/* The least virtual time of the active users; never decreases. */
static double least(struct sched *s) {
    const struct user *u = first(s, USERS_ACTIVE);
    if (u && u->used_us > s->users->time_us)
        s->users->time_us = u->used_us;
    return s->users->time_us;
}

bool user_has_room(const struct user *u, unsigned slots) {
    return (int64_t)u->slots + slots <= u->quota.slots;
}

bool user_crowded(const struct user *u) {
    bool waits = u->backlog || u->placed || u->hungry;
    return waits && (!user_has_room(u, 1) || u->crowded == u->s->dispatches);
}

/* Called after a change of his slots or waiting jobs. */
static void settle(struct user *u) {
    struct sched *s = u->s;
    bool waits = u->backlog || u->placed || u->hungry, starved;
    u->wide = u->wide && waits;
    starved = waits && (u->wide || !user_has_room(u, 1));
    s->users->starved += (unsigned)(starved - u->starved);
    u->starved = starved;
    if ((waits || u->slots) && !u->in[USERS_ACTIVE]) {
        double from = least(s);
        u->used_us = u->used_us > from ? u->used_us : from;
        enter(s, u, USERS_ACTIVE);
    } else if (!waits && !u->slots && u->in[USERS_ACTIVE]) {
        least(s);
        leave(s, u, USERS_ACTIVE);
    }
    if (waits && !u->passed && user_has_room(u, 1))
        enter(s, u, USERS_READY);
    else
        leave(s, u, USERS_READY);
}

void user_holds(struct user *u, int slots) {
    charge(u, clock_us());
    u->slots += (unsigned)slots;
    u->wide = u->wide && slots > 0; /* with fewer slots it is tried again */
    if (u->in[USERS_READY])
        sift(u->s, u, USERS_READY);
    settle(u);
}

/* --- waiting ----------------------------------------------------------------------------------------------------- */

void user_backlog(struct user *u, bool plain, bool placed) {
    if (u->backlog == plain && u->placed == placed)
        return;
    u->s->users->backlog += (unsigned)(plain - u->backlog);
    u->s->users->placed_backlog += (unsigned)(placed - u->placed);
    u->backlog = plain;
    u->placed = placed;
    settle(u);
}

void user_wide(struct user *u) {
    u->wide = true;
    settle(u);
}

void user_hungry(struct user *u, bool hungry) {
    if (u->hungry == hungry)
        return;
    u->hungry = hungry;
    u->s->stirred |= hungry;
    settle(u);
}

struct user *user_next(struct sched *s) {
    return first(s, USERS_READY);
}

void user_pass(struct user *u) {
    u->passed = true;
    settle(u);
}

void user_unpass(struct user *u) {
    u->passed = false;
    settle(u);
}

bool user_yields(struct user *u, const struct user *next, unsigned given) {
    if (u == next || u->backlog || u->placed)
        return true;
    refresh(u, clock_us());
    return next->used_us + START_US * (next->slots + 2.0 * given + 1) < u->used_us + START_US * u->slots;
}

/* --- who waits --------------------------------------------------------------------------------------------------- */

void users_look(struct sched *s) {
    s->users->unknown = true;
}

/* At a start, and when memory ran ahead of the database: a user too many costs a look. */
void users_find(struct sched *s) {
    uid_t uid;
    int rc = 0;
    for (int64_t after = -1; s->users->unknown && (rc = store_ready_user(s->store, after, &uid)) == 0; after = uid) {
        struct user *u = user_of(s, uid);
        if (!u)
            return;
        user_backlog(u, true, true);
    }
    s->users->unknown = sched_check(s, rc) < 0 && rc != -ENOENT;
}

bool users_backlog(const struct sched *s) {
    return s->users->backlog;
}

bool users_ready(const struct sched *s) {
    return s->users->backlog || s->users->placed_backlog;
}

bool users_starved(const struct sched *s) {
    return s->users->starved;
}

bool users_wait(const struct sched *s, const struct user *but) {
    const struct user_heap *ready = &s->users->heaps[USERS_READY];
    return users_ready(s) || s->users->unknown || ready->count > 1 || (ready->count == 1 && ready->items[0] != but);
}

const struct user *user_waiting(const struct sched *s, unsigned i) {
    const struct user_heap *ready = &s->users->heaps[USERS_READY];
    return i < ready->count ? ready->items[i] : NULL;
}
