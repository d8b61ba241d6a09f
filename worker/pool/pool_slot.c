/* A slot: one worker, its link and its work: opening it, frames of the link, ends of work. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "net/clock.h"
#include "net/descriptors.h"
#include "net/event.h"
#include "net/states.h"
#include "worker/pool/pool_parts.h"
#include "worker/runner/reap.h"

enum { SERIAL_BITS = 20, SLOTS_MAX = 1 << SERIAL_BITS };
enum { TELL_SHORT_US = 600 * 1000000 };
enum { SLOT_FDS = 8 /* of a new worker: its link, two pipes, their other ends, its page */ };

static const struct state slot_table[] = {
    [SLOT_EMPTY] = {"empty", 1u << SLOT_IDLE},
    [SLOT_IDLE] = {"idle", 1u << SLOT_BUSY | 1u << SLOT_EMPTY},
    [SLOT_BUSY] = {"busy", 1u << SLOT_IDLE},
};
static const struct states slot_states = {"worker", slot_table, SLOT_BUSY + 1};

static void become(struct slot *s, enum slot_state to) {
    states_changed(&slot_states, s->serial >> SERIAL_BITS, NULL, s->state, to);
    s->state = to;
}

/* --- slots ------------------------------------------------------------------------------------------------------- */
/* Takes its job from it; a BUSY slot becomes IDLE. */
static void slot_rest(struct slot *s) {
    if (s->state != SLOT_BUSY)
        return;
    LIST_REMOVE(s, same_place);
    s->pool->busy--;
    become(s, SLOT_IDLE);
}

void slot_close(struct slot *s) {
    ahead_close(s);
    link_destroy(s->link);
    for (int i = 0; i < 2; i++) {
        event_drop(s->out[i]);
        if (s->out_fd[i] >= 0)
            close(s->out_fd[i]);
    }
    slot_rest(s);
    if (s->state != SLOT_EMPTY) {
        become(s, SLOT_EMPTY);
        s->pool->live--;
    }
    *s = (struct slot){.pool = s->pool, .index = s->index, .out_fd = {-1, -1}};
}

void slot_begin(struct slot *s, const struct order *o) {
    become(s, SLOT_BUSY);
    s->job = o->job;
    s->attempt = o->attempt;
    s->killed = false;
    s->in_process = !o->isolated;
    s->started_us = clock_us();
    s->lease = o->lease;
    s->pool->busy++;
    LIST_INSERT_HEAD(&s->pool->jobs[o->job % JOB_PLACES], s, same_place);
    if (s->lease)
        ahead_begin(s);
}

void slot_hold(struct slot *s, bool hold) {
    if (s->held == hold)
        return;
    s->held = hold;
    link_hold(s->link, hold);
    for (int i = 0; i < 2; i++)
        if (hold)
            event_del(s->out[i]);
        else
            event_add(s->out[i], NULL);
}

unsigned slots_count(const struct pool *p, bool busy_only) {
    return busy_only ? p->busy : p->live;
}

static struct slot *slot_by_serial(struct forkserver *t, uint64_t serial) {
    size_t index = serial & (SLOTS_MAX - 1);
    struct slot *s = index < t->pool->slot_count ? t->pool->slots[index] : NULL;

    return s && s->state != SLOT_EMPTY && s->forkserver == t && s->serial == serial ? s : NULL;
}

struct slot *pool_slot(struct pool *p, uint64_t job) {
    struct slot *s;

    LIST_FOREACH(s, &p->jobs[job % JOB_PLACES], same_place)
        if (s->job == job)
            return s;
    return NULL;
}

void slots_tell_short(struct pool *p, const char *what) {
    if (p->short_us && clock_us() - p->short_us < TELL_SHORT_US)
        return;
    p->short_us = clock_us();
    pool_trouble(p, "no more than %u workers, for %s: what is more waits", slots_count(p, false), what);
}

/* The job in this slot has ended. The slot is free before done() is called, which may give new work. */
static void slot_finish(struct slot *s, struct work_outcome *o, bool last) {
    struct pool *p = s->pool;
    uint64_t job = s->job;

    pool_drain(s);
    o->attempt = s->attempt;
    s->user_us += o->user_us;
    s->system_us += o->system_us;
    if (s->lease && !s->in_process) {
        /* Its calls could reach the link: the worker ends before other work is sent there. */
        forkserver_kill(s->forkserver, s->serial);
        last = true;
    }
    s->lease = false;
    s->idle_us = s->forkserver->used_us = clock_us();
    if (last || slots_count(p, false) > p->size) {
        slot_close(s);
    } else {
        slot_hold(s, false);
        slot_rest(s);
        s->tainted = s->tainted || s->in_process;
    }
    if (p->waiting_count)
        wait_soon(p);
    p->ev.done(p->arg, job, o);
}

