/* Work that the pool has accepted and that no worker has: it waits for a template to start, or its end has been decided
 * and is told from the loop, so that done() never comes from inside pool_start or pool_kill. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>

#include "worker/pool_internal.h"

static void on_refuse(evutil_socket_t fd, short what, void *arg) {
    struct pool *p = arg;
    struct refusal *list = p->refusals;

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

int wait_add(struct pool *p, uint64_t job, void *bytes, uint32_t size) {
    struct waiting *w = malloc(sizeof(*w));

    if (!w)
        return -ENOMEM;
    *w = (struct waiting){.next = p->waiting, .job = job, .bytes = bytes, .size = size};
    p->waiting = w;
    return 0;
}

unsigned wait_count(const struct pool *p) {
    unsigned count = 0;

    for (const struct waiting *w = p->waiting; w; w = w->next)
        count++;
    return count;
}

bool wait_kill(struct pool *p, uint64_t job) {
    struct work_outcome o = {.end = WORK_SIGNALED, .status = SIGKILL, .why = "killed"};
    struct work work;
    void *hold;

    for (struct waiting **at = &p->waiting, *w; (w = *at); at = &w->next) {
        if (w->job != job)
            continue;
        if (work_decode(w->bytes, w->size, &work, &hold) == 0) {
            o.attempt = work.attempt;
            free(hold);
        }
        if (wait_refuse(p, job, &o) == 0) { /* without memory it goes on waiting */
            *at = w->next;
            free(w->bytes);
            free(w);
        }
        return true;
    }
    return false;
}

/* A template runs: what waited for one is started. */
void wait_over(struct pool *p) {
    struct waiting *list = p->waiting;

    p->waiting = NULL;
    while (list) {
        struct waiting *w = list;
        struct work work;
        void *hold;
        list = w->next;
        int err = work_decode(w->bytes, w->size, &work, &hold);
        if (!err) {
            err = pool_start(p, &work);
            free(hold);
        }
        if (err) { /* the pool shrank, or there is no memory: it waits for another day */
            w->next = p->waiting;
            p->waiting = w;
            event_add(p->retry, &(struct timeval){.tv_sec = 1});
            continue;
        }
        free(w->bytes);
        free(w);
    }
}

int wait_open(struct pool *p) {
    p->refusals_end = &p->refusals;
    p->refuse = evtimer_new(p->base, on_refuse, p);
    return p->refuse ? 0 : -ENOMEM;
}

void wait_close(struct pool *p) {
    while (p->refusals) {
        struct refusal *r = p->refusals;
        p->refusals = r->next;
        free(r);
    }
    if (p->refuse)
        event_free(p->refuse);
    while (p->waiting) {
        struct waiting *w = p->waiting;
        p->waiting = w->next;
        free(w->bytes);
        free(w);
    }
}
