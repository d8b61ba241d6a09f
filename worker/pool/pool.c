/* The pool: which worker does which work.
 *
 * Work goes to workers of its user, so that nothing it leaves in a process or a pipe meets another user's. It is sent
 * when a worker is asked for: the bytes wait in the socket while the fork server forks. Calls go to workers that have
 * run calls before (their modules are loaded), work that forks the interpreter to fresh ones (as python3 would find
 * it). See pool_internal.h for the states. */
#include "worker/pool/pool.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "net/clock.h"
#include "net/descriptors.h"
#include "net/event.h"
#include "worker/pool/pool_parts.h"
#include "worker/runner/pyenv.h"

enum { KEEP_MS = 300000 /* for an idle fork server of another user */, RETRY_US = 100000 };

/* A suitable idle slot of that fork server, or NULL. clean: its worker has run no call in process. */
static struct slot *slot_idle(struct forkserver *t, bool clean, bool prefer_tainted) {
    struct pool *p = t->pool;
    struct slot *found = NULL;

    for (size_t i = 0; i < p->slot_count; i++) {
        struct slot *s = p->slots[i];
        if (s->state != SLOT_IDLE || s->forkserver != t || (clean && s->tainted))
            continue;
        if (s->tainted == prefer_tainted)
            return s;
        found = s;
    }
    return found;
}

/* A slot with a new worker of that fork server. No idle worker suits: if there are too many the oldest leaves. */
static int slot_new(struct forkserver *t, struct slot **out) {
    struct pool *p = t->pool;
    struct slot *idle;
    char what[80];
    int err;

    if (slots_count(p, false) >= p->size)
        slot_close(slot_oldest_idle(p));
    do {
        *out = slot_empty(p);
        err = *out ? slot_open(*out, t) : -ENOMEM;
        idle = descriptors_short(-err) ? slot_oldest_idle(p) : NULL;
        if (idle)
            slot_close(idle);
    } while (idle);
    if (!descriptors_short(-err))
        return err;
    snprintf(what, sizeof(what), "there are no more descriptors (ulimit -Hn is %u)", descriptors_limit());
    slots_tell_short(p, what);
    return -EAGAIN;
}

/* The slot for the work, with a worker in it or being made. */
static int slot_for(struct forkserver *t, const struct order *o, struct slot **out) {
    bool clean = o->isolated && !o->program;

    *out = slot_idle(t, clean, !clean);
    if (*out)
        return 0;
    if (slots_count(t->pool, true) >= t->pool->size)
        return -EBUSY; /* the pool shrank while it waited */
    return slot_new(t, out);
}

/* 0; -EBUSY: it has to wait for a worker; -EAGAIN: there are not enough descriptors for one; or -errno. */
static int give(struct forkserver *t, const struct order *o) {
    struct slot *s;
    int err;

    do {
        err = slot_for(t, o, &s);
        if (!err) {
            atomic_store(&s->page->took, 0); /* it may be a second attempt of that job */
            err = link_send(s->link, MESSAGE_START, message_id((uint32_t)o->job, 0), o->bytes, o->size);
        }
        if (err == -EPIPE) /* the worker has just died: tries another slot */
            slot_close(s);
    } while (err == -EPIPE);
    if (err)
        return err;
    t->used_us = clock_us();
    slot_begin(s, o);
    return 0;
}

/* Gives out waiting work of that fork server, as far as there are workers. */
static void give_waiting(struct forkserver *t) {
    struct pool *p = t->pool;
    struct waiting *w;

    while ((w = TAILQ_FIRST(&t->waiting)) && forkserver_usable(t)) {
        const struct order *o = &w->order;
        int err = give(t, o);
        if (err == -EAGAIN) /* the giver may have another host for it, or take workers from others */
            err = wait_refuse(
                p, o->job,
                &(struct work_outcome){.attempt = o->attempt, .end = WORK_LOST, .unbegun = true, .no_room = true});
        else if (err && err != -EBUSY && err != -ENOMEM)
            err = wait_refuse_start(p, o->job, o->attempt, err);
        if (err) {
            /* the next SPAWNED or end of a job comes here again; after another error the timer does */
            if (err != -EBUSY)
                event_add(t->retry, &(struct timeval){.tv_usec = RETRY_US});
            return;
        }
        struct slot *s = w->hold ? pool_slot(p, o->job) : NULL;
        if (s)
            slot_hold(s, true);
        wait_remove(w);
    }
}

static void on_soon(evutil_socket_t fd, short what, void *arg) {
    struct pool *p = arg;
    struct forkserver *t;

    if (p->wants_room)
        users_make_room(p);
    p->wants_room = false;
    wait_tell_refused(p);
    TAILQ_FOREACH(t, &p->forkservers, next)
        give_waiting(t);
}

