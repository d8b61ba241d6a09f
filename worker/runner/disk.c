/* One thread, a list each way, one more for what takes long, one eventfd back. */
#include "worker/runner/disk.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "net/event.h"

enum { OWNERS = 64 }; /* those of one remainder share a turn */

TAILQ_HEAD(disk_list, disk_task);

struct disk {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t work;
    struct disk_list todo, longer, finished;
    uint64_t turn, served[OWNERS]; /* the last turn of each */
    bool stop;
    int wake;
    struct event *event;
};

/* The next task; of those that take long the first one of the owner whose turn is longest ago; NULL: there is none. */
static struct disk_task *take(struct disk *d) {
    struct disk_task *t, *best = TAILQ_FIRST(&d->todo);
    if (best) {
        TAILQ_REMOVE(&d->todo, best, next);
        return best;
    }
    TAILQ_FOREACH(t, &d->longer, next)
        if (!best || d->served[t->owner % OWNERS] < d->served[best->owner % OWNERS])
            best = t;
    if (best) {
        TAILQ_REMOVE(&d->longer, best, next);
        d->served[best->owner % OWNERS] = ++d->turn;
    }
    return best;
}

static void *run(void *arg) {
    struct disk *d = arg;
    pthread_mutex_lock(&d->lock);
    for (;;) {
        while (TAILQ_EMPTY(&d->todo) && TAILQ_EMPTY(&d->longer) && !d->stop)
            pthread_cond_wait(&d->work, &d->lock);
        struct disk_task *t = take(d);
        if (!t)
            break;
        pthread_mutex_unlock(&d->lock);
        t->work(t);
        pthread_mutex_lock(&d->lock);
        bool first = TAILQ_EMPTY(&d->finished);
        TAILQ_INSERT_TAIL(&d->finished, t, next);
        if (first)
            eventfd_write(d->wake, 1);
    }
    pthread_mutex_unlock(&d->lock);
    return NULL;
}

static void collect(struct disk *d) {
    struct disk_list all = TAILQ_HEAD_INITIALIZER(all);
    pthread_mutex_lock(&d->lock);
    TAILQ_CONCAT(&all, &d->finished, next);
    pthread_mutex_unlock(&d->lock);
    for (struct disk_task *t; (t = TAILQ_FIRST(&all));) {
        TAILQ_REMOVE(&all, t, next);
        t->done(t);
    }
}

static void on_wake(evutil_socket_t fd, short what, void *arg) {
    eventfd_t n;
    eventfd_read(fd, &n);
    collect(arg);
}

int disk_create(struct disk **out, struct event_base *base) {
    struct disk *d = calloc(1, sizeof *d);
    sigset_t all, old;
    if (!d)
        return -ENOMEM;
    TAILQ_INIT(&d->todo);
    TAILQ_INIT(&d->longer);
    TAILQ_INIT(&d->finished);
    pthread_mutex_init(&d->lock, NULL);
    pthread_cond_init(&d->work, NULL);
    d->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    d->event = d->wake < 0 ? NULL : event_new(base, d->wake, EV_READ | EV_PERSIST, on_wake, d);
    sigfillset(&all); /* signals are the loop's */
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int rc = d->event && event_add(d->event, NULL) == 0 ? pthread_create(&d->thread, NULL, run, d) : ENOMEM;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc) {
        event_drop(d->event);
        if (d->wake >= 0)
            close(d->wake);
        free(d);
        return -rc;
    }
    *out = d;
    return 0;
}

static void submit(struct disk *d, struct disk_list *l, struct disk_task *t) {
    pthread_mutex_lock(&d->lock);
    TAILQ_INSERT_TAIL(l, t, next);
    pthread_cond_signal(&d->work);
    pthread_mutex_unlock(&d->lock);
}

void disk_submit(struct disk *d, struct disk_task *t) {
    submit(d, &d->todo, t);
}

void disk_submit_long(struct disk *d, struct disk_task *t, uint32_t owner) {
    t->owner = owner;
    submit(d, &d->longer, t);
}

void disk_destroy(struct disk *d) {
    if (!d)
        return;
    pthread_mutex_lock(&d->lock);
    d->stop = true;
    pthread_cond_signal(&d->work);
    pthread_mutex_unlock(&d->lock);
    pthread_join(d->thread, NULL);
    collect(d);
    for (struct disk_task *t; (t = take(d));) { /* submitted by those */
        t->work(t);
        t->done(t);
    }
    event_free(d->event);
    close(d->wake);
    pthread_cond_destroy(&d->work);
    pthread_mutex_destroy(&d->lock);
    free(d);
}
