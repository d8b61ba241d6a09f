/* Jobs that wait for a slot: their users and their constraints. */
#include <stdlib.h>
#include <string.h>

#include "sched/jobs/job_files.h"
#include "sched/jobs/state.h"

#define PLACES_MAX 256 /* users looked at, those who are served next first */

void backlog_mark(struct sched *s, const struct job_row *r) {
    struct user *u = user_of(s, r->job.uid);
    s->stirred = true;
    if (u)
        wanted_queued(s, r->job.id, u);
    if (u && !job_is_stream(&r->job) && r->job.priority > u->urgent)
        u->urgent = r->job.priority;
    if (u)
        user_backlog(u, u->backlog || !*r->place, u->placed || *r->place);
    else
        users_look(s);
}

struct waiting_place {
    const struct user *user;
    char place[CONSTRAINT_MAX];
};

/* For the users who are served next. */
void backlog_look(struct sched *s) {
    const struct user *u;
    s->jobs->waiting_count = 0;
    if (!s->jobs->waiting_places)
        s->jobs->waiting_places = calloc(PLACES_MAX, sizeof *s->jobs->waiting_places);
    if (!s->jobs->waiting_places || users_backlog(s))
        return;
    for (unsigned i = 0; (u = user_waiting(s, i)) && s->jobs->waiting_count < PLACES_MAX; i++) {
        char place[CONSTRAINT_MAX] = "";
        while (u->placed && s->jobs->waiting_count < PLACES_MAX && store_ready_place(s->store, u->uid, place) == 0) {
            struct limit *limit = limit_of(s, place);
            if (!limit_has_room(limit) && !limit_is_leased(limit)) /* it needs no host's slot, but one of its group's */
                continue;
            struct waiting_place *w = &s->jobs->waiting_places[s->jobs->waiting_count++];
            w->user = u;
            strcpy(w->place, place);
        }
    }
}

/* A waiting stream takes no slot, but it is begun by a dispatch, and a dispatch needs a free slot. */
bool backlog_wants(const struct host *h) {
    struct sched *s = h->s;
    const struct user *only = users_backlog(s) && h->known && h->single ? user_of(s, h->only) : NULL;
    if (users_backlog(s))
        return only ? only->backlog : true;
    for (const struct waiting_place *w = s->jobs->waiting_places;
         w && w < s->jobs->waiting_places + s->jobs->waiting_count; w++)
        if (strcmp(w->place, CONSTRAINT_STREAM) == 0 ? s->ops->stream.has_room(s, w->user)
                                                     : host_fits(h, w->place, w->user->uid))
            return true;
    return false;
}
