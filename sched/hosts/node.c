/* Nodes as nodes/ shows and sets them: each is a host (host.h). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/clock.h"
#include "net/printable.h"
#include "sched/streams/stream_int.h"

#define CPUS_MAX 4096u

const char *node_state_name(enum node_state s) {
    static const char *const names[] = {[NODE_UP] = "up", [NODE_DRAIN] = "drain", [NODE_DOWN] = "down"};
    return names[s];
}

/* --- looking ----------------------------------------------------------------------------------------------------- */

static enum node_state state_of(const struct host *h) {
    if (!h->runner.ops || (h->remote && !remote_linked(h->remote)))
        return NODE_DOWN;
    return host_drains(h) ? NODE_DRAIN : NODE_UP;
}

bool node_why_silent(const struct host *h, char *buf, size_t size) {
    unsigned quiet = h->remote ? remote_quiet_ms(h->remote) : 0, limit = h->s->c.silence_ms ? h->s->c.silence_ms : 5000;
    bool cut = h->remote && !remote_linked(h->remote);
    buf[0] = 0;
    if (quiet >= 1000 || (quiet && !cut))
        snprintf(buf, size, "nodes/%s has not been heard of for %.2g s; it is given up after %g s", h->name,
                 quiet / 1e3, limit / 1e3);
    else if (cut)
        snprintf(buf, size, "nodes/%s has lost its connection; it is given up when it is not heard of for %g s",
                 h->name, limit / 1e3);
    return quiet || cut;
}

static void why_of(const struct host *h, char *buf, size_t size) {
    int64_t pause = h->quiet_until - clock_us();
    if (!h->runner.ops)
        snprintf(buf, size, "%s", *h->why ? h->why : "it is dialled, and has not answered yet");
    else if (node_why_silent(h, buf, size))
        return;
    else if (h->crashes && pause > 0)
        snprintf(buf, size, "it was lost under its work, %u time%s in a row: it gets nothing for another %.0f s",
                 h->crashes, h->crashes == 1 ? "" : "s", (double)pause / 1e6);
    else if (h->crashes)
        snprintf(buf, size,
                 "it was lost under its work, %u time%s in a row: it gets one job at a time until it has finished one",
                 h->crashes, h->crashes == 1 ? "" : "s");
    else if (h->s->hosts->next && speed_doubted(h))
        snprintf(buf, size,
                 "work of %u kind%s fails here and, as far as is known, nowhere else: it gets one piece of that at a "
                 "time, until one succeeds",
                 speed_doubted(h), speed_doubted(h) == 1 ? "" : "s");
    else if (h->known && h->uid && h->uids.count && !node_uids_have(&h->uids, h->only))
        snprintf(
            buf, size,
            "it runs as user %u, not as root, and takes no jobs of user %u, which it would get (ppfs-node --uids), "
            "or it has begun with those of another ppfs's: it does one user's until it is started again",
            (unsigned)h->uid, (unsigned)h->only);
    else if (h->known && h->uid && h->s->owner == 0)
        snprintf(buf, size, "it runs as user %u, not as root: it gets jobs of user %u only", (unsigned)h->uid,
                 (unsigned)h->only);
    else if (h->known && h->single && !h->uid)
        snprintf(buf, size, "it gets jobs of user %u only (ppfs --node-user), though it says that it runs as root",
                 (unsigned)h->only);
    else if (h->known && !h->uid && h->s->owner == 0 && !host_takes(h, 0))
        snprintf(buf, size, "it runs nothing of root (ppfs-node --root-jobs)");
    else if (*h->python && !host_pickles(h))
        snprintf(buf, size,
                 "its Python is %s, and here it is %s: it gets scripts, programs, JSON and source, but no pickles",
                 h->python, h->s->hosts->python);
}

/* The slots of leases that have no call under way are free for whoever wants them. */
static void describe(const struct host *h, struct node *out) {
    *out = (struct node){.state = state_of(h),
                         .cpus = h->cpus,
                         .running = h->used - h->idle,
                         .done = h->done,
                         .failed = h->failed,
                         .seconds = (double)h->run_us / 1e6};
    out->seen = h->pool ? clock_wall_us() : h->remote ? remote_seen_us(h->remote) : h->seen;
    out->pickles = host_pickles(h);
    snprintf(out->name, sizeof out->name, "%s", h->name);
    snprintf(out->python, sizeof out->python, "%s", h->python);
    why_of(h, out->why, sizeof out->why);
    snprintf(out->address, sizeof out->address, "%s", h->pool ? "local" : *h->address ? h->address : h->name);
    printable(out->python, sizeof out->python);
    printable(out->why, sizeof out->why);
    printable(out->address, sizeof out->address);
}

int sched_node(struct sched *s, uint64_t id, struct node *out) {
    const struct host *h = host_by_id(s, id);
    if (!h || h->leaving)
        return -ENOENT;
    describe(h, out);
    return 0;
}

