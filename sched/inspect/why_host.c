/* Why no host takes a job: for one that fits none, and for one that waits for a slot. */
#include <stdio.h>
#include <string.h>

#include "sched/inspect/query.h"
#include "sched/inspect/why_host.h"
#include "sched/calls/stream_int.h"

static void constraint_text(struct sched *s, const struct job *j, char place[CONSTRAINT_MAX]) {
    struct job_row r = {.job = *j};
    if (submit_place(s, &r, place) < 0)
        place[0] = 0;
}

static const char *size_text(uint64_t bytes, char buf[32]) {
    double mib = (double)bytes / (1 << 20);
    snprintf(buf, 32, mib < 1024 ? "%.0f MiB" : "%.1f GiB", mib < 1024 ? mib : mib / 1024);
    return buf;
}

/* The host with the most memory among those that match p. */
static const struct host *roomiest(struct sched *s, const struct constraint *p) {
    const struct host *best = NULL;
    for (const struct host *h = host_local(s); h; h = h->next)
        if (!h->leaving && host_is(h, p) && (!best || h->memory > best->memory))
            best = h;
    return best;
}

/* Whether a node could run it except for its user. */
static bool is_barred(struct sched *s, const struct constraint *p, uid_t uid, char *buf, size_t size) {
    const struct host *other = NULL;
    for (const struct host *h = host_local(s); h; h = h->next) {
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

/* Leaves out the job's requirements one after another until a host fits. */
void why_aside(struct sched *s, const struct job *j, char *buf, size_t size) {
    char place[CONSTRAINT_MAX], wants[32], has[32];
    if (quota_why_never(s, j, buf, size))
        return;
    constraint_text(s, j, place);
    struct constraint p = constraint_parse(place);
    const char *where = p.pickles || *p.pattern ? " that it may run on" : "";
    unsigned most = host_largest(s, place, j->uid);
    if (most) {
        snprintf(buf, size, "needs %u slots, and no node%s has more than %u", j->cpus,
                 *place ? " that it may run on" : "", most);
        return;
    }
    if (is_barred(s, &p, j->uid, buf, size))
        return;
    const char *resources = p.resources;
    p.resources = NULL;
    const struct host *h = resources ? roomiest(s, &p) : NULL;
    if (h) {
        snprintf(buf, size, "needs %.*s, and no node%s has so many (ppfs and ppfs-node --resource)",
                 (int)strcspn(resources, ":"), resources, where);
        return;
    }
    uint64_t memory = p.memory;
    p.memory = 0;
    h = roomiest(s, &p);
    if (h) {
        snprintf(buf, size, "needs %s of memory, and no node%s has more than %s", size_text(memory, wants), where,
                 size_text(h->memory, has));
        return;
    }
    p.pickles = false;
    h = roomiest(s, &p);
    if (h)
        snprintf(buf, size, "it is a pickle of Python %s, and nodes/%s has %s, which would not understand it",
                 host_local(s)->python, h->name, *h->python ? h->python : "none yet");
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

/* Which of the resources that it asks for most is missing there. */
static void why_left(const struct host *h, const char *place, char *buf, size_t size) {
    char wants[32], has[32], used[32];
    struct constraint p = constraint_parse(place);
    if (p.resources && !host_has_resources(h, &p, OF_LEFT)) {
        size_t n = (size_t)snprintf(buf, size, "queued: waits for %.*s, and of what nodes/%s has are taken:",
                                    (int)strcspn(p.resources, ":"), p.resources, h->name);
        for (unsigned i = 0; i < h->resources.count && n < size; i++)
            n += (size_t)snprintf(buf + n, size - n, " %s %u of %u", h->resources.at[i].name, host_taken(h, i),
                                  h->resources.at[i].n);
        return;
    }
    if (host_has(h, &p)) {
        snprintf(buf, size, "queued: what is left on nodes/%s of what it asks for is kept for a job before it",
                 h->name);
        return;
    }
    snprintf(buf, size, "queued: waits for %s of memory; running work reserves %s of the %s that nodes/%s has",
             size_text(p.memory, wants), size_text(h->memory_used, used), size_text(h->memory, has), h->name);
}

/* As many of its group run as may. */
static bool why_limited(struct sched *s, const char *place, char *buf, size_t size) {
    struct limit_about full;
    char path[4096];
    if (!limit_full(limit_of(s, place), &full))
        return false;
    const struct job j = {.group = full.group, .name = ".options"};
    snprintf(buf, size, "queued: its group has %u running, and jobs/%.300s says max=%u", full.used,
             sched_path(s, &j, path, sizeof path) == 0 ? path : ".options", full.max);
    return true;
}

void why_queued(struct sched *s, const struct job *j, char *buf, size_t size) {
    char place[CONSTRAINT_MAX];
    const struct host *away = NULL, *drains = NULL, *foreign = NULL; /* the last would do but for its Python */
    const struct host *kept = NULL;                                  /* has room, but is reserved for another job */
    const struct host *empty = NULL;                                 /* the first that fits except for its cpus of 0 */
    const struct host *closed = NULL;                                /* does not take its user */
    const struct host *tight = NULL;                                 /* has slots, but not the rest */
    unsigned slots = 0, fitting = 0;
    const struct host *refuses = NULL; /* could not begin it */
    const char *refused = "";          /* why */
    bool barred;
    if (quota_why_queued(s, j, buf, size))
        return;
    constraint_text(s, j, place);
    if (why_limited(s, place, buf, size))
        return;
    struct constraint any_python = constraint_parse(place);
    any_python.pickles = false;
    for (const struct host *h = host_local(s); h; h = h->next) {
        if (!host_fits(h, place, j->uid)) {
            barred = !host_takes(h, j->uid);
            foreign = h->cpus && host_live(h) && !barred && host_is(h, &any_python) ? h : foreign;
            closed = barred && h->cpus && host_live(h) ? h : closed;
            continue;
        }
        fitting++;
        const char *says = host_refuses(h, j->uid);
        refuses = says ? h : refuses;
        refused = says ? says : refused;
        kept = h->reserved && h->kept_for != j->id && host_free(h) >= j->cpus ? h : kept;
        if (host_free(h) >= j->cpus && (!host_has(h, &any_python) || host_keeps(h, &any_python)))
            tight = h;
        if (host_live(h) && !h->cpus)
            empty = empty ? empty : h;
        else if (host_live(h))
            slots = h->cpus > slots ? h->cpus : slots;
        else if (host_drains(h))
            drains = h;
        else
            away = h;
    }
    struct demand d = {place, j->cpus, estimate_known(s, j), j->uid, ""};
    static const char *of_the_node[] = {" (ppfs-node --uids)", " (ppfs-node --root-jobs)"};
    const struct host *slower = slots ? host_choose(s, &d) : NULL;
    if (slower && estimate_waits(s, slower, d.function))
        snprintf(buf, size, "queued: nodes/%s has a free slot, but it ends sooner when it waits for a faster node",
                 slower->name);
    else if (refuses && !slower)
        snprintf(buf, size, "queued: nodes/%.100s could not begin it and is asked again in a while: %.280s",
                 refuses->name, refused);
    else if (slots && host_is_short(host_local(s)))
        snprintf(buf, size,
                 "queued: there cannot be more than %u workers here now (descriptors or processes are short, see the "
                 "log); waits for one of them",
                 host_local(s)->used);
    else if (kept && why_kept(s, j, kept, buf, size))
        return;
    else if (tight)
        why_left(tight, place, buf, size);
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
                 host_local(s)->python, foreign->name, *foreign->python ? foreign->python : "none yet");
    else if (closed)
        snprintf(buf, size, "queued: there is no slot for a job of user %u; nodes/%s runs none of his%s",
                 (unsigned)j->uid, closed->name, closed->single ? " (ppfs --node-user)" : of_the_node[j->uid == 0]);
    else
        snprintf(buf, size, "queued: there is no slot; echo 2 > nodes/%s/cpus makes two",
                 empty ? empty->name : "local");
}
