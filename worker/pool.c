/* The pool's slots: one worker each, its link, and the work that it has.
 *
 * Work is sent the moment a worker is asked for: the bytes wait in the socket while the template forks. Calls go to
 * workers that have run calls before (their modules are loaded), work that forks the interpreter to ones that have not
 * (it is to find it as python3 would). See pool_internal.h for the states. */
#include "worker/pool.h"

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
#include "worker/pool_parts.h"
#include "worker/pyenv.h"
#include "worker/reap.h"

enum { TELL_SHORT_US = 600 * 1000000 };
enum { SLOT_FDS = 8 /* of a worker that is being made: its link, two pipes, their other ends, its page */ };

/* --- slots ------------------------------------------------------------------------------------------------------- */
static void slot_close(struct slot *s) {
    ahead_close(s);
    link_destroy(s->link);
    for (int i = 0; i < 2; i++) {
        if (s->out[i])
            event_free(s->out[i]);
        if (s->out_fd[i] >= 0)
            close(s->out_fd[i]);
    }
    *s = (struct slot){.pool = s->pool, .out_fd = {-1, -1}};
}

static void slot_hold(struct slot *s, bool hold) {
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

static unsigned pool_count(const struct pool *p, bool busy_only) {
    unsigned count = 0;

    for (size_t i = 0; i < p->slot_count; i++)
        count += p->slots[i]->state == SLOT_BUSY || (!busy_only && p->slots[i]->state == SLOT_IDLE);
    return count;
}

static struct slot *slot_by_serial(struct pool *p, uint64_t serial) {
    for (size_t i = 0; i < p->slot_count; i++)
        if (p->slots[i]->state != SLOT_EMPTY && p->slots[i]->serial == serial)
            return p->slots[i];
    return NULL;
}

struct slot *pool_slot(struct pool *p, uint64_t job) {
    for (size_t i = 0; i < p->slot_count; i++)
        if (p->slots[i]->state == SLOT_BUSY && p->slots[i]->job == job)
            return p->slots[i];
    return NULL;
}

/* Now and then: it may stay so for long. */
static void tell_short(struct pool *p, const char *what) {
    if (p->short_us && clock_us() - p->short_us < TELL_SHORT_US)
        return;
    p->short_us = clock_us();
    pool_trouble(p, "no more than %u workers, for %s: what is more waits", pool_count(p, false), what);
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
        /* Its calls had the link: it goes before anybody else's work is sent there. */
        template_kill(p, s->serial);
        last = true;
    }
    s->lease = false;
    if (last || pool_count(p, false) > p->size) {
        slot_close(s);
    } else {
        slot_hold(s, false);
        s->state = SLOT_IDLE;
        s->tainted = s->tainted || s->in_process;
    }
    if (p->waiting_count)
        wait_soon(p);
    p->ev.done(p->arg, job, o);
}

/* Where processes are short the work waits, as it does for any other want. */
static void end_unbegun(struct pool *p, struct work_outcome *o, int err) {
    o->unbegun = err == EAGAIN || err == ENOMEM;
    o->end = o->unbegun ? WORK_LOST : WORK_REFUSED;
    snprintf(o->why, sizeof(o->why), "no process could be made for the job: %s", strerror(err));
    if (o->unbegun)
        tell_short(p, err == ENOMEM ? "there is no memory for another process"
                                    : "no more processes can be made (see ulimit -u, and the pids limit of its cgroup)");
}

/* A worker that died between two calls took none along: those that it was sent run elsewhere. One that answered none may
 * never get that far. */
static bool died_between_calls(const struct slot *s) {
    return s->lease && s->in_process && s->answered && atomic_load(&s->page->seen) <= s->answered;
}

