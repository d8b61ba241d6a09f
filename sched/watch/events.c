/* The ring of events. A record is written as its transition is made and shown when that is committed: begin and
 * committed are at most end, and all three only grow; their remainders are places in the ring. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "net/clock.h"
#include "sched/turn/context.h"
#include "sched/watch/watch.h"

#define RING_BYTES (4u << 20) /* some 30,000 events */
#define FILLS EVENT_KINDS
#define ALIGNED(n) (((n) + 7) & ~(size_t)7)

struct record {    /* its strings follow: name, node, why */
    uint32_t size; /* with them, a multiple of 8 */
    uint8_t kind;  /* FILLS: the end of the ring, or what was taken back */
    uint8_t state;
    uint16_t node_at, why_at; /* of these strings, from the name's */
    uint32_t uid, gid, mode, attempt, slots;
    int64_t time;
    uint64_t number, job, group;
};

const char *event_name(enum event_kind k) {
    static const char *const names[EVENT_KINDS] = {[EVENT_LOST] = "lost",           [EVENT_BEGAN] = "began",
                                                   [EVENT_SUBMITTED] = "submitted", [EVENT_HELD] = "held",
                                                   [EVENT_WAITING] = "waiting",     [EVENT_QUEUED] = "queued",
                                                   [EVENT_DRAFT] = "draft",         [EVENT_STARTED] = "started",
                                                   [EVENT_RETRIED] = "retried",     [EVENT_REQUEUED] = "requeued",
                                                   [EVENT_ENDED] = "ended",         [EVENT_CANCELLED] = "cancelled",
                                                   [EVENT_NODE_UP] = "node up",     [EVENT_NODE_DRAINS] = "node drains",
                                                   [EVENT_NODE_DOWN] = "node down", [EVENT_SLOTS] = "slots changed"};
    return names[k];
}

static struct record *record_at(const struct ring *r, uint64_t at) {
    return (struct record *)(r->bytes + at % RING_BYTES);
}

/* The oldest ones go until so many bytes behind end are free. */
static void make_room(struct ring *r, size_t size) {
    while (r->end + size - r->begin > RING_BYTES)
        r->begin += record_at(r, r->begin)->size;
}

static void push(struct ring *r, const struct event *e) {
    const char *name = e->name ? e->name : "", *node = e->node ? e->node : "", *why = e->why ? e->why : "";
    size_t n = strlen(name) + 1, m = strlen(node) + 1, w = strlen(why) + 1;
    size_t size = ALIGNED(sizeof(struct record) + n + m + w), left = RING_BYTES - r->end % RING_BYTES;
    if (left < size) { /* a record is in one piece */
        make_room(r, left);
        struct record *pad = record_at(r, r->end);
        pad->size = (uint32_t)left;
        pad->kind = FILLS;
        r->end += left;
    }
    make_room(r, size);
    struct record *x = record_at(r, r->end);
    *x = (struct record){.size = (uint32_t)size,
                         .kind = (uint8_t)e->kind,
                         .state = (uint8_t)e->state,
                         .node_at = (uint16_t)n,
                         .why_at = (uint16_t)(n + m),
                         .uid = e->uid,
                         .gid = e->gid,
                         .mode = e->mode,
                         .attempt = e->attempt,
                         .slots = e->slots,
                         .time = e->time,
                         .number = r->next++,
                         .job = e->job,
                         .group = e->group};
    char *text = (char *)(x + 1);
    memcpy(text, name, n);
    memcpy(text + n, node, m);
    memcpy(text + n + m, why, w);
    r->end += size;
}

int events_create(struct watch *w) {
    struct ring *r = &w->ring;
    r->bytes = malloc(RING_BYTES); /* pages that were never written cost nothing */
    if (!r->bytes)
        return -ENOMEM;
    /* another daemon's places are behind: places grow by less than one in each nanosecond */
    r->begin = r->committed = r->end = ALIGNED((uint64_t)clock_wall_us() * 1000);
    r->next = 1;
    push(r, &(struct event){.kind = EVENT_BEGAN, .time = clock_wall_us()});
    return 0;
}

void events_destroy(struct watch *w) {
    free(w->ring.bytes);
    w->ring.bytes = NULL;
}

