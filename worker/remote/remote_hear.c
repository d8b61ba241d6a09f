/* Messages of a node, checked against its work: a frame for a work that it does not have, or that makes no sense for
 * it, ends the session. Of work that was killed, or whose payload could not be read, only the end counts. */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "net/clock.h"
#include "net/event.h"
#include "worker/remote/remote_parts.h"

/* A node that is told to hold a work stops reading it when 1 MiB waits. Besides that its session has at most 58 MiB
 * under way, and as much again whose acknowledgements are under way. */
enum { READY_MAX = 2 << 20, LATE_MAX = 128 << 20 };

static size_t late_of(const struct entry *e) {
    return e->late > READY_MAX ? e->late - READY_MAX : 0;
}

void remote_held(struct remote *f, struct entry *e, bool held) {
    f->late -= late_of(e);
    e->late = 0;
    e->held = held;
}

static bool may_tell(struct remote *f, struct entry *e, size_t size) {
    if (!e->held)
        return true;
    f->late -= late_of(e);
    e->late += size;
    f->late += late_of(e);
    return f->late <= LATE_MAX;
}

/* The time for the end of a killed work, in multiples of the silence. */
enum { KILL_SILENCES = 6 };

static bool hear_answer(struct remote *f, struct entry *e, const struct frame *m) {
    enum answer_kind kind = (enum answer_kind)(m->kind - MESSAGE_PART);
    uint32_t number = (uint32_t)m->id;

    if (!e->lease || number <= e->answered || number > e->sent ||
        (kind == ANSWER_NEED && m->size && (m->size != FUNCTION_HASH || !remote_may_need(f, e))))
        return false;
    e->needs |= kind == ANSWER_NEED && m->size;
    if (answer_ends(kind, m->size))
        e->answered = number;
    if (!e->killed)
        f->ev.answer(f->arg, e->job, number, kind, m->body, m->size);
    return true;
}

/* An unreadable payload outweighs the node's outcome. */
static void why_of(const struct entry *e, struct work_outcome *o) {
    if (!e->refused)
        return;
    o->end = WORK_REFUSED;
    o->unbegun = o->no_room = false;
    snprintf(o->why, sizeof(o->why), "%s", e->why ? e->why : remote_no_memory);
}

/* Tells an overdue end; the ref stays taken until the node tells it, too. */
static void tell_end(struct remote *f, struct entry *e) {
    struct work_outcome o = {.attempt = e->attempt, .end = WORK_SIGNALED, .status = SIGKILL};

    e->told = e->killed = true;
    snprintf(o.why, sizeof(o.why), "node %s was told to kill it, and does not tell its end", f->name);
    why_of(e, &o);
    f->ev.done(f->arg, e->job, &o);
}

static void await_end(struct remote *f, int64_t ms) {
    if (!event_pending(f->overdue, EV_TIMEOUT, NULL))
        event_add_ms(f->overdue, ms);
}

void remote_overdue(evutil_socket_t fd, short what, void *arg) {
    struct remote *f = arg;
    int64_t now = clock_ms(), next = 0;

    for (uint32_t i = 0; i < f->count; i++) {
        struct entry *e = &f->entries[i];
        if (!e->used || e->told || !e->overdue_ms)
            continue;
        if (e->overdue_ms <= now)
            tell_end(f, e);
        else if (!next || e->overdue_ms < next)
            next = e->overdue_ms;
    }
    if (next)
        await_end(f, next - now);
}

void remote_expect_end(struct remote *f, struct entry *e) {
    int64_t ms = f->session ? KILL_SILENCES * (int64_t)session_silence_ms(f->session) : 0;

    if (!f->session || e->overdue_ms) /* else it is lost */
        return;
    e->overdue_ms = clock_ms() + ms;
    await_end(f, ms);
}

static bool hear_done(struct remote *f, struct entry *e, const struct frame *m) {
    struct work_outcome o;
    uint64_t job = e->job;
    bool told = e->told;

    if (work_outcome_decode(m->body, m->size, &o) || o.attempt != e->attempt)
        return false;
    why_of(e, &o);
    entry_free(f, e);
    if (!told)
        f->ev.done(f->arg, job, &o);
    return true;
}

static bool hear_about_work(struct remote *f, const struct frame *m) {
    uint32_t ref = (uint32_t)(m->id >> 32), low = (uint32_t)m->id;
    struct entry *e = ref < f->count && f->entries[ref].used ? &f->entries[ref] : NULL;

    if (!e)
        return false;
    if (!may_tell(f, e, m->size)) {
        remote_fail(f, "it was told to wait with answers and output, and does not");
        return true;
    }
    switch (m->kind) {
    case MESSAGE_OUTPUT:
        if (low > OUTPUT_FILES)
            return false;
        if (!e->killed && !e->refused)
            f->ev.output(f->arg, e->job, (enum output_kind)low, m->body, m->size);
        return true;
    case MESSAGE_PART:
    case MESSAGE_VALUE:
    case MESSAGE_ERROR:
    case MESSAGE_NEED: return hear_answer(f, e, m);
    case MESSAGE_RECALLED:
        if (!e->recalls || low < e->asked || low > e->sent + 1)
            return false; /* calls that it was not asked for may run there, and would run twice */
        e->recalls--;
        if (f->ev.recalled && !e->killed)
            f->ev.recalled(f->arg, e->job, low);
        return true;
    case MESSAGE_KEPT:
        if (low - e->kept > e->pieces - e->kept)
            return false;
        e->kept = low;
        remote_soon(f);
        return true;
    case MESSAGE_DONE: return hear_done(f, e, m);
    }
    return false;
}

static bool hear_about(struct remote *f, const struct frame *m) {
    struct node_about about;

    if (node_about_decode(m->body, m->size, &about) || (f->known && strcmp(about.name, f->about.name) != 0))
        return false;
    f->about = about;
    f->known = true;
    f->owner.about(f->owner_arg, f);
    return true;
}

static bool hear_trouble(struct remote *f, const struct frame *m) {
    char sentence[MESSAGE_SENTENCE + NODE_NAME + 16];

    if (m->size >= MESSAGE_SENTENCE || memchr(m->body, 0, m->size))
        return false;
    snprintf(sentence, sizeof(sentence), "node %s: %.*s", f->name, (int)m->size, (const char *)m->body);
    if (f->begun && f->ev.trouble)
        f->ev.trouble(f->arg, sentence);
    return true;
}

void remote_hear(void *arg, const struct frame *m) {
    struct remote *f = arg;
    bool sane = false;

    if (m->kind == MESSAGE_ABOUT)
        sane = hear_about(f, m);
    else if (m->kind == MESSAGE_GOODBYE) {
        remote_fail(f, (uint32_t)m->id ? "it was let go" : "it has left");
        return;
    } else if (m->kind == MESSAGE_TROUBLE && f->known)
        sane = hear_trouble(f, m);
    else if (f->begun)
        sane = hear_about_work(f, m);
    if (!sane)
        remote_fail(f, "it said something that makes no sense; is it of another version of ppfs?");
}
