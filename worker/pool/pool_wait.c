/* What waits.
 *
 * Work that the pool has accepted and that no worker has: it waits for a template to start, or to make the workers that
 * it was asked for, or its end has been decided and is told from the loop, so that done() never comes from inside
 * pool_start or pool_kill.
 *
 * Calls of leases: they are sent ahead and wait in their worker. What is sent in one turn of the loop leaves with one
 * write, at pool_flush or at the latest when the loop comes round. control.h says how calls are taken back and how
 * output is told to be a call's. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "worker/pool/pool_parts.h"

enum { RETRY_US = 100000 };

struct waiting { /* work that waits for a template, or until it has made the workers that it was asked for */
    TAILQ_ENTRY(waiting) next;
    LIST_ENTRY(waiting) same_place;
    struct template *template;
    uint64_t job;
    bool hold;   /* pool_hold was asked for */
    void *bytes; /* of work_encode */
    uint32_t size;
};

struct refusal { /* work that was accepted but cannot be given to anyone: its done() comes from the loop */
    struct refusal *next;
    uint64_t job;
    struct work_outcome outcome;
};

static void on_refuse(evutil_socket_t fd, short what, void *arg) {
    struct pool *p = arg;
    struct refusal *list = p->refusals;
    struct template *t;

    (void)fd;
    (void)what;
    p->refusals = NULL;
    p->refusals_end = &p->refusals;
    while (list) {
        struct refusal *r = list;
        list = r->next;
        p->ev.done(p->arg, r->job, &r->outcome);
        free(r);
    }
    TAILQ_FOREACH(t, &p->templates, next)
        wait_over(t);
}

void wait_soon(struct pool *p) {
    event_active(p->refuse, EV_TIMEOUT, 0);
}

int wait_refuse(struct pool *p, uint64_t job, const struct work_outcome *o) {
    struct refusal *r = calloc(1, sizeof(*r));

    if (!r)
        return -ENOMEM;
    r->job = job;
    r->outcome = *o;
    *p->refusals_end = r;
    p->refusals_end = &r->next;
    event_active(p->refuse, EV_TIMEOUT, 0);
    return 0;
}

int wait_refuse_start(struct pool *p, const struct work *w, int err) {
    struct work_outcome o = {.attempt = w->attempt, .end = WORK_REFUSED};

    snprintf(o.why, sizeof(o.why), "no worker could be made for the job: %s", strerror(-err));
    return wait_refuse(p, w->job, &o);
}

int wait_add(struct template *t, uint64_t job, void *bytes, uint32_t size) {
    struct waiting *w = malloc(sizeof(*w));

    if (!w)
        return -ENOMEM;
    *w = (struct waiting){.template = t, .job = job, .bytes = bytes, .size = size};
    TAILQ_INSERT_TAIL(&t->waiting, w, next);
    LIST_INSERT_HEAD(&t->pool->waits[job % JOB_PLACES], w, same_place);
    t->pool->waiting_count++;
    return 0;
}

static void wait_remove(struct waiting *w) {
    struct template *t = w->template;

    TAILQ_REMOVE(&t->waiting, w, next);
    LIST_REMOVE(w, same_place);
    t->pool->waiting_count--;
    free(w->bytes);
    free(w);
}

/* Which attempt it is that waits. */
static uint32_t attempt_of(const struct waiting *w) {
    struct work work;
    void *hold;

    if (work_decode(w->bytes, w->size, &work, &hold))
        return 0;
    free(hold);
    return work.attempt;
}

static struct waiting *wait_find(struct pool *p, uint64_t job) {
    struct waiting *w;

    LIST_FOREACH(w, &p->waits[job % JOB_PLACES], same_place)
        if (w->job == job)
            return w;
    return NULL;
}

void wait_hold(struct pool *p, uint64_t job, bool hold) {
    struct waiting *w = wait_find(p, job);

    if (w)
        w->hold = hold;
}

bool wait_end(struct pool *p, uint64_t job, struct work_outcome *o) {
    struct waiting *w = wait_find(p, job);

    if (!w)
        return false;
    o->attempt = attempt_of(w);
    if (wait_refuse(p, job, o) == 0) /* without memory it goes on waiting */
        wait_remove(w);
    return true;
}

