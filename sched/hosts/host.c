/* Hosts, and the choice among them for a job. */
#include "sched/hosts/host.h"

#include <errno.h>
#include <fnmatch.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/clock.h"
#include "net/event.h"
#include "net/printable.h"
#include "net/states.h"
#include "sched/hosts/hosts.h"
#include "sched/hosts/state.h"
#include "sched/users/limit.h"
#include "sched/watch/watch.h"

#define QUIET_MAX 64    /* seconds, the longest rest of a node that was lost with work */
#define REFUSALS_MAX 6  /* after so many times in a row the pause grows no more: 32 seconds */
#define SHORT_US 500000 /* rest of a host that could not fill its slots */
#define LOAD_US 1000.0  /* a full host counts as so much farther away than an idle one */

/* --- places ------------------------------------------------------------------------------------------------------ */

/* "3.11" of "3.11.2" */
static size_t minor_version(const char *python) {
    size_t major = strspn(python, "0123456789");
    size_t minor = python[major] == '.' ? strspn(python + major + 1, "0123456789") : 0;
    return minor ? major + 1 + minor : 0;
}

bool host_pickles(const struct host *h) {
    const char *ours = h->s->hosts->all->python;
    size_t n = minor_version(ours);
    return h->pool || (n && n == minor_version(h->python) && strncmp(ours, h->python, n) == 0);
}

bool host_is(const struct host *h, const struct constraint *p) {
    if ((p->pickles && !host_pickles(h)) || (h->memory && h->memory < p->memory) ||
        (p->resources && !host_has_resources(h, p, OF_ALL)))
        return false;
    return !*p->pattern || fnmatch(p->pattern, h->name, 0) == 0 || (*h->alias && fnmatch(p->pattern, h->alias, 0) == 0);
}

/* Whether name is base-N, the name of another node that calls itself base; long names are cut before -N. */
static bool is_numbered(const char *name, const char *base) {
    size_t size = strlen(base) < NODE_NAME_BASE ? strlen(base) : NODE_NAME_BASE;
    if (strncmp(name, base, size) != 0)
        return false;
    const char *number = name + size;
    for (name = number; *name == '-' && name[1] >= '0' && name[1] <= '9';)
        name += 1 + strspn(name + 1, "0123456789");
    return !*name && name > number;
}

void host_set_user(struct host *h) {
    char name[256];
    unsigned uid;

    h->single = h->uid != 0;
    h->only = h->s->owner;
    bool bound = false;
    for (const char *at = h->s->c.node_users; at && *at; at += strcspn(at, "\n"), at += *at == '\n') {
        if (sscanf(at, "%255[^=\n]=%u", name, &uid) != 2)
            continue;
        bool its = strcmp(name, h->name) == 0 || strcmp(name, h->alias) == 0;
        if (!its && (bound || (!is_numbered(h->name, name) && !is_numbered(h->alias, name))))
            continue;
        bound = h->single = true;
        h->only = uid;
        if (its)
            return;
    }
}

bool host_takes(const struct host *h, uid_t uid) {
    if (!h->known)
        return true;
    if (h->single && uid != h->only) /* without privileges it runs all work as one user */
        return false;
    return node_uids_have(&h->uids, uid) || (h->uid && !h->uids.count);
}

bool host_fits(const struct host *h, const char *place, uid_t uid) {
    if (!host_takes(h, uid))
        return false;
    if (!*limit_skip(place))
        return true;
    struct constraint p = constraint_parse(place);
    return host_is(h, &p);
}

/* --- slots ------------------------------------------------------------------------------------------------------- */

bool host_drains(const struct host *h) {
    return h->state != NODE_UP || h->leaving || (h->remote && remote_about(h->remote)->draining);
}

bool host_live(const struct host *h) {
    return h->runner.ops && !host_drains(h) && (!h->remote || remote_linked(h->remote));
}

/* --- states: what follows from the above, for the trace ---------------------------------------------------------- */

enum { STATE_AWAY, STATE_UP, STATE_DRAINS, STATE_LEAVES, STATES };
#define TO(s) (1u << STATE_##s)
static const struct state table[STATES] = {
    [STATE_AWAY] = {"away", TO(UP) | TO(DRAINS) | TO(LEAVES)},
    [STATE_UP] = {"up", TO(AWAY) | TO(DRAINS) | TO(LEAVES)},
    [STATE_DRAINS] = {"drains", TO(AWAY) | TO(UP) | TO(LEAVES)},
    [STATE_LEAVES] = {"leaves", TO(AWAY) | TO(UP) | TO(DRAINS)}, /* it comes back before it has gone */
};
static const struct states host_states = {"host", table, STATES};

