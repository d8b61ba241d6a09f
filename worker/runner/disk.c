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

struct list {
    struct disk_task *first, **last;
};

struct disk {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t work;
    struct list todo, longer, finished;
    uint64_t turn, served[OWNERS]; /* the last turn of each */
    bool stop;
    int wake;
    struct event *event;
};

static void append(struct list *l, struct disk_task *t) {
    t->next = NULL;
    *l->last = t;
    l->last = &t->next;
}

static struct disk_task *take_all(struct list *l) {
    struct disk_task *t = l->first;
    l->first = NULL;
    l->last = &l->first;
    return t;
}

static struct disk_task *take(struct list *l, struct disk_task **at) {
    struct disk_task *t = *at;
    *at = t->next;
    if (!*at)
        l->last = at;
    return t;
}

/* The first one of whoever had his turn longest ago; NULL: there is none. */
static struct disk_task *take_longer(struct disk *d) {
    struct disk_task **best = &d->longer.first;
    for (struct disk_task **at = best; *at; at = &(*at)->next)
        if (d->served[(*at)->owner % OWNERS] < d->served[(*best)->owner % OWNERS])
            best = at;
    if (!*best)
        return NULL;
    d->served[(*best)->owner % OWNERS] = ++d->turn;
    return take(&d->longer, best);
}

static void *run(void *arg) {
    struct disk *d = arg;
    pthread_mutex_lock(&d->lock);
    for (;;) {
        while (!d->todo.first && !d->longer.first && !d->stop)
            pthread_cond_wait(&d->work, &d->lock);
        struct disk_task *t = d->todo.first ? take(&d->todo, &d->todo.first) : take_longer(d);
        if (!t)
            break;
        pthread_mutex_unlock(&d->lock);
        t->work(t);
        pthread_mutex_lock(&d->lock);
        bool first = !d->finished.first;
        append(&d->finished, t);
        if (first)
            eventfd_write(d->wake, 1);
    }
    pthread_mutex_unlock(&d->lock);
    return NULL;
}

static void collect(struct disk *d) {
    pthread_mutex_lock(&d->lock);
    struct disk_task *t = take_all(&d->finished);
    pthread_mutex_unlock(&d->lock);
    while (t) {
        struct disk_task *next = t->next;
        t->done(t);
        t = next;
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
    take_all(&d->todo);
    take_all(&d->longer);
    take_all(&d->finished);
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

static void submit(struct disk *d, struct list *l, struct disk_task *t) {
    pthread_mutex_lock(&d->lock);
    append(l, t);
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
    for (struct disk_task *t, *next;
         (t = take_all(d->todo.first ? &d->todo : &d->longer));) /* what those have asked for */
        for (; t; t = next) {
            next = t->next;
            t->work(t);
            t->done(t);
        }
    event_free(d->event);
    close(d->wake);
    pthread_cond_destroy(&d->work);
    pthread_mutex_destroy(&d->lock);
    free(d);
}
