#include "fs/tree/events.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "fs/tree/json.h"
#include "net/clock.h"

#define A_TURN 4096         /* events that are looked at for one read ... */
#define A_QUERY 64          /* ... of which this many are as dear as what is asked of a group */
#define AT_ONCE (64u << 10) /* bytes of events for which no reader pauses */

/* --- the text ---------------------------------------------------------------------------------------------------- */

struct groups { /* what was asked of the group of the last event */
    bool known, reaches, inside;
    uint64_t group;
    char path[4096]; /* with its slash; "": the top, or it has gone */
};

static void put_time(FILE *out, int64_t us) {
    time_t seconds = us / 1000000;
    struct tm t;
    char text[32];
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", gmtime_r(&seconds, &t));
    fprintf(out, "{\"v\": 1, \"time\": \"%s.%06dZ\", \"event\": ", text, (int)(us % 1000000));
}

static void put_text(FILE *out, const char *key, const char *text) {
    fprintf(out, ", \"%s\": ", key);
    json_put(out, text);
}

static void put_event(FILE *out, const struct event *e, const struct groups *g) {
    char path[sizeof g->path + JOB_NAME_MAX + 1];
    put_time(out, e->time);
    fprintf(out, "\"%s\"", event_name(e->kind));
    if (e->kind == EVENT_LOST && e->count)
        fprintf(out, ", \"count\": %" PRIu64, e->count);
    if (e->job) {
        snprintf(path, sizeof path, "%s%s", g->path, e->name);
        put_text(out, "job", path);
        snprintf(path, sizeof path, "%.*s", (int)(strlen(g->path) - (*g->path != 0)), g->path);
        put_text(out, "group", path);
        fprintf(out, ", \"id\": %" PRIu64 ", \"user\": %u, \"attempt\": %" PRIu32, e->job, (unsigned)e->uid,
                e->attempt);
        put_text(out, "state", job_state_name(e->state));
    }
    if (e->node && *e->node)
        put_text(out, "node", e->node);
    if (e->kind >= EVENT_NODE_UP)
        fprintf(out, ", \"slots\": %u", e->slots);
    if (e->why && *e->why)
        put_text(out, "why", e->why);
    fputs("}\n", out);
}

/* --- which ones -------------------------------------------------------------------------------------------------- */

static void ask_group(struct fs *fs, const struct feed *f, uint64_t group, struct groups *g) {
    bool of_group = ino_kind(f->ino) == KIND_GROUP_EVENTS;
    g->known = true;
    g->group = group;
    /* the kernel opens the file also for one who reaches it by another of his groups */
    g->reaches = sched_reaches(fs->sched, group, f->uid, f->gid) ||
                 (f->reached_by && f->reached_by == sched_reached_by(fs->sched, group));
    g->inside = !of_group || sched_is_below(fs->sched, group, ino_id(f->ino));
    sched_group_path(fs->sched, group, g->path, sizeof g->path);
}

/* As the job's mode was then, and as it is now. */
static bool may_read(struct fs *fs, const struct feed *f, const struct event *e, int *left) {
    struct job j;
    if (!sched_shows(e->uid, e->gid, e->mode, f->uid, f->gid))
        return false;
    if (f->uid == 0 || f->uid == e->uid)
        return true;
    *left -= A_QUERY;
    return sched_job(fs->sched, e->job, &j) < 0 || sched_shows(j.uid, j.gid, j.mode, f->uid, f->gid);
}

/* Whether the feed has that event; g is about its group then. */
static bool concerns(struct fs *fs, const struct feed *f, const struct event *e, struct groups *g, int *left) {
    enum kind k = ino_kind(f->ino);
    if (k == KIND_EVENTS && e->time < (int64_t)ino_id(f->ino))
        return false;
    if (!e->job)
        return k == KIND_EVENTS || e->kind == EVENT_LOST;
    if (k == KIND_EVENTS_OF && e->job != f->of)
        return false;
    if (!g->known || g->group != e->group) {
        ask_group(fs, f, e->group, g);
        *left -= A_QUERY;
    }
    return g->reaches && (k == KIND_EVENTS_OF || (g->inside && may_read(fs, f, e, left)));
}

/* Nothing more will come. */
static bool is_over(struct fs *fs, const struct feed *f) {
    struct job j;
    struct tally t;
    switch (ino_kind(f->ino)) {
    case KIND_EVENTS_OF: return sched_job(fs->sched, f->of, &j) != 0 || job_ended(j.state);
    case KIND_GROUP_EVENTS: return sched_tally(fs->sched, ino_id(f->ino), &t) != 0 || !t.active;
    default: return false;
    }
}