/* Work waits where processes are short, as for any other shortage. */
static void end_unbegun(struct pool *p, struct work_outcome *o, int err) {
    o->unbegun = o->no_room = err == EAGAIN || err == ENOMEM;
    o->end = o->unbegun ? WORK_LOST : WORK_REFUSED;
    snprintf(o->why, sizeof(o->why), "no process could be made for the job: %s", strerror(err));
    if (!o->unbegun)
        return;
    p->wants_room = true;
    wait_soon(p);
    slots_tell_short(p, err == ENOMEM
                            ? "there is no memory for another process"
                            : "no more processes can be made (see ulimit -u, and the pids limit of its cgroup)");
}

/* Whether the work, or an unanswered call of it, has begun. */
static bool has_begun(const struct slot *s) {
    return atomic_load(&s->page->took) == s->job && (!s->lease || atomic_load(&s->page->seen) > s->answered);
}

/* A worker that died between two calls lost none: the others run elsewhere. One without an answer may never get that
 * far. */
static bool died_between_calls(const struct slot *s) {
    return s->lease && s->in_process && s->answered && atomic_load(&s->page->seen) <= s->answered;
}

/* The job's end when its worker cannot tell it. */
static void slot_finish_dead(struct slot *s, int status, struct work_outcome *o) {
    char words[128];

    o->wall_us = clock_us() - s->started_us;
    reap_status_words(status, words, sizeof(words));
    if (s->killed) {
        o->end = WORK_SIGNALED;
        o->status = SIGKILL;
        o->unbegun = false;
        strcpy(o->why, "killed");
    } else if (died_between_calls(s)) {
        o->end = WORK_DONE;
    } else if (WIFSIGNALED(status)) {
        o->end = WORK_SIGNALED;
        o->status = WTERMSIG(status);
        snprintf(o->why, sizeof(o->why), "%s%s", s->in_process ? "" : "its worker was ", words);
    } else if (WEXITSTATUS(status) == WORKER_EXIT_NO_FORK && !atomic_load(&s->page->runs)) {
        end_unbegun(s->pool, o, EAGAIN);
    } else {
        o->end = WORK_EXITED;
        o->status = WEXITSTATUS(status);
        if (o->status == WORKER_EXIT_CUT)
            snprintf(o->why, sizeof(o->why), "the job closed the connection of its worker, so its result is lost");
        else
            snprintf(o->why, sizeof(o->why), "the %s ended its process with %s", s->in_process ? "call" : "worker",
                     words);
    }
    slot_finish(s, o, true);
}

/* --- frames ------------------------------------------------------------------------------------------------------ */
static void on_frame(void *arg, const struct frame *f) {
    struct slot *s = arg;
    struct pool *p = s->pool;
    struct work_outcome o;
    uint32_t low = (uint32_t)f->id;

    if (s->killed)
        return; /* its end is decided; EXITED follows */
    if (s->state != SLOT_BUSY || message_ref(f->id) != (uint32_t)s->job)
        goto broken;
    switch (f->kind) {
    case MESSAGE_OUTPUT:
        if (low < OUTPUT_RESULT || low > OUTPUT_FILES)
            goto broken;
        p->ev.output(p->arg, s->job, (enum output_kind)low, f->body, f->size);
        return;
    case MESSAGE_DONE:
    case MESSAGE_LAST:
        if (work_outcome_decode(f->body, f->size, &o) || o.attempt != s->attempt || o.end == WORK_LOST)
            goto broken;
        slot_finish(s, &o, f->kind == MESSAGE_LAST);
        return;
    default:
        if (s->lease && ahead_told(s, f))
            return;
    }
broken: /* a call can reach the link of its worker, so this may be its doing: the worker ends, no more */
    forkserver_kill(s->forkserver, s->serial);
    if (s->state == SLOT_IDLE)
        slot_close(s);
}

static void on_link_closed(void *arg, int err) {
    struct slot *s = arg;

    if (s->state == SLOT_IDLE)
        slot_close(s);
    else if (err && err != ECONNRESET &&
             err != EPIPE) /* nonsense; after end of file EXITED follows, or the job goes on without a link */
        forkserver_kill(s->forkserver, s->serial);
}

/* --- what the fork server says --------------------------------------------------------------------------------- */
void pool_on_spawned(struct forkserver *t, uint64_t serial, int value) {
    struct pool *p = t->pool;
    struct slot *s = slot_by_serial(t, serial);
    struct work_outcome o = {.end = WORK_REFUSED};

    if (value < 0)
        end_unbegun(p, &o, -value);
    if (t->asked)
        t->asked--;
    if (p->waiting_count)
        wait_soon(p);
    if (!s)
        return;
    if (value > 0) {
        s->guard = value;
        return;
    }
    if (s->state == SLOT_BUSY)
        slot_finish(s, &o, true);
    else
        slot_close(s);
}