/* The job's end when its worker cannot tell it. */
static void slot_finish_dead(struct slot *s, int status, struct work_outcome *o) {
    char words[128];

    o->wall_us = clock_us() - s->started_us;
    reap_status_words(status, words, sizeof(words));
    if (s->killed) {
        *o = (struct work_outcome){.end = WORK_SIGNALED,
                                   .status = SIGKILL,
                                   .why = "killed",
                                   .wall_us = o->wall_us,
                                   .user_us = o->user_us,
                                   .system_us = o->system_us,
                                   .maxrss_kib = o->maxrss_kib};
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

/* --- what comes over a link -------------------------------------------------------------------------------------- */
static void on_frame(void *arg, const struct frame *f) {
    struct slot *s = arg;
    struct pool *p = s->pool;
    struct work_outcome o;

    if (s->killed)
        return; /* its end has been decided; EXITED follows */
    if (s->state == SLOT_BUSY && s->lease && f->kind == WORKER_ANSWER) {
        if (!ahead_told(s, f))
            goto broken;
        return;
    }
    if (s->state != SLOT_BUSY || f->id != s->job)
        goto broken;
    switch (f->kind) {
    case WORKER_RESULT:
        p->ev.output(p->arg, s->job, POOL_RESULT, f->body, f->size);
        return;
    case WORKER_TRACE:
        p->ev.output(p->arg, s->job, POOL_TRACE, f->body, f->size);
        return;
    case WORKER_DONE:
    case WORKER_LAST:
        if (work_outcome_decode(f->body, f->size, &o) || o.attempt != s->attempt)
            goto broken;
        slot_finish(s, &o, f->kind == WORKER_LAST);
        return;
    }
broken: /* a call can reach the link of its worker, so this may be its doing: the end of that worker, no more */
    template_kill(p, s->serial);
    if (s->state == SLOT_IDLE)
        slot_close(s);
}

static void on_link_closed(void *arg, int err) {
    struct slot *s = arg;

    if (s->state == SLOT_IDLE)
        slot_close(s);
    else if (err && err != ECONNRESET && err != EPIPE) /* nonsense; at an end of file EXITED follows, or the job goes on without its link */
        template_kill(s->pool, s->serial);
}

/* --- what the template says -------------------------------------------------------------------------------------- */
void pool_on_spawned(struct pool *p, uint64_t serial, int value) {
    struct slot *s = slot_by_serial(p, serial);
    struct work_outcome o = {.end = WORK_REFUSED};

    if (value < 0)
        end_unbegun(p, &o, -value);
    if (p->asked)
        p->asked--;
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

void pool_on_exited(struct pool *p, const struct control *c) {
    struct slot *s = slot_by_serial(p, c->serial);

    if (s && s->state == SLOT_BUSY && !s->killed)
        link_drain(s->link); /* perhaps its last words were an outcome */
    s = slot_by_serial(p, c->serial);
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

void pool_on_template_gone(struct pool *p, bool refused) {
    uint64_t before = p->next_serial; /* done() may ask for new workers, of a new template */
    struct work_outcome none = {.end = p->give_back ? WORK_LOST : WORK_REFUSED};
    struct waiting *waiting = refused ? wait_take_all(p) : NULL;

    for (size_t i = 0; i < p->slot_count; i++) {
        struct slot *s = p->slots[i];
        uint64_t serial = s->serial;
        if (s->state == SLOT_EMPTY || serial >= before)
            continue;
        if (s->state == SLOT_BUSY && !s->killed)
            link_drain(s->link);
        if (s->state == SLOT_EMPTY || s->serial != serial)
            continue;
        if (s->state == SLOT_IDLE) {
            slot_close(s);
            continue;
        }
        struct work_outcome o = {.end = refused && !p->give_back ? WORK_REFUSED : WORK_LOST, .wall_us = clock_us() - s->started_us};
        snprintf(o.why, sizeof(o.why), "%s", p->trouble);
        if (s->killed)
            slot_finish_dead(s, SIGKILL, &o);
        else
            slot_finish(s, &o, true);
    }
    snprintf(none.why, sizeof(none.why), "%s", p->trouble);
    wait_end_all(p, waiting, &none);
}

/* --- giving work ------------------------------------------------------------------------------------------------- */
static struct slot *slot_empty(struct pool *p) {
    for (size_t i = 0; i < p->slot_count; i++)
        if (p->slots[i]->state == SLOT_EMPTY)
            return p->slots[i];
    struct slot **bigger = realloc(p->slots, (p->slot_count + 1) * sizeof(struct slot *));
    if (!bigger)
        return NULL;
    p->slots = bigger;
    struct slot *s = calloc(1, sizeof(*s));
    if (!s)
        return NULL;
    *s = (struct slot){.pool = p, .out_fd = {-1, -1}};
    return p->slots[p->slot_count++] = s;
}

/* Asks for a worker in an empty slot. 0 or -errno, the slot being empty then. */
static int slot_open(struct slot *s) {
    static const struct link_events link_events = {.frame = on_frame, .closed = on_link_closed};
    struct pool *p = s->pool;
    int ends[3][2] = {{-1, -1}, {-1, -1}, {-1, -1}}, page = -1, err = 0;

    if (template_busy(p))
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
        s->serial = p->next_serial++;
        err = template_spawn(p, s->serial, theirs);
    }
    if (!err) {
        err = link_create(&s->link, p->base, ends[0][0], &link_events, s);
        ends[0][0] = -1; /* the link's, or closed by it */
    }
    if (!err) {
        err = pipe_listen(s, POOL_STDOUT, ends[1][0]);
        ends[1][0] = -1;
    }
    if (!err) {
        err = pipe_listen(s, POOL_STDERR, ends[2][0]);
        ends[2][0] = -1;
    }
    for (int i = 0; i < 3; i++)
        for (int side = 0; side < 2; side++)
            if (ends[i][side] >= 0)
                close(ends[i][side]);
    if (page >= 0)
        close(page);
    if (err)
        slot_close(s);
    else
        s->state = SLOT_IDLE;
    if (!descriptors_short(-err))
        return err;
    char what[80];
    snprintf(what, sizeof(what), "there are no more descriptors (ulimit -Hn is %u)", descriptors_limit());
    tell_short(p, what);
    return -EAGAIN;
}

/* An idle slot that suits w, NULL when there is none. clean: it must not have run a call in process. */
static struct slot *slot_idle(struct pool *p, bool clean, bool prefer_tainted) {
    struct slot *found = NULL;

    for (size_t i = 0; i < p->slot_count; i++) {
        struct slot *s = p->slots[i];
        if (s->state != SLOT_IDLE || (clean && s->tainted))
            continue;
        if (s->tainted == prefer_tainted)
            return s;
        found = s;
    }
    return found;
}

/* The slot that is to do w, with a worker in it or on its way. */
static int slot_for(struct pool *p, const struct work *w, struct slot **out) {
    bool program = w->kind == WORK_PROGRAM || w->kind == WORK_JSON_RUN;
    bool clean = work_isolated(w) && !program;

    *out = slot_idle(p, clean, !clean);
    if (*out)
        return 0;
    if (pool_count(p, true) >= p->size)
        return -EBUSY; /* the pool shrank while it waited */
    if (pool_count(p, false) >= p->size) /* all idle ones are tainted: one of them leaves for a fresh one */
        slot_close(slot_idle(p, false, true));
    *out = slot_empty(p);
    return *out ? slot_open(*out) : -ENOMEM;
}

int pool_give(struct pool *p, const struct work *w, const void *bytes, uint32_t size) {
    struct slot *s;
    int err;

    do {
        err = slot_for(p, w, &s);
        if (!err)
            err = link_send(s->link, WORKER_START, w->job, bytes, size);
        if (err == -EPIPE) /* that worker has just died: its slot goes, the next try finds another */
            slot_close(s);
    } while (err == -EPIPE);
    if (err)
        return err;
    s->state = SLOT_BUSY;
    s->job = w->job;
    s->attempt = w->attempt;
    s->killed = false;
    s->in_process = !work_isolated(w);
    s->started_us = clock_us();
    s->lease = work_is_lease(w);
    if (s->lease)
        ahead_begin(s);
    return 0;
}

int pool_start(struct pool *p, const struct work *w) {
    void *bytes;
    uint32_t size;
    int err;

    if (pool_count(p, true) + p->waiting_count >= p->size)
        return -EAGAIN;
    err = work_encode(w, &bytes, &size);
    if (err)
        return err;
    /* What came before goes before. */
    err = template_usable(p) && !p->waiting_count ? pool_give(p, w, bytes, size) : -EBUSY;
    if (err == -EBUSY) {
        err = wait_add(p, w->job, bytes, size);
        if (!err)
            return 0;
    } else if (err && err != -ENOMEM && err != -EAGAIN) {
        err = wait_refuse_start(p, w, err);
    }
    free(bytes);
    return err;
}

void pool_kill(struct pool *p, uint64_t job) {
    struct slot *s = pool_slot(p, job);
    struct work_outcome o = {.end = WORK_SIGNALED, .status = SIGKILL, .why = "killed"};

    if ((!s && wait_end(p, job, &o)) || !s || s->killed)
        return;
    s->killed = true;
    s->killed_us = clock_us();
    template_kill(p, s->serial);
}

void pool_hold(struct pool *p, uint64_t job, bool hold) {
    struct slot *s = pool_slot(p, job);

    if (s)
        slot_hold(s, hold);
    else
        wait_hold(p, job, hold);
}

/* --- the pool ---------------------------------------------------------------------------------------------------- */
void pool_resize(struct pool *p, unsigned workers) {
    p->size = workers;
    for (size_t i = 0; i < p->slot_count && pool_count(p, false) > p->size; i++)
        if (p->slots[i]->state == SLOT_IDLE)
            slot_close(p->slots[i]);
}

const char *pool_python(const struct pool *p) {
    return p->version;
}

pid_t pool_template(const struct pool *p) {
    return p->template;
}

int pool_create(struct pool **out, struct event_base *base, const struct pool_config *config,
                const struct pool_events *ev, void *arg) {
    struct pool *p = calloc(1, sizeof(*p));
    char why[512];
    int err = -ENOMEM;

    if (!p)
        return err;
    *p = (struct pool){.base = base, .ev = *ev, .arg = arg, .size = config->workers, .give_back = config->give_back, .next_serial = 1, .control = -1, .root_fd = -1};
    p->worker_path = strdup(config->worker_path);
    if (!p->worker_path || pipe_open(p))
        goto out;
    err = access(p->worker_path, X_OK) ? -errno : pyenv_resolve(config->python, &p->program, why, sizeof(why));
    if (!err)
        err = wait_open(p);
    if (!err)
        err = template_open(p);
    if (!err)
        *out = p;
out:
    if (err)
        pool_destroy(p);
    return err;
}

void pool_destroy(struct pool *p) {
    int saved = errno;

    if (!p)
        return;
    for (size_t i = 0; i < p->slot_count; i++) {
        slot_close(p->slots[i]);
        free(p->slots[i]);
    }
    free(p->slots);
    template_close(p);
    wait_close(p);
    free(p->buffer);
    free(p->program);
    free(p->worker_path);
    free(p);
    errno = saved;
}