/* What its row tells of the time before the oldest event. */
static void tell_of_row(struct fs *fs, const struct feed *f, FILE *out) {
    struct groups g = {0};
    struct job j;
    int64_t oldest = sched_events_since(fs->sched);
    if (sched_job(fs->sched, f->of, &j) != 0 || j.state == JOB_DRAFT)
        return;
    ask_group(fs, f, j.group, &g);
    if (!g.reaches)
        return;
    struct event e = {.job = j.id, .uid = j.uid, .name = j.name};
    e.time = j.queued ? j.queued : j.created;
    e.kind = EVENT_SUBMITTED;
    e.state = j.queued ? JOB_QUEUED : JOB_WAITING;
    if (e.time < oldest)
        put_event(out, &e, &g);
    e.attempt = j.attempt;
    e.node = j.node;
    e.time = j.started;
    e.kind = EVENT_STARTED;
    e.state = JOB_RUNNING;
    if (j.started && e.time < oldest)
        put_event(out, &e, &g);
    e.time = j.ended;
    e.kind = j.state == JOB_CANCELLED ? EVENT_CANCELLED : EVENT_ENDED;
    e.state = j.state;
    e.why = j.why;
    if (job_ended(j.state) && e.time < oldest)
        put_event(out, &e, &g);
}

/* --- the feed ---------------------------------------------------------------------------------------------------- */

void events_begin(struct fs *fs, struct feed *f) {
    bool all = ino_kind(f->ino) == KIND_EVENTS && !ino_id(f->ino);
    struct event_place p = all ? sched_events_end(fs->sched) : sched_events_begin(fs->sched);
    struct job j;
    f->at = p.at;
    f->number = p.number;
    if (ino_kind(f->ino) != KIND_EVENTS_OF)
        return;
    f->of = sched_newest(fs->sched, ino_id(f->ino), f->uid, f->gid, &j) == 0 ? j.id : ino_id(f->ino);
    f->reached_by = sched_job(fs->sched, f->of, &j) == 0 ? sched_reached_by(fs->sched, j.group) : 0;
    f->fresh = true;
}

enum feed_rc events_feed(struct fs *fs, struct feed *f, FILE *out, size_t size) {
    struct event_place p = {f->at, f->number};
    struct groups g = {0};
    struct event e;
    int left = A_TURN;
    bool more = true, all = ino_kind(f->ino) == KIND_EVENTS;
    /* each answer wakes its reader: not one for each job where there are thousands a second */
    if (all && clock_ms() - f->answered < FEED_PAUSE_MS && sched_events_end(fs->sched).at - f->at < AT_ONCE)
        return FEED_PAUSES;
    if (f->fresh)
        tell_of_row(fs, f, out);
    f->fresh = false;
    while (left-- > 0 && (size_t)ftello(out) < size && (more = sched_event(fs->sched, &p, &e)))
        if (concerns(fs, f, &e, &g, &left))
            put_event(out, &e, &g);
    f->at = p.at;
    f->number = p.number;
    if (more)
        return FEED_GOES_ON;
    return is_over(fs, f) ? FEED_ENDS : FEED_WAITS;
}

/* --- events?since=TIME ------------------------------------------------------------------------------------------- */

/* Seconds since the epoch with decimals, or as events have it; in microseconds. 0: it is none of these. */
static int64_t parse_time(const char *text) {
    struct tm t = {0};
    char *end;
    const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &t);
    double seconds = strtod(rest ? rest : text, &end), whole = rest ? (double)timegm(&t) : 0;
    if (rest && *rest != '.')
        seconds = 0, end = (char *)rest;
    if (rest && *end == 'Z')
        end++;
    if (end == text || *end || !(seconds >= 0) || !(whole >= 0) || whole + seconds > 1e10)
        return 0;
    int64_t us = (int64_t)whole * 1000000 + (int64_t)(seconds * 1e6 + 0.5);
    return us ? us : 1;
}

int events_lookup(struct fs *fs, fuse_ino_t dir, const char *name, fuse_ino_t *out) {
    static const char prefix[] = "events?since=";
    if (strncmp(name, prefix, sizeof prefix - 1) != 0)
        return -ENOENT;
    int64_t us = parse_time(name + sizeof prefix - 1);
    if (!us)
        return -EINVAL;
    *out = ino_make((uint64_t)us, KIND_EVENTS);
    return 0;
}