void wait_over(struct template *t) {
    struct pool *p = t->pool;
    struct waiting *w;

    while ((w = TAILQ_FIRST(&t->waiting)) && template_usable(t)) {
        struct work work;
        void *hold;
        int err = work_decode(w->bytes, w->size, &work, &hold);
        if (!err) {
            err = pool_give(t, &work, w->bytes, w->size);
            if (err == -EAGAIN) /* whoever gave it may have another place for it, or take workers from others */
                err = wait_refuse(p, w->job,
                                  &(struct work_outcome){
                                      .attempt = work.attempt, .end = WORK_LOST, .unbegun = true, .no_room = true});
            else if (err && err != -EBUSY && err != -ENOMEM)
                err = wait_refuse_start(p, &work, err);
            free(hold);
        }
        if (err) {
            /* the next SPAWNED or the next end of a job brings it here again; without memory it looks for itself */
            if (err != -EBUSY)
                event_add(t->retry, &(struct timeval){.tv_usec = RETRY_US});
            return;
        }
        bool held = w->hold;
        uint64_t job = w->job;
        wait_remove(w);
        if (held)
            pool_hold(p, job, true);
    }
}

struct waiting *wait_take_all(struct template *t) {
    struct waiting *list = TAILQ_FIRST(&t->waiting), *w;

    TAILQ_FOREACH(w, &t->waiting, next) {
        LIST_REMOVE(w, same_place);
        t->pool->waiting_count--;
    }
    TAILQ_INIT(&t->waiting);
    return list;
}

void wait_drop(struct template *t) {
    while (!TAILQ_EMPTY(&t->waiting))
        wait_remove(TAILQ_FIRST(&t->waiting));
}

void wait_end_all(struct pool *p, struct waiting *list, const struct work_outcome *o) {
    for (struct waiting *w = list; (w = list);) {
        struct work_outcome mine = *o;
        mine.attempt = attempt_of(w);
        list = TAILQ_NEXT(w, next);
        p->ev.done(p->arg, w->job, &mine);
        free(w->bytes);
        free(w);
    }
}

