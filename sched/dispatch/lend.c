/* See lend.h. Looked at only when somebody waits for a slot, each client once. Such clients are on this machine. */
#include "sched/dispatch/lend.h"

#include <errno.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>

#include "net/clock.h"
#include "sched/leases/lease_int.h"
#include "sched/dispatch/state.h"

int dispatch_make(struct sched *s) {
    s->dispatch = calloc(1, sizeof *s->dispatch);
    if (s->dispatch)
        TAILQ_INIT(&s->dispatch->fresh);
    return s->dispatch ? 0 : -ENOMEM;
}

void dispatch_free(struct sched *s) {
    if (!s->dispatch)
        return;
    tdestroy(s->dispatch->parked, free);
    free(s->dispatch);
}

/* --- clients ----------------------------------------------------------------------------------------------------- */

static struct parked *find(struct sched *s, uint64_t request) {
    struct parked **found = tfind(&request, &s->dispatch->parked, ids_compare);
    return found ? *found : NULL;
}

static void refuse(struct sched *s, const struct parked *p, uint64_t job, const struct user *u) {
    char who[32];
    snprintf(who, sizeof who, "user %u", (unsigned)u->uid);
    sched_log_about(s, who, NULL,
                    "%u job%s of user %u wait%s for others, and he may have no more such jobs: one is refused what it "
                    "would wait for (EDEADLK)",
                    u->lent, u->lent == 1 ? "" : "s", (unsigned)u->uid, u->lent == 1 ? "s" : "");
    struct run *r = run_find(s, job);
    if (r)
        r->refused = true;
    s->c.refused(s->c.arg, p->on, p->request, -EDEADLK);
}

/* Its job lends its slot, if it has one that runs, and may. */
static void look(struct sched *s, struct parked *p) {
    uint64_t job = pool_job_of(host_local(s)->pool, p->pid);
    struct run *r = job ? run_find(s, job) : NULL;
    struct lease *l = job && !r ? lease_find(s, job) : NULL;
    struct user *u = l ? l->user : NULL;
    if (r && r->state == RUN_RUNNING)
        u = r->user;
    if (!u)
        return;
    if (!(r ? r->use.lent : l->lent) && u->lent >= lend_most(u, host_local(s)->cpus)) {
        refuse(s, p, job, u);
        return;
    }
    p->job = job;
    if (r) {
        p->attempt = r->attempt;
        r->waits++;
        run_lend(r, true);
    } else {
        l->waits++;
        lease_lend(s, job, true);
    }
    p->want = wanted_add(s, p->on);
}

/* The newest first: what they wait for is what others wait for in the end. */
void lend_turn(struct sched *s) {
    int64_t until = clock_us() + s->slice_us;
    struct parked *p;
    while ((p = TAILQ_FIRST(&s->dispatch->fresh))) {
        TAILQ_REMOVE(&s->dispatch->fresh, p, fresh);
        p->looked = true;
        s->steps++;
        look(s, p);
        if (clock_us() >= until)
            break;
    }
    if (!TAILQ_EMPTY(&s->dispatch->fresh))
        sched_tick(s);
}

void lend_later(struct sched *s) {
    if (!TAILQ_EMPTY(&s->dispatch->fresh))
        sched_tick(s);
}

/* The last request of that job that waited has its answer, or waits no longer. */
static void take_back(struct sched *s, const struct parked *p) {
    struct run *r = run_find(s, p->job);
    struct lease *l = r ? NULL : lease_find(s, p->job);
    if (r && r->attempt == p->attempt && --r->waits == 0)
        run_lend(r, false);
    else if (l && --l->waits == 0)
        lease_lend(s, p->job, false);
}

void sched_blocked(struct sched *s, pid_t pid, uint64_t request, uint64_t on) {
    struct parked *p = calloc(1, sizeof *p);
    if (!p)
        return; /* its slot is then not lent out */
    *p = (struct parked){.request = request, .pid = pid, .on = on};
    struct parked **at = tsearch(&p->request, &s->dispatch->parked, ids_compare);
    if (!at || *at != p) {
        free(p);
        return;
    }
    TAILQ_INSERT_HEAD(&s->dispatch->fresh, p, fresh);
    if (users_ready(s) || stream_first(s))
        sched_tick(s);
}

void sched_waits_on(struct sched *s, uint64_t request, uint64_t job) {
    struct parked *p = find(s, request);
    if (!p || p->on == job)
        return;
    p->on = job;
    if (p->want) {
        wanted_drop(s, p->want);
        p->want = wanted_add(s, job);
    }
}

void sched_unblocked(struct sched *s, uint64_t request) {
    struct parked *p = find(s, request);
    if (!p)
        return;
    if (!p->looked)
        TAILQ_REMOVE(&s->dispatch->fresh, p, fresh);
    wanted_drop(s, p->want);
    if (p->job)
        take_back(s, p);
    tdelete(&request, &s->dispatch->parked, ids_compare);
    free(p);
}
