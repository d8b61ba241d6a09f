/* A node as a runner: its work is in a table by ref, and its messages are checked against that table.
 *
 * Frames gather until flush(), or until the loop comes round. A payload in a file goes a few pieces a turn
 * (remote_payload.c), and so does a large call or function (remote_send.c); START goes before it, so that the node
 * knows where to put it.
 *
 * Nothing is told from inside a call of the runner: the timer `later` tells failures. When the session ends each work
 * is LOST, then the owner hears lost() and destroys the remote. */
#include "worker/remote/remote.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/clock.h"
#include "net/event.h"
#include "worker/remote/remote_parts.h"

/* --- the table --------------------------------------------------------------------------------------------------- */
static struct entry *find(struct remote *f, uint64_t job) {
    for (uint32_t i = 0; i < f->count; i++) {
        uint32_t at = f->last + i < f->count ? f->last + i : f->last + i - f->count;
        if (f->entries[at].used && !f->entries[at].told && f->entries[at].job == job) {
            f->last = at;
            return &f->entries[at];
        }
    }
    return NULL;
}

/* An unused one; NULL without memory. */
static struct entry *entry_new(struct remote *f) {
    for (uint32_t i = 0; f->used < f->count && i < f->count; i++)
        if (!f->entries[i].used)
            return &f->entries[i];
    if (f->count == MESSAGE_REFS)
        return NULL;
    uint32_t more = f->count ? f->count * 2 : 16;
    struct entry *bigger = realloc(f->entries, more * sizeof(*bigger));
    if (!bigger)
        return NULL;
    memset(bigger + f->count, 0, (more - f->count) * sizeof(*bigger));
    f->entries = bigger;
    f->count = more;
    return &f->entries[f->used];
}

void entry_free(struct remote *f, struct entry *e) {
    remote_held(f, e, false);
    remote_file_end(f, e);
    remote_send_none(f, e);
    free(e->why);
    *e = (struct entry){0};
    f->used--;
}

void remote_refuse(struct remote *f, const char *why) {
    remote_must_post(f, MESSAGE_REFUSED, 0, why, (uint32_t)strnlen(why, MESSAGE_SENTENCE - 1));
    remote_flush(f);
    remote_fail(f, why);
}

static void on_flush(evutil_socket_t fd, short what, void *arg) {
    remote_flush(arg);
}

/* --- the end ----------------------------------------------------------------------------------------------------- */
/* Every work that it had is lost; then it is the owner's to destroy. */
static void finish_all(struct remote *f) {
    for (uint32_t i = 0; i < f->count; i++) {
        struct entry *e = &f->entries[i];
        if (!e->used)
            continue;
        struct work_outcome o = {.attempt = e->attempt, .end = WORK_LOST};
        uint64_t job = e->job;
        if (e->refused)
            o.end = WORK_REFUSED;
        snprintf(o.why, sizeof(o.why), "node %s was lost while it ran: %s", f->name,
                 f->failed ? f->failed : remote_no_memory);
        if (e->refused && e->why)
            snprintf(o.why, sizeof(o.why), "%s", e->why);
        bool told = e->told;
        entry_free(f, e);
        if (!told)
            f->ev.done(f->arg, job, &o);
    }
    f->owner.lost(f->owner_arg, f, f->failed ? f->failed : remote_no_memory);
}

static void tell_room(struct remote *f) {
    bool wanted = f->wants_room;

    f->wants_room = false;
    if (wanted && f->ev.room)
        f->ev.room(f->arg);
}

static void on_later(evutil_socket_t fd, short what, void *arg) {
    struct remote *f = arg;

    if (!f->session) {
        finish_all(f);
        return;
    }
    remote_feed(f);
    if (f->large_gone && f->session && !remote_full(f)) {
        f->large_gone = false;
        tell_room(f);
    }
}