/* --- leases ------------------------------------------------------------------------------------------------------ */
int ahead_open(struct slot *s, int *fd) {
    *fd = memfd_create("ppfs-lease", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    /* Sealed: a job that finds it must not make it shrink below us. */
    if (*fd < 0 || ftruncate(*fd, sizeof(*s->page)) ||
        fcntl(*fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL))
        return -errno;
    void *page = mmap(NULL, sizeof(*s->page), PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
    if (page == MAP_FAILED)
        return -errno;
    s->page = page;
    return 0;
}

void ahead_close(struct slot *s) {
    if (s->corked)
        for (struct slot **at = &s->pool->corked; *at; at = &(*at)->next_corked)
            if (*at == s) {
                *at = s->next_corked;
                break;
            }
    if (s->page)
        munmap(s->page, sizeof(*s->page));
}

void ahead_begin(struct slot *s) {
    s->sent = s->answered = 0;
    s->finished = false;
    atomic_store(&s->page->seen, 0); /* its worker is idle, or does not run yet */
}

void pool_flush(struct pool *p) {
    struct slot *s;

    event_del(p->flush);
    while ((s = p->corked)) {
        p->corked = s->next_corked;
        s->corked = false;
        link_uncork(s->link);
    }
}

static void on_flush(evutil_socket_t fd, short what, void *arg) {
    (void)fd;
    (void)what;
    pool_flush(arg);
}

/* Its frames gather from here to pool_flush. */
static void cork(struct slot *s) {
    struct pool *p = s->pool;

    if (s->corked)
        return;
    if (!p->corked)
        event_active(p->flush, EV_TIMEOUT, 0);
    link_cork(s->link);
    s->corked = true;
    s->next_corked = p->corked;
    p->corked = s;
}

/* The slot of a lease that still takes calls. */
static struct slot *lease_slot(struct pool *p, uint64_t lease) {
    struct slot *s = pool_slot(p, lease);
    return s && s->lease && !s->killed && !s->finished ? s : NULL;
}

/* Sends head and then bytes as the body of one frame, after PIECE frames if it does not fit. */
static int send_whole(struct slot *s, uint8_t kind, uint64_t id, const void *head, size_t head_size, const void *bytes,
                      size_t size, struct loan *loan) {
    const uint8_t *at = bytes;
    bool begun = head_size > 0;
    int err = 0;

    cork(s);
    if (head_size)
        err = link_send(s->link, WORKER_PIECE, id, head, (uint32_t)head_size);
    for (; !err && size > FRAME_BODY_MAX; at += FRAME_BODY_MAX, size -= FRAME_BODY_MAX) {
        err = link_send_loan(s->link, WORKER_PIECE, id, at, FRAME_BODY_MAX, loan);
        begun = true;
    }
    if (!err)
        err = link_send_loan(s->link, kind, id, at, (uint32_t)size, loan);
    if (err == -EPIPE)
        return -ENOENT; /* its worker has died: done() follows */
    if (err && begun)
        template_kill(s->template, s->serial); /* pieces without an end: that worker would take the next for it */
    return err;
}

int pool_call_loan(struct pool *p, uint64_t lease, uint32_t number, enum call_format format, const void *bytes,
                   size_t size, struct loan *loan) {
    struct slot *s = lease_slot(p, lease);

    if (!s)
        return -ENOENT;
    if (number <= s->sent || size > FRAME_WHOLE_MAX)
        return -EINVAL;
    if (number - atomic_load(&s->page->seen) >= LEASE_WINDOW)
        return -ENOMEM;
    atomic_store(&s->page->calls[number % LEASE_WINDOW], LEASE_CALL_SENT);
    int err = send_whole(s, WORKER_CALL, lease_id(number, format), NULL, 0, bytes, size, loan);
    if (!err)
        s->sent = number;
    return err;
}

int pool_call(struct pool *p, uint64_t lease, uint32_t number, enum call_format format, const void *bytes,
              size_t size) {
    return pool_call_loan(p, lease, number, format, bytes, size, NULL);
}

int pool_function_loan(struct pool *p, uint64_t lease, const uint8_t hash[FUNCTION_HASH], const void *bytes,
                       size_t size, struct loan *loan) {
    struct slot *s = pool_slot(p, lease);

    if (!s || !s->lease || s->killed)
        return -ENOENT;
    return send_whole(s, WORKER_FUNCTION, 0, hash, FUNCTION_HASH, bytes, size, loan);
}

int pool_function(struct pool *p, uint64_t lease, const uint8_t hash[FUNCTION_HASH], const void *bytes, size_t size) {
    return pool_function_loan(p, lease, hash, bytes, size, NULL);
}

int pool_finish(struct pool *p, uint64_t lease) {
    struct slot *s = lease_slot(p, lease);
    struct work_outcome o = {.end = WORK_DONE};

    if (!s)
        return wait_end(p, lease, &o) ? 0 : -ENOENT;
    cork(s);
    int err = link_send(s->link, WORKER_FINISH, 0, NULL, 0);
    s->finished = !err;
    return err == -EPIPE ? -ENOENT : err;
}

uint32_t pool_recall(struct pool *p, uint64_t lease, uint32_t number) {
    struct slot *s = pool_slot(p, lease);
    uint32_t first, seen;

    if (!s || !s->lease)
        return number;
    seen = atomic_load(&s->page->seen); /* at that and below, places may hold a later number's state */
    for (first = s->sent + 1; first > number && first - 1 > seen; first--) {
        uint8_t sent = LEASE_CALL_SENT;
        _Atomic uint8_t *call = &s->page->calls[(first - 1) % LEASE_WINDOW];
        if (!atomic_compare_exchange_strong(call, &sent, LEASE_CALL_TAKEN) && sent != LEASE_CALL_TAKEN)
            break; /* it has begun; TAKEN means that it was taken back before */
    }
    return first > number ? first : number;
}

void ahead_output(struct slot *s) {
    size_t size = s->fresh_size;

    s->fresh_size = 0;
    if (size)
        s->pool->ev.output(s->pool->arg, s->job, s->fresh, s->pool->buffer, size);
}

bool ahead_told(struct slot *s, const struct frame *f) {
    struct pool *p = s->pool;
    uint32_t number = (uint32_t)f->id, what = (uint32_t)(f->id >> 32);
    enum pool_answer answer = (enum pool_answer)(what & ~(uint32_t)ANSWER_PRINTED);

    if (number <= s->answered || number > s->sent || answer > ANSWER_NEED || !p->ev.answer ||
        (answer == ANSWER_NEED && f->size && f->size != FUNCTION_HASH))
        return false;
    if (what & ANSWER_PRINTED) {
        pool_drain(s);
        link_send(s->link, WORKER_ACK, number, NULL, 0);
    }
    if (answer == ANSWER_VALUE || answer == ANSWER_ERROR || (answer == ANSWER_NEED && !f->size))
        s->answered = number;
    p->ev.answer(p->arg, s->job, number, answer, f->body, f->size);
    return true;
}

int wait_open(struct pool *p) {
    p->refusals_end = &p->refusals;
    p->refuse = evtimer_new(p->base, on_refuse, p);
    p->flush = evtimer_new(p->base, on_flush, p);
    return p->refuse && p->flush ? 0 : -ENOMEM;
}

void wait_close(struct pool *p) {
    while (p->refusals) {
        struct refusal *r = p->refusals;
        p->refusals = r->next;
        free(r);
    }
    if (p->refuse)
        event_free(p->refuse);
    if (p->flush)
        event_free(p->flush);
}
