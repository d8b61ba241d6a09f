/* The fork servers of the pool: one of our own user, and one of each other user who has work, because a worker keeps
 * traces of its user's work (memory, addresses, pipes). Idle ones of other users end after a while, or when there are
 * more than a few, the least recently used first. So there are at most as many as workers, and those few.
 *
 * Orphans of a dead fork server come to us, their subreaper: all children of this process but fork servers and those
 * that it had before pool_create. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "net/clock.h"
#include "net/event.h"
#include "worker/runner/cgroup.h"
#include "worker/pool/pool_parts.h"
#include "worker/runner/reap.h"

enum {
    IDLE_MAX = 8,           /* idle fork servers of other users */
    LOOK_MAX_US = 10000000, /* between two looks at them */
    CLOSE_MS = 3000,
    SWEEP_MS = 5000,
    SWEEP_EVERY_US = 2000,
    SWEEP_QUIET = 3, /* rounds without a stranger after which there are none */
    GENERATIONS = 256,
};

/* --- strangers --------------------------------------------------------------------------------------------------- */
static bool is_ours(void *arg, pid_t pid) {
    const struct pool *p = arg;
    const struct forkserver *t;

    TAILQ_FOREACH(t, &p->forkservers, next)
        if (pid == t->pid)
            return true;
    for (size_t i = 0; i < p->other_count; i++)
        if (p->others[i] == pid)
            return true;
    return false;
}

static bool note_other(void *arg, pid_t pid) {
    struct pool *p = arg;
    pid_t *bigger = realloc(p->others, (p->other_count + 1) * sizeof(*bigger));

    if (bigger) {
        p->others = bigger;
        p->others[p->other_count++] = pid;
    }
    return true;
}

/* Waits for a stranger killed in the last round; other children are left alone. */
static bool bury_or_know(void *arg, pid_t pid) {
    return is_ours(arg, pid) || waitpid(pid, NULL, WNOHANG) == pid;
}

/* One round; more follow until a few in a row found none, as orphans of dying processes come later. */
static void on_sweep(evutil_socket_t fd, short what, void *arg) {
    struct pool *p = arg;
    struct timeval soon = {.tv_usec = SWEEP_EVERY_US};

    p->sweep_quiet = reap_round(bury_or_know, p) ? 0 : p->sweep_quiet + 1;
    if (p->sweep_quiet < SWEEP_QUIET && clock_us() < p->sweep_until_us)
        event_add(p->sweep, &soon);
}

void users_sweep(struct pool *p) {
    p->sweep_until_us = clock_us() + SWEEP_MS * INT64_C(1000);
    p->sweep_quiet = 0;
    on_sweep(-1, 0, p);
}

uint64_t pool_job_of(struct pool *p, pid_t pid) {
    for (int generation = 0; pid > 1 && generation < GENERATIONS; generation++) {
        for (size_t i = 0; i < p->slot_count; i++)
            if (p->slots[i]->state == SLOT_BUSY && p->slots[i]->guard == pid)
                return p->slots[i]->job;
        pid = reap_parent(pid);
    }
    return 0;
}

/* --- those of other users ----------------------------------------------------------------------------------------- */
bool users_busy(const struct forkserver *t) {
    const struct pool *p = t->pool;

    for (size_t i = 0; i < p->slot_count; i++)
        if (p->slots[i]->state == SLOT_BUSY && p->slots[i]->forkserver == t)
            return true;
    return !TAILQ_EMPTY(&t->waiting);
}

static bool is_idle(const struct forkserver *t) {
    return t != t->pool->own && !t->ending_us && !users_busy(t);
}

/* Ends its idle workers, and then it. */
static void end(struct forkserver *t) {
    struct pool *p = t->pool;

    for (size_t i = 0; i < p->slot_count; i++)
        if (p->slots[i]->state == SLOT_IDLE && p->slots[i]->forkserver == t)
            slot_close(p->slots[i]);
    forkserver_end(t);
}

static void keep_few(struct pool *p, unsigned most) {
    for (;;) {
        struct forkserver *t, *oldest = NULL;
        unsigned count = 0;
        TAILQ_FOREACH(t, &p->forkservers, next)
            if (t->pid && is_idle(t)) {
                count++;
                if (!oldest || t->used_us < oldest->used_us)
                    oldest = t;
            }
        if (count <= most)
            return;
        end(oldest);
    }
}

/* Looks now and then while there are any. One without a process stays for the pause after a failed start. */
static void watch_idle(struct pool *p) {
    int64_t us = p->keep_us / 4 < LOOK_MAX_US ? p->keep_us / 4 : LOOK_MAX_US;
    struct timeval then = {.tv_sec = us / 1000000, .tv_usec = us % 1000000};

    if (TAILQ_NEXT(p->own, next) && !event_pending(p->idle, EV_TIMEOUT, NULL))
        event_add(p->idle, &then);
}

static void on_idle(evutil_socket_t fd, short what, void *arg) {
    struct pool *p = arg;
    struct forkserver *t, *next;

    for (t = TAILQ_FIRST(&p->forkservers); t; t = next) {
        next = TAILQ_NEXT(t, next);
        if (!is_idle(t) || (t->pid ? clock_us() - t->used_us < p->keep_us : event_pending(t->retry, EV_TIMEOUT, NULL)))
            continue;
        if (t->pid)
            end(t);
        else
            forkserver_free(t);
    }
    keep_few(p, IDLE_MAX);
    watch_idle(p);
}

struct forkserver *users_forkserver(struct pool *p, uid_t uid) {
    struct forkserver *t;

    if (uid == p->own->uid)
        return p->own;
    TAILQ_FOREACH(t, &p->forkservers, next)
        if (t->uid == uid && !t->ending_us)
            return t;
    keep_few(p, IDLE_MAX - 1);
    t = forkserver_new(p, uid);
    if (t)
        watch_idle(p);
    return t;
}

bool users_make_room(struct pool *p) {
    struct slot *idle;
    bool any = false;

    for (; (idle = slot_oldest_idle(p)); any = true)
        slot_close(idle);
    keep_few(p, 0);
    return any;
}

/* --- the pool's beginning and end --------------------------------------------------------------------------------- */
int users_open(struct pool *p) {
    p->sweep = evtimer_new(p->base, on_sweep, p);
    p->idle = evtimer_new(p->base, on_idle, p);
    if (!p->sweep || !p->idle)
        return -ENOMEM;
    p->own = forkserver_new(p, geteuid());
    if (!p->own)
        return -errno;
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    reap_round(note_other, p);
    return forkserver_start(p->own);
}

void users_close(struct pool *p) {
    struct timespec pause = {.tv_nsec = 1000000};
    int64_t until = clock_us() + CLOSE_MS * INT64_C(1000);
    struct forkserver *t;

    TAILQ_FOREACH(t, &p->forkservers, next)
        forkserver_close(t);
    TAILQ_FOREACH(t, &p->forkservers, next)
        while (t->pid && clock_us() < until) {
            if (waitpid(t->pid, NULL, WNOHANG) == t->pid)
                t->pid = 0;
            else
                nanosleep(&pause, NULL);
        }
    TAILQ_FOREACH(t, &p->forkservers, next)
        forkserver_bury(t);
    while (p->own && clock_us() < until && reap_round(bury_or_know, p))
        nanosleep(&pause, NULL);
    TAILQ_FOREACH(t, &p->forkservers, next)
        if (t->last)
            cgroup_bury(t->last);
    while ((t = TAILQ_FIRST(&p->forkservers)))
        forkserver_free(t);
    event_drop(p->sweep);
    event_drop(p->idle);
    free(p->others);
}