void host_trace(struct host *h) {
    unsigned state = host_drains(h) ? STATE_DRAINS : STATE_UP;
    if (h->leaving)
        state = STATE_LEAVES;
    else if (!h->runner.ops)
        state = STATE_AWAY;
    bool up = state == STATE_UP || state == STATE_DRAINS,
         was_up = h->state_told == STATE_UP || h->state_told == STATE_DRAINS;
    if (up && was_up && h->cpus != h->slots_told)
        watch_node(h->s, EVENT_SLOTS, h->name, h->cpus, "");
    h->slots_told = h->cpus;
    if (state == h->state_told)
        return;
    states_changed(&host_states, h->order, h->name, h->state_told, state);
    h->state_told = state;
    if (up)
        watch_node(h->s, state == STATE_UP ? EVENT_NODE_UP : EVENT_NODE_DRAINS, h->name, h->cpus, "");
    else if (was_up)
        watch_node(h->s, EVENT_NODE_DOWN, h->name, 0, h->why);
}

/* --- nodes that die ---------------------------------------------------------------------------------------------- */

void host_worked(struct host *h) {
    h->crashes = 0;
    h->lost_work = false;
    host_room(h);
}

void host_wake_in(struct sched *s, int64_t us) {
    struct timeval in = {us / 1000000, us % 1000000};
    int64_t at = clock_us() + us;
    if (evtimer_pending(s->hosts->wake, NULL) && at >= s->hosts->wake_at)
        return;
    s->hosts->wake_at = at;
    evtimer_add(s->hosts->wake, &in);
}

/* Rested hosts may have work again; a timer waits for the next one. */
static void wake_rested(struct sched *s) {
    int64_t first = 0, now = clock_us();
    for (struct host *h = LIST_FIRST(&s->hosts->resting), *next; h; h = next, s->steps++) {
        int64_t until = h->quiet_until > now ? h->quiet_until : 0;
        next = LIST_NEXT(h, resting);
        if (h->short_until > now && (!until || h->short_until < until))
            until = h->short_until;
        first = until && (!first || until < first) ? until : first;
        if (until)
            continue;
        LIST_REMOVE(h, resting);
        h->is_resting = false;
        host_room(h);
    }
    if (first)
        host_wake_in(s, first - now);
}

static void rest(struct host *h) {
    if (!h->is_resting)
        LIST_INSERT_HEAD(&h->s->hosts->resting, h, resting);
    h->is_resting = true;
    wake_rested(h->s);
}

static void wake(evutil_socket_t fd, short what, void *arg) {
    struct sched *s = arg;
    s->stirred = true;
    wake_rested(s); /* the turn that follows every event gives out work */
}

void host_crashed(struct host *h) {
    if (!h->lost_work)
        return;
    int64_t pause = h->crashes < 6 ? 1 << h->crashes : QUIET_MAX;
    h->crashes++;
    h->lost_work = false;
    h->quiet_until = clock_us() + pause * 1000000;
    rest(h);
}

/* --- free slots and the choice ----------------------------------------------------------------------------------- */

void host_short(struct host *h) {
    h->short_until = clock_us() + SHORT_US;
    h->short_used = h->used;
    rest(h);
}

/* His place in refusals, or REFUSED_USERS. */
static unsigned refusal_of(const struct host *h, uid_t uid) {
    unsigned i = 0;
    while (i < REFUSED_USERS && !(h->refusals[i].times && h->refusals[i].uid == uid))
        i++;
    return i;
}

/* One more: NULL, if it refuses as many users as can be told apart. */
static struct refusal *refusal_new(struct host *h, uid_t uid) {
    for (struct refusal *r = h->refusals; r < h->refusals + REFUSED_USERS; r++)
        if (!r->times || clock_us() >= r->until) {
            *r = (struct refusal){.uid = uid};
            return r;
        }
    return NULL;
}

/* A node that gives back again and again what it has not begun is not asked all the time; where that is for its user,
 * it is asked for others, and for him less and less often. */