uint64_t sched_node_id(const char *name) {
    return host_id(name);
}

int sched_find_node(struct sched *s, const char *name, uint64_t *id) {
    const struct host *h = host_find(s, name);
    if (!h)
        return -ENOENT;
    *id = h->id;
    return 0;
}

void sched_page_nodes(struct sched *s, uint64_t after, bool (*each)(void *, const char *, uint64_t), void *arg) {
    for (const struct host *h; (h = host_behind(s, after)); after = h->id)
        if (!h->leaving && !each(arg, h->name, h->id))
            return;
}

int sched_list_nodes(struct sched *s, bool (*each)(void *, const struct node *), void *arg) {
    bool go_on = true;
    for (struct host *h = s->hosts; h && go_on; h = h->next, s->steps++) {
        struct node n;
        if (h->leaving)
            continue;
        describe(h, &n);
        go_on = each(arg, &n);
    }
    return 0;
}

const char *sched_node_of(struct sched *s, const struct job *j) {
    (void)s;
    return *j->node ? j->node : j->attempt ? "local" : "";
}

/* --- setting ----------------------------------------------------------------------------------------------------- */

static int save(struct sched *s, const struct host *h) {
    if (h->pool) {
        int rc = store_meta_set(s->store, "cpus", h->cpus);
        return sched_check(s, rc < 0 ? rc : store_meta_set(s->store, "node_state", h->state));
    }
    return h->dialled ? sched_check(s, store_node_put(s->store, h->name, h->state, h->wish)) : 0;
}

int sched_set_cpus(struct sched *s, const char *node, unsigned cpus) {
    struct host *h = host_find(s, node);
    if (!h || cpus > CPUS_MAX)
        return h ? -EINVAL : -ENOENT;
    unsigned before = h->cpus;
    int wish = h->wish;
    h->wish = (int)cpus;
    if (h->pool)
        h->cpus = cpus;
    int rc = save(s, h);
    if (rc < 0) {
        h->cpus = before;
        h->wish = wish;
        return rc;
    }
    h->tell = s->telling = true;
    host_changed(h);
    return 0;
}

int sched_set_node_state(struct sched *s, const char *node, enum node_state state) {
    struct host *h = host_find(s, node);
    if (!h || state == NODE_DOWN)
        return h ? -EINVAL : -ENOENT;
    enum node_state before = h->state;
    h->state = state;
    int rc = save(s, h);
    if (rc < 0)
        h->state = before;
    host_room(h);
    s->drained = true;
    sched_tick(s);
    return rc;
}

/* --- why nobody takes a job -------------------------------------------------------------------------------------- */

static void place_text(struct sched *s, const struct job *j, char place[PLACE_MAX]) {
    struct job_row r = {.job = *j};
    if (submit_place(s, &r, place) < 0)
        place[0] = 0;
}

static const char *size_text(uint64_t bytes, char buf[32]) {
    double mib = (double)bytes / (1 << 20);
    snprintf(buf, 32, mib < 1024 ? "%.0f MiB" : "%.1f GiB", mib < 1024 ? mib : mib / 1024);
    return buf;
}

/* Of those that are p the one with the most memory. */
static const struct host *roomiest(struct sched *s, const struct place *p) {
    const struct host *best = NULL;
    for (const struct host *h = s->hosts; h; h = h->next)
        if (!h->leaving && host_is(h, p) && (!best || h->memory > best->memory))
            best = h;
    return best;
}

/* There is a node that it could run on, but for its user. */
static bool is_barred(struct sched *s, const struct place *p, uid_t uid, char *buf, size_t size) {
    const struct host *other = NULL;
    for (const struct host *h = s->hosts; h; h = h->next) {
        if (h->leaving || !host_is(h, p))
            continue;
        if (host_takes(h, uid))
            return false;
        other = h;
    }
    if (other && other->single)
        snprintf(buf, size,
                 "nodes/%s gets jobs of user %u only, and there is no other node for it (ppfs "
                 "--node-user %s=%u)",
                 other->name, (unsigned)other->only, other->name, (unsigned)uid);
    else if (other)
        snprintf(buf, size, "nodes/%s runs nothing of user %u, and there is no other node for it (ppfs-node %s)",
                 other->name, (unsigned)uid, uid ? "--uids" : "--root-jobs");
    return other;
}