/* Only root can become another user: the work is sent to no worker. */
static int refuse_user(struct pool *p, const struct work *w) {
    struct work_outcome o = {.attempt = w->attempt, .end = WORK_REFUSED};

    snprintf(o.why, sizeof(o.why), "this ppfs may only run jobs of its own user, not of user %u", (unsigned)w->uid);
    return wait_refuse(p, w->job, &o);
}

static int start(void *self, const struct work *w) {
    struct pool *p = self;
    void *bytes;
    uint32_t size;

    if (slots_count(p, true) + p->waiting_count >= p->size)
        return -EAGAIN;
    if (w->uid != p->own->uid && p->own->uid != 0)
        return refuse_user(p, w);
    struct forkserver *t = users_forkserver(p, w->uid);
    if (!t)
        return errno == ENOMEM ? -ENOMEM : wait_refuse_start(p, w->job, w->attempt, -errno);
    int err = work_encode(w, &bytes, &size);
    if (err)
        return err;
    struct order o = {.job = w->job, .attempt = w->attempt, .bytes = bytes, .size = size};
    o.lease = work_is_lease(w);
    o.isolated = work_isolated(w);
    o.program = w->kind == WORK_PROGRAM || w->kind == WORK_JSON_RUN;
    /* Earlier work goes first. */
    err = forkserver_usable(t) && TAILQ_EMPTY(&t->waiting) ? give(t, &o) : -EBUSY;
    if (err == -EBUSY) {
        err = wait_add(t, &o);
        if (!err)
            return 0;
    } else if (err && err != -ENOMEM && err != -EAGAIN) {
        err = wait_refuse_start(p, w->job, w->attempt, err);
    }
    free(bytes);
    return err;
}

static void kill_job(void *self, uint64_t job) {
    struct pool *p = self;
    struct slot *s = pool_slot(p, job);
    struct work_outcome o = {.end = WORK_SIGNALED, .status = SIGKILL, .why = "killed"};

    if ((!s && wait_end(p, job, &o)) || !s || s->killed)
        return;
    s->killed = true;
    s->killed_us = clock_us();
    forkserver_kill(s->forkserver, s->serial);
}

static void hold_job(void *self, uint64_t job, bool hold) {
    struct slot *s = pool_slot(self, job);

    if (s)
        slot_hold(s, hold);
    else
        wait_hold(self, job, hold);
}

static void resize(void *self, unsigned workers) {
    struct pool *p = self;

    p->size = workers;
    for (size_t i = 0; i < p->slot_count && slots_count(p, false) > p->size; i++)
        if (p->slots[i]->state == SLOT_IDLE)
            slot_close(p->slots[i]);
}

void pool_runner(struct pool *p, struct runner *out) {
    static const struct runner_ops ops = {.start = start,
                                          .call = pool_call,
                                          .function = pool_function,
                                          .piece = pool_piece,
                                          .finish = pool_finish,
                                          .recall = pool_recall,
                                          .flush = pool_flush,
                                          .kill = kill_job,
                                          .hold = hold_job,
                                          .resize = resize};

    *out = (struct runner){.ops = &ops, .self = p};
}

/* --- the pool ---------------------------------------------------------------------------------------------------- */
const char *pool_python(const struct pool *p) {
    return p->version;
}

pid_t pool_forkserver(const struct pool *p) {
    return p->own->pid;
}

int pool_create(struct pool **out, struct event_base *base, const struct pool_config *config,
                const struct runner_events *ev, void *arg) {
    struct pool *p = calloc(1, sizeof(*p));
    char why[512];
    int err = -ENOMEM;

    if (!p)
        return err;
    *p = (struct pool){.base = base, .ev = *ev, .arg = arg, .size = config->workers, .next_serial = 1};
    p->give_back = config->give_back;
    p->suid_jobs = config->suid_jobs;
    p->check_groups = config->check_groups;
    TAILQ_INIT(&p->forkservers);
    STAILQ_INIT(&p->refusals);
    p->keep_us = (config->keep_ms ? config->keep_ms : KEEP_MS) * INT64_C(1000);
    p->worker_path = strdup(config->worker_path);
    if (!p->worker_path || pipe_open(p))
        goto out;
    err = access(p->worker_path, X_OK) ? -errno : pyenv_resolve(config->python, &p->program, why, sizeof(why));
    p->soon = evtimer_new(base, on_soon, p);
    if (!err)
        err = p->soon ? ahead_create(p) : -ENOMEM;
    if (!err)
        err = users_open(p);
    if (!err)
        *out = p;
out:
    if (err)
        pool_destroy(p);
    return err;
}

void pool_destroy(struct pool *p) {
    if (!p)
        return;
    for (size_t i = 0; i < p->slot_count; i++) {
        slot_close(p->slots[i]);
        free(p->slots[i]);
    }
    free(p->slots);
    users_close(p);
    wait_close(p);
    event_drop(p->soon);
    event_drop(p->flush);
    free(p->buffer);
    free(p->program);
    free(p->worker_path);
    free(p);
}
