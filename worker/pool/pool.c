/* The pool: who does which work.
 *
 * Work goes to workers of its user: what one user's work leaves in a process, or in a pipe, meets nobody else's. It is
 * sent the moment a worker is asked for: the bytes wait in the socket while the template forks. Calls go to workers
 * that have run calls before (their modules are loaded), work that forks the interpreter to ones that have not (it is
 * to find it as python3 would). See pool_internal.h for the states. */
#include "worker/pool/pool.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "net/clock.h"
#include "net/descriptors.h"
#include "worker/pool/pool_parts.h"
#include "worker/runner/pyenv.h"

enum { KEEP_MS = 300000 /* a template of another user's that has nothing to do */ };

/* An idle slot of that template that suits, NULL when there is none. clean: it must not have run a call in process. */
static struct slot *slot_idle(struct template *t, bool clean, bool prefer_tainted) {
    struct pool *p = t->pool;
    struct slot *found = NULL;

    for (size_t i = 0; i < p->slot_count; i++) {
        struct slot *s = p->slots[i];
        if (s->state != SLOT_IDLE || s->template != t || (clean && s->tainted))
            continue;
        if (s->tainted == prefer_tainted)
            return s;
        found = s;
    }
    return found;
}

/* A slot with a worker of that template on its way. Idle ones suit nobody here: where they are too many, the oldest
 * leaves. */
static int slot_new(struct template *t, struct slot **out) {
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

/* The slot that is to do w, with a worker in it or on its way. */
static int slot_for(struct template *t, const struct work *w, struct slot **out) {
    bool program = w->kind == WORK_PROGRAM || w->kind == WORK_JSON_RUN;
    bool clean = work_isolated(w) && !program;

    *out = slot_idle(t, clean, !clean);
    if (*out)
        return 0;
    if (slots_count(t->pool, true) >= t->pool->size)
        return -EBUSY; /* the pool shrank while it waited */
    return slot_new(t, out);
}

int pool_give(struct template *t, const struct work *w, const void *bytes, uint32_t size) {
    struct slot *s;
    int err;

    do {
        err = slot_for(t, w, &s);
        if (!err) {
            atomic_store(&s->page->took, 0); /* it may be that job's second attempt */
            err = link_send(s->link, WORKER_START, w->job, bytes, size);
        }
        if (err == -EPIPE) /* that worker has just died: its slot goes, the next try finds another */
            slot_close(s);
    } while (err == -EPIPE);
    if (err)
        return err;
    slot_begin(s, w->job);
    t->used_us = clock_us();
    s->attempt = w->attempt;
    s->killed = false;
    s->in_process = !work_isolated(w);
    s->started_us = t->used_us;
    s->lease = work_is_lease(w);
    if (s->lease)
        ahead_begin(s);
    return 0;
}

/* Only root can be somebody else: nothing of the work is sent anywhere then. */
static int refuse_user(struct pool *p, const struct work *w) {
    struct work_outcome o = {.attempt = w->attempt, .end = WORK_REFUSED};

    snprintf(o.why, sizeof(o.why), "this ppfs may only run jobs of its own user, not of user %u", (unsigned)w->uid);
    return wait_refuse(p, w->job, &o);
}

int pool_start(struct pool *p, const struct work *w) {
    void *bytes;
    uint32_t size;
    int err;

    if (slots_count(p, true) + p->waiting_count >= p->size)
        return -EAGAIN;
    if (w->uid != p->own->uid && p->own->uid != 0)
        return refuse_user(p, w);
    struct template *t = users_template(p, w->uid);
    if (!t)
        return errno == ENOMEM ? -ENOMEM : wait_refuse_start(p, w, -errno);
    err = work_encode(w, &bytes, &size);
    if (err)
        return err;
    /* What came before goes before. */
    err = template_usable(t) && TAILQ_EMPTY(&t->waiting) ? pool_give(t, w, bytes, size) : -EBUSY;
    if (err == -EBUSY) {
        err = wait_add(t, w->job, bytes, size);
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
    template_kill(s->template, s->serial);
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
    for (size_t i = 0; i < p->slot_count && slots_count(p, false) > p->size; i++)
        if (p->slots[i]->state == SLOT_IDLE)
            slot_close(p->slots[i]);
}

const char *pool_python(const struct pool *p) {
    return p->version;
}

pid_t pool_template(const struct pool *p) {
    return p->own->pid;
}

int pool_create(struct pool **out, struct event_base *base, const struct pool_config *config,
                const struct pool_events *ev, void *arg) {
    struct pool *p = calloc(1, sizeof(*p));
    char why[512];
    int err = -ENOMEM;

    if (!p)
        return err;
    *p = (struct pool){.base = base, .ev = *ev, .arg = arg, .size = config->workers, .next_serial = 1};
    p->give_back = config->give_back;
    p->suid_jobs = config->suid_jobs;
    p->check_groups = config->check_groups;
    TAILQ_INIT(&p->templates);
    p->keep_us = (config->keep_ms ? config->keep_ms : KEEP_MS) * INT64_C(1000);
    p->worker_path = strdup(config->worker_path);
    if (!p->worker_path || pipe_open(p))
        goto out;
    err = access(p->worker_path, X_OK) ? -errno : pyenv_resolve(config->python, &p->program, why, sizeof(why));
    if (!err)
        err = wait_open(p);
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
    int saved = errno;

    if (!p)
        return;
    for (size_t i = 0; i < p->slot_count; i++) {
        slot_close(p->slots[i]);
        free(p->slots[i]);
    }
    free(p->slots);
    users_close(p);
    wait_close(p);
    free(p->buffer);
    free(p->program);
    free(p->worker_path);
    free(p);
    errno = saved;
}