void host_gave_back(struct host *h, uid_t uid, const struct work_outcome *o) {
    unsigned at = refusal_of(h, uid);
    struct refusal *r = at < REFUSED_USERS ? &h->refusals[at] : NULL;
    if (o->end != WORK_LOST && r)
        r->times = 0;
    if (!o->unbegun || (!o->no_room && h->pool))
        return;
    if (!o->no_room && *o->why && !r)
        r = refusal_new(h, uid);
    if (o->no_room || !*o->why || !r) {
        host_short(h);
        return;
    }
    int64_t pause = (int64_t)SHORT_US << r->times;
    r->times += r->times < REFUSALS_MAX;
    r->until = clock_us() + pause;
    snprintf(r->why, sizeof r->why, "%.255s", o->why);
    printable(r->why, sizeof r->why);
    host_wake_in(h->s, pause);
}

const char *host_refuses(const struct host *h, uid_t uid) {
    unsigned at = refusal_of(h, uid);
    return at < REFUSED_USERS && clock_us() < h->refusals[at].until ? h->refusals[at].why : NULL;
}

bool host_is_short(const struct host *h) {
    return h->short_used < h->cpus + h->lent && clock_us() < h->short_until;
}

unsigned host_free(const struct host *h) {
    unsigned total = host_is_short(h) ? h->short_used : h->cpus + h->lent;
    if (h->used >= total || !host_live(h))
        return 0;
    if (h->crashes) /* its work may be lost again */
        return h->used || clock_us() < h->quiet_until ? 0 : total;
    return total - h->used;
}

unsigned host_free_now(const struct host *h) {
    return h->reserved ? 0 : host_free(h);
}

bool host_any_free(struct sched *s) {
    for (struct host *h = TAILQ_FIRST(&s->hosts->roomy), *next; h; h = next, s->steps++) {
        next = TAILQ_NEXT(h, room);
        if (host_free_now(h))
            return true;
        if (host_free(h)) /* reserved for a job that needs more */
            continue;
        TAILQ_REMOVE(&s->hosts->roomy, h, room);
        h->is_roomy = false;
    }
    return false;
}

void host_room(struct host *h) {
    h->s->stirred = true;
    if (!h->is_roomy)
        TAILQ_INSERT_TAIL(&h->s->hosts->roomy, h, room);
    h->is_roomy = true;
}

static void untouch(struct host *h) {
    if (h->is_touched)
        LIST_REMOVE(h, touch);
    h->is_touched = false;
}

void host_unlist(struct host *h) {
    estimate_forget(h);
    untouch(h);
    if (h->is_fresh)
        LIST_REMOVE(h, fresh);
    if (h->is_roomy)
        TAILQ_REMOVE(&h->s->hosts->roomy, h, room);
    if (h->is_resting)
        LIST_REMOVE(h, resting);
    if (h->reserved)
        LIST_REMOVE(h, kept);
}

void host_count(struct host *h, unsigned done, unsigned failed, int64_t us) {
    if (!h->is_fresh)
        LIST_INSERT_HEAD(&h->s->hosts->fresh, h, fresh);
    h->is_fresh = true;
    h->fresh_done += done;
    h->fresh_failed += failed;
    h->fresh_us += us;
}

void host_counted(struct sched *s, bool committed) {
    for (struct host *h; (h = LIST_FIRST(&s->hosts->fresh));) {
        LIST_REMOVE(h, fresh);
        h->is_fresh = false;
        h->done += committed ? h->fresh_done : 0;
        h->failed += committed ? h->fresh_failed : 0;
        h->run_us += committed ? h->fresh_us : 0;
        h->fresh_done = h->fresh_failed = 0;
        h->fresh_us = 0;
    }
}

void host_touch(struct host *h) {
    if (!h->is_touched)
        LIST_INSERT_HEAD(&h->s->hosts->touched, h, touch);
    h->is_touched = true;
}

void hosts_flush(struct sched *s) {
    for (struct host *h; (h = LIST_FIRST(&s->hosts->touched));) {
        untouch(h);
        if (h->runner.ops)
            runner_flush(h->runner);
    }
}

bool hosts_drained(struct sched *s) {
    bool drained = s->hosts->drained;
    s->hosts->drained = false;
    return drained;
}

double host_way_us(const struct host *h) {
    return h->remote ? (double)remote_rtt_us(h->remote) : 0;
}

