/* A node as a runner: what it was given is in a table by its ref, and what it says is checked against that table.
 *
 * Frames gather until flush(), or until the loop comes round. A payload in a file goes a few pieces a turn
 * (far_payload.c), and so does a large call or function (far_large.c); START goes before it, so that the node knows
 * where to put it.
 *
 * Nothing is told from inside a call of the runner: what cannot be done is told by the timer `later`. A session that
 * ends takes everything with it: each work is LOST, then the owner hears lost() and destroys the far. */
#include "worker/remote/far.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/clock.h"
#include "worker/remote/far_parts.h"

enum { UNSENT_MAX = 256 * 1024 };

const char far_no_memory[] = "this machine has no memory for what is sent to it";

/* --- the table --------------------------------------------------------------------------------------------------- */
static struct entry *find(struct far *f, uint64_t job) {
    for (uint32_t i = 0; i < f->count; i++) {
        uint32_t at = f->last + i < f->count ? f->last + i : f->last + i - f->count;
        if (f->entries[at].used && f->entries[at].job == job) {
            f->last = at;
            return &f->entries[at];
        }
    }
    return NULL;
}

uint32_t far_ref(const struct far *f, const struct entry *e) {
    return (uint32_t)(e - f->entries);
}

/* An unused one; NULL without memory. */
static struct entry *entry_new(struct far *f) {
    for (uint32_t i = 0; f->used < f->count && i < f->count; i++)
        if (!f->entries[i].used)
            return &f->entries[i];
    if (f->count == FAR_REFS)
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

void entry_free(struct far *f, struct entry *e) {
    far_file_end(f, e);
    far_send_none(f, e);
    free(e->why);
    *e = (struct entry){0};
    f->used--;
}

/* --- sending ----------------------------------------------------------------------------------------------------- */
void far_soon(struct far *f) {
    static const struct timeval now = {0};
    event_add(f->later, &now);
}

static bool full(struct far *f) {
    return session_full(f->session);
}

/* Payloads wait, so that what is small gets through. */
bool far_busy(struct far *f) {
    return full(f) || session_unsent(f->session) >= UNSENT_MAX;
}

void far_fail(struct far *f, const char *why) {
    if (f->failed)
        return;
    f->failed = strdup(why);
    session_destroy(f->session);
    f->session = NULL;
    far_soon(f);
}

static void do_flush(void *self) {
    struct far *f = self;

    event_del(f->flush);
    if (f->corked && f->session)
        session_uncork(f->session);
    f->corked = false;
    if (far_waits(f) && f->session && !far_busy(f)) /* if the network took all of it at once nobody will say so */
        far_soon(f);
}

static void on_flush(evutil_socket_t fd, short what, void *arg) {
    (void)fd;
    (void)what;
    do_flush(arg);
}

/* 0 or -ENOMEM, -EPIPE: nothing was sent. */
int far_post(struct far *f, enum far_frame kind, uint64_t id, const void *body, uint32_t size) {
    if (!f->session)
        return -EPIPE;
    if (!f->corked) {
        session_cork(f->session);
        f->corked = true;
        event_active(f->flush, EV_TIMEOUT, 0);
    }
    return session_send(f->session, (uint8_t)kind, id, body, size);
}

/* The same, where the work cannot go on without it. */
void far_must_post(struct far *f, enum far_frame kind, uint64_t id, const void *body, uint32_t size) {
    if (far_post(f, kind, id, body, size) == -ENOMEM)
        far_fail(f, far_no_memory);
}

void far_refuse(struct far *f, const char *why) {
    far_must_post(f, FAR_REFUSED, 0, why, (uint32_t)strnlen(why, FAR_SENTENCE - 1));
    do_flush(f);
    far_fail(f, why);
}

/* --- the end ----------------------------------------------------------------------------------------------------- */
/* Every work that it had is lost; then it is the owner's to destroy. */
static void finish_all(struct far *f) {
    for (uint32_t i = 0; i < f->count; i++) {
        struct entry *e = &f->entries[i];
        if (!e->used)
            continue;
        struct work_outcome o = {.attempt = e->attempt, .end = WORK_LOST};
        uint64_t job = e->job;
        if (e->refused)
            o.end = WORK_REFUSED;
        snprintf(o.why, sizeof(o.why), "node %s was lost while it ran: %s", f->name,
                 f->failed ? f->failed : far_no_memory);
        if (e->refused && e->why)
            snprintf(o.why, sizeof(o.why), "%s", e->why);
        entry_free(f, e);
        f->ev.done(f->arg, job, &o);
    }
    f->owner.lost(f->owner_arg, f, f->failed ? f->failed : far_no_memory);
}

static void tell_room(struct far *f) {
    bool wanted = f->wants_room;

    f->wants_room = false;
    if (wanted && f->ev.room)
        f->ev.room(f->arg);
}

static void on_later(evutil_socket_t fd, short what, void *arg) {
    struct far *f = arg;

    (void)fd;
    (void)what;
    if (!f->session) {
        finish_all(f);
        return;
    }
    far_feed(f);
    if (f->large_gone && f->session && !full(f)) {
        f->large_gone = false;
        tell_room(f);
    }
}

/* --- the runner -------------------------------------------------------------------------------------------------- */
static int start(void *self, const struct work *w) {
    struct far *f = self;
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
    err = e ? far_post(f, FAR_START, far_id(far_ref(f, e), path ? 1 : 0), bytes, size) : -ENOMEM;
    if (err)
        goto out;
    *e = (struct entry){.used = true, .lease = work_is_lease(w), .job = w->job, .attempt = w->attempt, .path = path};
    f->used++;
    if (path) {
        f->files++;
        far_soon(f);
    }
    path = NULL;
out:
    free(path);
    free(bytes);
    return err;
}

/* A lease that takes calls. */
static struct entry *lease(struct far *f, uint64_t id) {
    struct entry *e = find(f, id);
    return e && e->lease && !e->killed && !e->finished ? e : NULL;
}

static int call(void *self, uint64_t id, uint32_t number, enum call_format format, const void *bytes, size_t size,
                struct loan *loan) {
    struct far *f = self;
    struct entry *e = lease(f, id);