/* --- the runner -------------------------------------------------------------------------------------------------- */
static int start(void *self, const struct work *w) {
    struct remote *f = self;
    struct work there = *w;
    void *bytes = NULL;
    uint32_t size;

    if (!f->session)
        return -EPIPE;
    there.file = w->file ? "/" : NULL; /* the node has its own */
    char *path = w->file ? strdup(w->file) : NULL;
    int err = w->file && !path ? -ENOMEM : work_encode(&there, &bytes, &size);
    if (err)
        goto out;
    struct entry *e = entry_new(f);
    err = e ? remote_post(f, MESSAGE_START, message_id(remote_ref(f, e), path != NULL), bytes, size) : -ENOMEM;
    if (err)
        goto out;
    *e = (struct entry){.used = true, .lease = work_is_lease(w), .job = w->job, .attempt = w->attempt, .path = path};
    f->used++;
    if (path) {
        f->files++;
        remote_soon(f);
    }
    path = NULL;
out:
    free(path);
    free(bytes);
    return err;
}

/* A lease that takes calls. */
static struct entry *lease(struct remote *f, uint64_t id) {
    struct entry *e = find(f, id);
    return e && e->lease && !e->killed && !e->finished ? e : NULL;
}

static int call(void *self, uint64_t id, uint32_t number, enum call_format format, const void *bytes, size_t size,
                struct shared_buffer *shared) {
    struct remote *f = self;
    struct entry *e = lease(f, id);

    if (!e || !f->session)
        return -ENOENT;
    if (number <= e->sent || size > FRAME_WHOLE_MAX || format > CALL_VALUES)
        return -EINVAL;
    if (remote_full(f) || remote_has_enough(e)) {
        f->wants_room = true;
        return -ENOMEM;
    }
    int err = remote_send(f, e, MESSAGE_CALL_JSON + format, number, NULL, 0, bytes, size, shared);
    if (!err)
        e->sent = number;
    return err == -EPIPE ? -ENOENT : err;
}

static int function(void *self, uint64_t id, const uint8_t hash[32], const void *bytes, size_t size,
                    struct shared_buffer *shared) {
    struct remote *f = self;
    struct entry *e = find(f, id);

    if (!e || !e->lease || e->killed || !f->session)
        return -ENOENT;
    int err = remote_send(f, e, MESSAGE_FUNCTION, 0, hash, 32, bytes, size, shared);
    e->needs = false;
    return err == -EPIPE ? -ENOENT : err;
}

static int finish(void *self, uint64_t id) {
    struct remote *f = self;
    struct entry *e = lease(f, id);

    if (!e)
        return -ENOENT;
    int err = remote_send(f, e, MESSAGE_FINISH, 0, NULL, 0, NULL, 0, NULL);
    e->finished = !err;
    return err == -EPIPE ? -ENOENT : err;
}

static uint32_t recall(void *self, uint64_t id, uint32_t number) {
    struct remote *f = self;
    struct entry *e = find(f, id);

    if (!e || !e->lease || number > e->sent)
        return number;
    if (remote_send(f, e, MESSAGE_RECALL, number, NULL, 0, NULL, 0, NULL) == -ENOMEM)
        remote_fail(f, remote_no_memory);
    if (!e->recalls++ || number < e->asked)
        e->asked = number;
    return RUNNER_LATER;
}

static void kill_job(void *self, uint64_t job) {
    struct remote *f = self;
    struct entry *e = find(f, job);

    if (!e || e->killed)
        return;
    e->killed = true;
    remote_expect_end(f, e);
    remote_file_end(f, e);
    remote_send_none(f, e);
    remote_must_post(f, MESSAGE_KILL, message_id(remote_ref(f, e), 0), NULL, 0);
}

static void hold_job(void *self, uint64_t job, bool hold) {
    struct remote *f = self;
    struct entry *e = find(f, job);

    if (!e)
        return;
    remote_held(f, e, hold);
    remote_must_post(f, MESSAGE_HOLD, message_id(remote_ref(f, e), hold), NULL, 0);
}

static void resize(void *self, unsigned slots) {
    remote_must_post(self, MESSAGE_RESIZE, slots > NODE_CPUS_MAX ? NODE_CPUS_MAX : slots, NULL, 0);
}

void remote_runner(struct remote *f, struct runner *out) {
    static const struct runner_ops ops = {.start = start,
                                          .call = call,
                                          .function = function,
                                          .finish = finish,
                                          .recall = recall,
                                          .flush = remote_flush,
                                          .kill = kill_job,
                                          .hold = hold_job,
                                          .resize = resize};

    *out = (struct runner){.ops = &ops, .self = f};
}