void pool_on_exited(struct forkserver *t, const struct control *c) {
    struct slot *s = slot_by_serial(t, c->serial);

    if (s && s->state == SLOT_BUSY && !s->killed)
        link_drain(s->link); /* its last frame may be an outcome */
    s = slot_by_serial(t, c->serial);
    if (!s)
        return;
    if (s->state != SLOT_BUSY) {
        slot_close(s);
        return;
    }
    struct work_outcome o = {.maxrss_kib = c->maxrss_kib};
    if (c->user_us > s->user_us)
        o.user_us = c->user_us - s->user_us;
    if (c->system_us > s->system_us)
        o.system_us = c->system_us - s->system_us;
    slot_finish_dead(s, c->value, &o);
}

void pool_on_forkserver_gone(struct forkserver *t, bool refused) {
    struct pool *p = t->pool;
    uint64_t before = p->next_serial << SERIAL_BITS; /* done() may ask for workers of the next process */
    struct work_outcome none = {.end = p->give_back ? WORK_LOST : WORK_REFUSED, .unbegun = p->give_back};
    struct waiting *waiting = refused ? wait_take_all(t) : NULL;

    for (size_t i = 0; i < p->slot_count; i++) {
        struct slot *s = p->slots[i];
        uint64_t serial = s->serial;
        if (s->state == SLOT_EMPTY || s->forkserver != t || serial >= before)
            continue;
        if (s->state == SLOT_BUSY && !s->killed)
            link_drain(s->link);
        if (s->state == SLOT_EMPTY || s->serial != serial)
            continue;
        if (s->state == SLOT_IDLE) {
            slot_close(s);
            continue;
        }
        struct work_outcome o = {.end = refused && !p->give_back ? WORK_REFUSED : WORK_LOST,
                                 .wall_us = clock_us() - s->started_us};
        o.unbegun = o.end == WORK_LOST && !has_begun(s);
        snprintf(o.why, sizeof(o.why), "%s", t->trouble);
        if (s->killed)
            slot_finish_dead(s, SIGKILL, &o);
        else
            slot_finish(s, &o, true);
    }
    snprintf(none.why, sizeof(none.why), "%s", t->trouble);
    wait_end_all(p, waiting, &none);
}

/* --- giving work ------------------------------------------------------------------------------------------------- */
struct slot *slot_empty(struct pool *p) {
    for (size_t i = 0; i < p->slot_count; i++)
        if (p->slots[i]->state == SLOT_EMPTY)
            return p->slots[i];
    struct slot **bigger =
        p->slot_count < SLOTS_MAX ? realloc(p->slots, (p->slot_count + 1) * sizeof(struct slot *)) : NULL;
    if (!bigger)
        return NULL;
    p->slots = bigger;
    struct slot *s = calloc(1, sizeof(*s));
    if (!s)
        return NULL;
    *s = (struct slot){.pool = p, .index = p->slot_count, .out_fd = {-1, -1}};
    return p->slots[p->slot_count++] = s;
}

int slot_open(struct slot *s, struct forkserver *t) {
    static const struct link_events link_events = {.frame = on_frame, .closed = on_link_closed};
    struct pool *p = s->pool;
    int ends[3][2] = {{-1, -1}, {-1, -1}, {-1, -1}}, page = -1, err = 0;

    if (forkserver_busy(t))
        err = -EBUSY;
    else if (!descriptors_spare(SLOT_FDS, DESCRIPTORS_FOR_FILES))
        err = -EMFILE;
    else
        err = ahead_open(s, &page);
    if (!err && (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends[0]) || pipe2(ends[1], O_CLOEXEC) ||
                 pipe2(ends[2], O_CLOEXEC)))
        err = -errno;
    int theirs[4] = {ends[0][1], ends[1][1], ends[2][1], page};
    if (!err) {
        s->forkserver = t;
        s->idle_us = clock_us();
        s->serial = p->next_serial++ << SERIAL_BITS | s->index;
        err = forkserver_spawn(t, s->serial, theirs);
    }
    if (!err) {
        err = link_create(&s->link, p->base, ends[0][0], &link_events, s);
        ends[0][0] = -1; /* the link's, or closed by it */
    }
    for (int i = OUTPUT_STDOUT; !err && i <= OUTPUT_STDERR; i++) {
        err = pipe_listen(s, (enum output_kind)i, ends[1 + i][0]);
        ends[1 + i][0] = -1;
    }
    for (int i = 0; i < 3; i++)
        for (int side = 0; side < 2; side++)
            if (ends[i][side] >= 0)
                close(ends[i][side]);
    if (page >= 0)
        close(page);
    if (err) {
        slot_close(s);
        return err;
    }
    become(s, SLOT_IDLE);
    p->live++;
    return 0;
}

struct slot *slot_oldest_idle(const struct pool *p) {
    struct slot *found = NULL;

    for (size_t i = 0; i < p->slot_count; i++) {
        struct slot *s = p->slots[i];
        if (s->state == SLOT_IDLE && (!found || s->idle_us < found->idle_us))
            found = s;
    }
    return found;
}