    if (!e || !f->session)
        return -ENOENT;
    if (number <= e->sent || size > FRAME_WHOLE_MAX || format > CALL_VALUES)
        return -EINVAL;
    if (full(f) || far_has_enough(e)) {
        f->wants_room = true;
        return -ENOMEM;
    }
    int err = far_send(f, e, FAR_CALL_JSON + format, number, NULL, 0, bytes, size, loan);
    if (!err)
        e->sent = number;
    return err == -EPIPE ? -ENOENT : err;
}

static int function(void *self, uint64_t id, const uint8_t hash[32], const void *bytes, size_t size,
                    struct loan *loan) {
    struct far *f = self;
    struct entry *e = find(f, id);

    if (!e || !e->lease || e->killed || !f->session)
        return -ENOENT;
    int err = far_send(f, e, FAR_FUNCTION, 0, hash, 32, bytes, size, loan);
    return err == -EPIPE ? -ENOENT : err;
}

static int finish(void *self, uint64_t id) {
    struct far *f = self;
    struct entry *e = lease(f, id);

    if (!e)
        return -ENOENT;
    int err = far_send(f, e, FAR_FINISH, 0, NULL, 0, NULL, 0, NULL);
    e->finished = !err;
    return err == -EPIPE ? -ENOENT : err;
}

static uint32_t recall(void *self, uint64_t id, uint32_t number) {
    struct far *f = self;
    struct entry *e = find(f, id);

    if (!e || !e->lease || number > e->sent)
        return number;
    if (far_send(f, e, FAR_RECALL, number, NULL, 0, NULL, 0, NULL) == -ENOMEM)
        far_fail(f, far_no_memory);
    if (!e->recalls++ || number < e->asked)
        e->asked = number;
    return RUNNER_LATER;
}

static void kill_job(void *self, uint64_t job) {
    struct far *f = self;
    struct entry *e = find(f, job);

    if (!e || e->killed)
        return;
    e->killed = true;
    far_file_end(f, e);
    far_send_none(f, e);
    far_must_post(f, FAR_KILL, far_id(far_ref(f, e), 0), NULL, 0);
}

static void hold_job(void *self, uint64_t job, bool hold) {
    struct far *f = self;
    struct entry *e = find(f, job);

    if (e)
        far_must_post(f, FAR_HOLD, far_id(far_ref(f, e), hold), NULL, 0);
}

static void resize(void *self, unsigned slots) {
    far_must_post(self, FAR_RESIZE, slots > FAR_CPUS_MAX ? FAR_CPUS_MAX : slots, NULL, 0);
}

void far_runner(struct far *f, struct runner *out) {
    static const struct runner_ops ops = {.start = start,
                                          .call = call,
                                          .function = function,
                                          .finish = finish,
                                          .recall = recall,
                                          .flush = do_flush,
                                          .kill = kill_job,
                                          .hold = hold_job,
                                          .resize = resize};

    *out = (struct runner){.ops = &ops, .self = f};
}

/* --- what the session tells --------------------------------------------------------------------------------------- */
static void on_linked(void *arg, bool up, const char *why) {
    struct far *f = arg;

    (void)why;
    if (up && far_waits(f))
        far_soon(f);
    snprintf(f->address, sizeof(f->address), "%s", session_address(f->session));
    if (f->known)
        f->owner.about(f->owner_arg, f);
}

static void on_room(void *arg) {
    struct far *f = arg;

    if (far_waits(f))
        far_soon(f);
    tell_room(f);
}

static void on_sent(void *arg) {
    struct far *f = arg;

    if (far_waits(f))
        far_soon(f);
}

static void on_lost(void *arg, const char *why) {
    far_fail(arg, why);
}

/* --- its life ---------------------------------------------------------------------------------------------------- */
int far_create(struct far **out, struct event_base *base, struct disk *disk, struct session *s,
               const struct far_owner *owner, void *arg) {
    static const struct session_events events = {
        .frame = far_hear, .linked = on_linked, .room = on_room, .sent = on_sent, .lost = on_lost};
    struct far *f = calloc(1, sizeof(*f));

    if (!f) {
        session_destroy(s);
        return -ENOMEM;
    }
    *f = (struct far){.base = base, .disk = disk, .session = s, .owner = *owner, .owner_arg = arg};
    TAILQ_INIT(&f->large);
    f->later = evtimer_new(base, on_later, f);
    f->flush = evtimer_new(base, on_flush, f);
    if (!f->later || !f->flush) {
        far_destroy(f);
        return -ENOMEM;
    }
    snprintf(f->address, sizeof(f->address), "%s", session_address(s));
    session_watch(s, &events, f);
    *out = f;
    return 0;
}

void far_destroy(struct far *f) {
    int saved = errno;

    if (!f)
        return;
    session_destroy(f->session);
    for (uint32_t i = 0; i < f->count; i++)
        if (f->entries[i].used)
            entry_free(f, &f->entries[i]);
    free(f->entries);
    if (f->later)
        event_free(f->later);
    if (f->flush)
        event_free(f->flush);
    free(f->dialled);
    free(f->failed);
    free(f);
    errno = saved;
}

int far_set_name(struct far *f, const char *name, const char *dialled) {
    char *copy = dialled ? strdup(dialled) : NULL;

    if (dialled && !copy)
        return -ENOMEM;
    free(f->dialled);
    f->dialled = copy;
    snprintf(f->name, sizeof(f->name), "%s", name);
    return 0;
}

void far_begin(struct far *f, const struct pool_events *ev, void *arg) {
    f->ev = *ev;
    f->arg = arg;
    f->begun = true;
    far_must_post(f, FAR_WELCOME, 0, f->name, (uint32_t)strlen(f->name));
}

uint64_t far_probe(struct far *f) {
    return session_probe(f->session);
}

void far_hello(struct far *f, const void *id, size_t size) {
    far_must_post(f, FAR_HELLO, 0, id, (uint32_t)size);
}

void far_leave(struct far *f) {
    if (!f->session || !session_linked(f->session))
        far_fail(f, "it was let go");
    else
        far_must_post(f, FAR_LEAVE, 0, NULL, 0); /* GOODBYE comes */
}

const struct far_about *far_about(const struct far *f) {
    return &f->about;
}

const struct session *far_session(const struct far *f) {
    return f->session;
}

const char *far_name(const struct far *f) {
    return f->name;
}

const char *far_address(const struct far *f) {
    return f->address;
}

const char *far_dialled(const struct far *f) {
    return f->dialled;
}

unsigned far_cpus(const struct far *f) {
    return f->about.cpus;
}

uint64_t far_memory(const struct far *f) {
    return f->about.memory;
}

const char *far_python(const struct far *f) {
    return f->about.python;
}

uid_t far_uid(const struct far *f) {
    return f->about.uid;
}

const struct far_uids *far_uids(const struct far *f) {
    return &f->about.uids;
}

bool far_draining(const struct far *f) {
    return f->about.draining;
}

bool far_linked(const struct far *f) {
    return f->session && session_linked(f->session);
}

unsigned far_quiet_ms(const struct far *f) {
    return f->session && session_silent(f->session) ? session_quiet(f->session) : 0;
}

int64_t far_rtt_us(const struct far *f) {
    return f->session ? session_rtt(f->session) : 0;
}

int64_t far_seen_us(const struct far *f) {
    return clock_wall_us() - (f->session ? (int64_t)session_quiet(f->session) * 1000 : 0);
}