/* --- events of the session ---------------------------------------------------------------------------------------- */
static void on_linked(void *arg, bool up, const char *why) {
    struct remote *f = arg;

    if (up && remote_waits(f))
        remote_soon(f);
    snprintf(f->address, sizeof(f->address), "%s", session_address(f->session));
    if (f->known)
        f->owner.about(f->owner_arg, f);
}

static void on_room(void *arg) {
    struct remote *f = arg;

    if (remote_waits(f))
        remote_soon(f);
    tell_room(f);
}

static void on_sent(void *arg) {
    struct remote *f = arg;

    if (remote_waits(f))
        remote_soon(f);
}

static void on_lost(void *arg, const char *why) {
    remote_fail(arg, why);
}

/* --- its life ---------------------------------------------------------------------------------------------------- */
int remote_create(struct remote **out, struct event_base *base, struct disk *disk, struct session *s,
                  const struct remote_owner *owner, void *arg) {
    static const struct session_events events = {
        .frame = remote_hear, .linked = on_linked, .room = on_room, .sent = on_sent, .lost = on_lost};
    struct remote *f = calloc(1, sizeof(*f));

    if (!f) {
        session_destroy(s);
        return -ENOMEM;
    }
    *f = (struct remote){.base = base, .disk = disk, .session = s, .owner = *owner, .owner_arg = arg};
    TAILQ_INIT(&f->large);
    f->later = evtimer_new(base, on_later, f);
    f->flush = evtimer_new(base, on_flush, f);
    f->overdue = evtimer_new(base, remote_overdue, f);
    if (!f->later || !f->flush || !f->overdue) {
        remote_destroy(f);
        return -ENOMEM;
    }
    snprintf(f->address, sizeof(f->address), "%s", session_address(s));
    session_watch(s, &events, f);
    *out = f;
    return 0;
}

void remote_destroy(struct remote *f) {
    if (!f)
        return;
    session_destroy(f->session);
    for (uint32_t i = 0; i < f->count; i++)
        if (f->entries[i].used)
            entry_free(f, &f->entries[i]);
    free(f->entries);
    event_drop(f->later);
    event_drop(f->flush);
    event_drop(f->overdue);
    free(f->dialled);
    free(f->failed);
    free(f);
}

int remote_set_name(struct remote *f, const char *name, const char *dialled) {
    char *copy = dialled ? strdup(dialled) : NULL;

    if (dialled && !copy)
        return -ENOMEM;
    free(f->dialled);
    f->dialled = copy;
    snprintf(f->name, sizeof(f->name), "%s", name);
    return 0;
}

void remote_begin(struct remote *f, const struct runner_events *ev, void *arg) {
    f->ev = *ev;
    f->arg = arg;
    f->begun = true;
    remote_must_post(f, MESSAGE_WELCOME, 0, f->name, (uint32_t)strlen(f->name));
}

uint64_t remote_probe(struct remote *f) {
    return session_probe(f->session);
}

void remote_hello(struct remote *f, const void *id, size_t size) {
    remote_must_post(f, MESSAGE_HELLO, 0, id, (uint32_t)size);
}

void remote_leave(struct remote *f) {
    if (!f->session || !session_linked(f->session))
        remote_fail(f, "it was let go");
    else
        remote_must_post(f, MESSAGE_LEAVE, 0, NULL, 0); /* GOODBYE comes */
}

const struct node_about *remote_about(const struct remote *f) {
    return &f->about;
}

const struct session *remote_session(const struct remote *f) {
    return f->session;
}

const char *remote_name(const struct remote *f) {
    return f->name;
}

const char *remote_address(const struct remote *f) {
    return f->address;
}

const char *remote_dialled(const struct remote *f) {
    return f->dialled;
}

bool remote_linked(const struct remote *f) {
    return f->session && session_linked(f->session);
}

unsigned remote_quiet_ms(const struct remote *f) {
    return f->session && session_silent(f->session) ? session_quiet(f->session) : 0;
}

int64_t remote_rtt_us(const struct remote *f) {
    return f->session ? session_rtt(f->session) : 0;
}

int64_t remote_seen_us(const struct remote *f) {
    return clock_wall_us() - (f->session ? (int64_t)session_quiet(f->session) * 1000 : 0);
}