/* What a job asks for is left out, one after the other, until there is a host. */
void node_why_aside(struct sched *s, const struct job *j, char *buf, size_t size) {
    char place[PLACE_MAX], wants[32], has[32];
    if (quota_why_never(s, j, buf, size))
        return;
    place_text(s, j, place);
    struct place p = place_parse(place);
    const char *where = p.pickles || *p.pattern ? " that it may run on" : "";
    unsigned most = host_largest(s, place, j->uid);
    if (most) {
        snprintf(buf, size, "needs %u slots, and no node%s has more than %u", j->cpus,
                 *place ? " that it may run on" : "", most);
        return;
    }
    if (is_barred(s, &p, j->uid, buf, size))
        return;
    uint64_t memory = p.memory;
    p.memory = 0;
    const struct host *h = roomiest(s, &p);
    if (h) {
        snprintf(buf, size, "needs %s of memory, and no node%s has more than %s", size_text(memory, wants), where,
                 size_text(h->memory, has));
        return;
    }
    p.pickles = false;
    h = roomiest(s, &p);
    if (h)
        snprintf(buf, size, "it is a pickle of Python %s, and nodes/%s has %s, which would not understand it",
                 s->hosts->python, h->name, *h->python ? h->python : "none yet");
    else
        snprintf(buf, size, "no node has a name that its option node=%s asks for", p.pattern);
}

static bool why_kept(struct sched *s, const struct job *j, const struct host *h, char *buf, size_t size) {
    struct job_row r;
    char path[4096];
    if (store_job_get(s->store, h->kept_for, &r) < 0 || r.job.state != JOB_QUEUED ||
        sched_path(s, &r.job, path, sizeof path) < 0)
        return false;
    if (r.job.uid != j->uid && !group_may_reach(s, r.job.group, j->uid, j->gid))
        strcpy(path, "another user's job");
    snprintf(buf, size,
             "queued: nodes/%.100s keeps %u of its slots for %.200s, which is before it and needs %u; only jobs that "
             "surely end before that can start, by timeout= or run times, pass it",
             h->name, host_free(h), path, r.job.cpus);
    return true;
}

void node_why_queued(struct sched *s, const struct job *j, char *buf, size_t size) {
    char place[PLACE_MAX];
    const struct host *away = NULL, *drains = NULL, *foreign = NULL; /* the last would do but for its Python */
    const struct host *kept = NULL;                                  /* has room, for another job */
    const struct host *empty = NULL;                                 /* the first that would do but for its cpus of 0 */
    const struct host *closed = NULL;                                /* does not take its user */
    unsigned slots = 0, fitting = 0;
    bool barred;
    if (quota_why_queued(s, j, buf, size))
        return;
    place_text(s, j, place);
    struct place any_python = place_parse(place);
    any_python.pickles = false;
    for (const struct host *h = s->hosts; h; h = h->next) {
        if (!host_fits(h, place, j->uid)) {
            barred = !host_takes(h, j->uid);
            foreign = h->cpus && host_live(h) && !barred && host_is(h, &any_python) ? h : foreign;
            closed = barred && h->cpus && host_live(h) ? h : closed;
            continue;
        }
        fitting++;
        kept = h->reserved && h->kept_for != j->id && host_free(h) >= j->cpus ? h : kept;
        if (host_live(h) && !h->cpus)
            empty = empty ? empty : h;
        else if (host_live(h))
            slots = h->cpus > slots ? h->cpus : slots;
        else if (host_drains(h))
            drains = h;
        else
            away = h;
    }
    struct demand d = {place, j->cpus, speed_known(s, j), j->uid, ""};
    const struct host *slower = slots ? host_choose(s, &d) : NULL;
    if (slower && speed_waits(s, slower, d.function))
        snprintf(buf, size, "queued: nodes/%s has a free slot, but it ends sooner when it waits for a faster node",
                 slower->name);
    else if (slots && host_is_short(s->hosts))
        snprintf(buf, size,
                 "queued: there cannot be more than %u workers here now (descriptors or processes are short, see the "
                 "log); waits for one of them",
                 s->hosts->used);
    else if (kept && why_kept(s, j, kept, buf, size))
        return;
    else if (slots)
        snprintf(buf, size, "queued: waits for %u of %u slots to be free", j->cpus, slots);
    else if (away)
        snprintf(buf, size, "queued: nodes/%s is away%s%s", away->name, *away->why ? ": " : "", away->why);
    else if (drains && fitting == 1)
        snprintf(buf, size, "queued: nodes/%s drains, and there is no other node for it", drains->name);
    else if (drains)
        snprintf(buf, size, "queued: all nodes that it may run on drain");
    else if (foreign)
        snprintf(buf, size,
                 "queued: there is no slot for a pickle of Python %s; nodes/%s has %s, which would not understand it",
                 s->hosts->python, foreign->name, *foreign->python ? foreign->python : "none yet");
    else if (closed)
        snprintf(buf, size, "queued: there is no slot for a job of user %u; nodes/%s runs none of his%s",
                 (unsigned)j->uid, closed->name,
                 closed->single ? " (ppfs --node-user)"
                 : j->uid       ? " (ppfs-node --uids)"
                                : " (ppfs-node --root-jobs)");
    else
        snprintf(buf, size, "queued: there is no slot; echo 2 > nodes/%s/cpus makes two",
                 empty ? empty->name : "local");
}
