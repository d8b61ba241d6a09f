/* See wanted.h. */
#include "sched/users/wanted.h"

#include <search.h>
#include <stdlib.h>

#include "sched/users/user.h"
#include "sched/users/state.h"

/* All users together may lend less than so many slots ... */
#define LENT_MIN 512u
#define LENT_SLOT 16u /* ... or so many for each that there is, whichever is more */

/* --- how many ---------------------------------------------------------------------------------------------------- */

void lend_count(struct user *u, bool lend) {
    u->lent += lend ? 1u : -1u;
    u->s->users->lent += lend ? 1u : -1u;
}

/* Half of what others leave, so that a new user finds some, and all together never use all. */
int64_t lend_most(const struct user *u, unsigned slots) {
    const struct sched *s = u->s;
    unsigned all = slots > LENT_MIN / LENT_SLOT ? slots * LENT_SLOT : LENT_MIN;
    unsigned others = s->users->lent - u->lent;
    int64_t share = others < all ? (all - others) / 2 : 0;
    return share < u->quota.waits ? share : u->quota.waits;
}

bool lend_crowded(const struct user *u, unsigned slots) {
    return u->lent && u->lent >= lend_most(u, slots) / 2;
}

/* --- what is waited for ------------------------------------------------------------------------------------------ */

void wanted_unlist(struct want *w) {
    if (w->listed)
        TAILQ_REMOVE(&w->user->wanted, w, mates);
    w->listed = false;
}

void wanted_pass(struct want *w) {
    TAILQ_REMOVE(&w->user->wanted, w, mates);
    TAILQ_INSERT_TAIL(&w->user->wanted, w, mates);
}

static void list(struct want *w, struct user *u) {
    wanted_unlist(w);
    w->user = u;
    w->listed = true;
    TAILQ_INSERT_HEAD(&u->wanted, w, mates);
}

void wanted_queued(struct sched *s, uint64_t job, struct user *u) {
    struct want **found = s->users->wants ? tfind(&job, &s->users->wants, ids_compare) : NULL;
    if (found && (!(*found)->listed || (*found)->user != u))
        list(*found, u);
}

struct want *wanted_add(struct sched *s, uint64_t job) {
    uid_t uid;
    struct want **found = tfind(&job, &s->users->wants, ids_compare);
    struct user *u = store_owner(s->store, job, &uid) == 0 ? user_of(s, uid) : NULL;
    struct want *w = found ? *found : NULL;
    if (!found && u)
        w = calloc(1, sizeof *w);
    if (!w)
        return NULL;
    if (!found) {
        w->job = job;
        if (!tsearch(&w->job, &s->users->wants, ids_compare)) {
            free(w);
            return NULL;
        }
    }
    w->waiters++;
    if (u)
        list(w, u);
    return w;
}

void wanted_drop(struct sched *s, struct want *w) {
    if (!w || --w->waiters)
        return;
    wanted_unlist(w);
    tdelete(&w->job, &s->users->wants, ids_compare);
    free(w);
}