/* The expected delay on a host: its round trip, its load, and how much longer the function runs there. */
double host_cost(const struct host *h, unsigned function) {
    return host_way_us(h) + LOAD_US * (double)h->used / (double)(h->cpus + h->lent) + estimate_excess(h, function);
}

bool host_doubts(const struct host *h, const struct demand *d) {
    return estimate_doubts(h, d->function) && host_another(h->s, d, h);
}

bool host_lacks(struct host *h, const struct demand *d, unsigned before, const char *why, size_t size) {
    char module[WORK_MODULE];
    if (!d->function || !work_lacks(why, size, module))
        return false;
    memcpy(h->lacks, module, sizeof h->lacks);
    h->lacks_of = d->uid;
    estimate_lacks(h, d->function);
    return before < h->s->hosts->count && estimate_elsewhere(h->s, d->function) && host_doubts(h, d);
}

bool host_shuns(struct host *h, const struct demand *d) {
    if (host_refuses(h, d->uid))
        return true;
    if (!estimate_shuns(h, d->function) || !host_another(h->s, d, h))
        return false;
    host_wake_in(h->s, h->took[d->function].until - clock_us());
    return true;
}

struct host *host_choose(struct sched *s, const struct demand *d) {
    struct host *best = NULL;
    double least = 0;
    struct host *h;
    TAILQ_FOREACH(h, &s->hosts->roomy, room) {
        s->steps++;
        if (host_free_now(h) < d->cpus || !host_fits(h, d->place, d->uid) || !host_has_left(h, d->place))
            continue;
        if (*d->avoid && strcmp(h->name, d->avoid) == 0 && host_another(s, d, h))
            continue;
        if (host_shuns(h, d))
            continue;
        double c = host_cost(h, d->function);
        if (!best || c < least || (c == least && h->order < best->order)) {
            best = h;
            least = c;
        }
    }
    return best;
}

unsigned host_largest(struct sched *s, const char *place, uid_t uid) {
    unsigned most = 0;
    for (struct host *h = s->hosts->all; h; h = h->next) {
        unsigned cpus = h->cpus ? h->cpus : 1; /* without slots: queued until there is one */
        if (!h->leaving && cpus > most && host_fits(h, place, uid))
            most = cpus;
    }
    return most;
}

bool host_could(struct sched *s, const char *place, uid_t uid, unsigned cpus) {
    for (struct host *h = s->hosts->all; h; h = h->next, s->steps++)
        if (!h->leaving && (h->cpus ? h->cpus : 1) >= cpus && host_fits(h, place, uid))
            return true;
    return false;
}

void host_resize(struct host *h) {
    host_room(h);
    h->told = h->wish;
    if (h->pool)
        runner_resize(h->runner, h->cpus + h->lent);
    else if (h->remote && h->wish >= 0)
        runner_resize(h->runner, (unsigned)h->wish);
}

void host_changed(struct host *h) {
    h->s->placing = h->s->placing_more = true;
    h->s->placing_round++;
    host_room(h);
    sched_tick(h->s);
}

/* --- all of them -------------------------------------------------------------------------------------------------- */

void host_destroy_all(struct sched *s) {
    if (!s->hosts)
        return;
    registry_destroy(s->hosts->registry);
    s->hosts->registry = NULL;
    for (struct host *h = s->hosts->all; h; h = h->next) {
        pool_destroy(h->pool);
        h->pool = NULL;
        h->remote = NULL;
        h->runner = (struct runner){0};
    }
}

int hosts_make(struct sched *s) {
    s->hosts = calloc(1, sizeof *s->hosts);
    if (!s->hosts)
        return -ENOMEM;
    TAILQ_INIT(&s->hosts->roomy);
    TAILQ_INIT(&s->hosts->lost);
    s->hosts->wake = evtimer_new(s->c.base, wake, s);
    return s->hosts->wake ? 0 : -ENOMEM;
}

void hosts_free(struct sched *s) {
    if (!s->hosts)
        return;
    for (struct host *h; (h = s->hosts->all);) {
        s->hosts->all = h->next;
        free(h);
    }
    host_picks_free(s);
    event_drop(s->hosts->wake);
    free(s->hosts->by_id);
    free(s->hosts);
}

struct host *host_local(const struct sched *s) {
    return s->hosts->all;
}