static enum event_kind kind_of(enum job_state from, enum job_state to) {
    if (from == JOB_RUNNING && !job_ended(to))
        return to == JOB_WAITING ? EVENT_RETRIED : EVENT_REQUEUED;
    switch (to) {
    case JOB_DRAFT: return EVENT_DRAFT;
    case JOB_RUNNING: return EVENT_STARTED;
    case JOB_DONE:
    case JOB_FAILED: return EVENT_ENDED;
    case JOB_CANCELLED: return EVENT_CANCELLED;
    default: break;
    }
    if (from == JOB_DRAFT || from == JOB_FAILED)
        return EVENT_SUBMITTED;
    if (to == JOB_HELD)
        return EVENT_HELD;
    return to == JOB_WAITING ? EVENT_WAITING : EVENT_QUEUED;
}

void events_job(struct watch *w, const struct job *j, enum job_state from) {
    bool has_why = job_ended(j->state) || (from == JOB_RUNNING && j->state != JOB_RUNNING);
    struct event e = {.kind = kind_of(from, j->state),
                      .time = clock_wall_us(),
                      .job = j->id,
                      .group = j->group,
                      .uid = j->uid,
                      .gid = j->gid,
                      .mode = j->mode,
                      .state = j->state,
                      .attempt = j->attempt,
                      .name = j->name,
                      .node = j->attempt ? j->node : "",
                      .why = has_why ? j->why : ""};
    if (!w->ring.bytes)
        return;
    if (from == JOB_DRAFT && (j->state == JOB_RUNNING || job_ended(j->state))) { /* it did not have to wait */
        struct event submitted = e;
        submitted.kind = EVENT_SUBMITTED;
        submitted.state = JOB_QUEUED;
        submitted.attempt = 0;
        submitted.node = submitted.why = "";
        push(&w->ring, &submitted);
    }
    push(&w->ring, &e);
}

void watch_node(struct sched *s, enum event_kind kind, const char *node, unsigned slots, const char *why) {
    struct watch *w = s->watch;
    if (!w || !w->ring.bytes)
        return;
    push(&w->ring, &(struct event){.kind = kind, .time = clock_wall_us(), .slots = slots, .node = node, .why = why});
}

/* What was taken back is shown to nobody, but for what is about nodes: that has happened. */
static void take_back(struct ring *r) {
    if (r->committed < r->begin) /* the turn was larger than the ring */
        r->begin = r->end;
    for (uint64_t at = r->committed; at >= r->begin && at < r->end; at += record_at(r, at)->size)
        if (record_at(r, at)->kind != FILLS && record_at(r, at)->job)
            record_at(r, at)->kind = FILLS;
}

bool events_committed(struct watch *w, bool committed) {
    struct ring *r = &w->ring;
    bool news = r->end != r->committed || w->news;
    if (!committed)
        take_back(r);
    r->committed = r->end;
    w->news = false;
    return news;
}

/* --- reading ----------------------------------------------------------------------------------------------------- */

struct event_place sched_events_end(const struct sched *s) {
    const struct ring *r = &s->watch->ring;
    return (struct event_place){r->committed, r->next};
}

struct event_place sched_events_begin(const struct sched *s) {
    const struct ring *r = &s->watch->ring;
    return (struct event_place){r->begin < r->committed ? r->begin : r->committed, 0};
}

/* The next one that is committed, from there on. NULL: there is none, and *at is where it will be. */
static const struct record *next_record(const struct ring *r, uint64_t *at) {
    while (*at < r->committed && record_at(r, *at)->kind == FILLS)
        *at += record_at(r, *at)->size;
    return *at < r->committed ? record_at(r, *at) : NULL;
}

int64_t sched_events_since(const struct sched *s) {
    uint64_t at = sched_events_begin(s).at;
    const struct record *x = next_record(&s->watch->ring, &at);
    return x ? x->time : clock_wall_us();
}

bool sched_event(const struct sched *s, struct event_place *p, struct event *out) {
    const struct ring *r = &s->watch->ring;
    bool lost = p->at < r->begin;
    if (lost)
        p->at = r->begin;
    const struct record *x = next_record(r, &p->at);
    if (lost) {
        uint64_t number = x ? x->number : r->next;
        *out = (struct event){.kind = EVENT_LOST,
                              .time = clock_wall_us(),
                              .count = p->number && number > p->number ? number - p->number : 0};
        p->number = number;
        return true;
    }
    if (!x)
        return false;
    const char *text = (const char *)(x + 1);
    *out = (struct event){.kind = x->kind,
                          .time = x->time,
                          .job = x->job,
                          .group = x->group,
                          .uid = x->uid,
                          .gid = x->gid,
                          .mode = x->mode,
                          .state = x->state,
                          .attempt = x->attempt,
                          .slots = x->slots,
                          .name = text,
                          .node = text + x->node_at,
                          .why = text + x->why_at};
    p->at += x->size;
    p->number = x->number + 1;
    return true;
}
