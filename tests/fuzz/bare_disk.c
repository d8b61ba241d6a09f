/* In place of worker/runner/disk.c: a disk without a thread. What it is given is done at once, and told from the loop,
 * in order: so every run of a fuzzer's input is like the other. */
#include "worker/runner/disk.h"

#include <stdlib.h>

struct disk {
    struct event *event;
    TAILQ_HEAD(, disk_task) tasks;
};

static void on_event(evutil_socket_t fd, short what, void *arg) {
    struct disk *d = arg;

    for (struct disk_task *t; (t = TAILQ_FIRST(&d->tasks));) {
        TAILQ_REMOVE(&d->tasks, t, next);
        t->done(t);
    }
}

int disk_create(struct disk **out, struct event_base *base) {
    struct disk *d = calloc(1, sizeof(*d));

    if (!d || !(d->event = evtimer_new(base, on_event, d)))
        abort();
    TAILQ_INIT(&d->tasks);
    *out = d;
    return 0;
}

void disk_submit(struct disk *d, struct disk_task *t) {
    t->work(t);
    TAILQ_INSERT_TAIL(&d->tasks, t, next);
    event_active(d->event, EV_TIMEOUT, 0);
}

void disk_submit_long(struct disk *d, struct disk_task *t, uint32_t owner) {
    disk_submit(d, t);
}

void disk_destroy(struct disk *d) {
    if (!d)
        return;
    on_event(-1, 0, d);
    event_free(d->event);
    free(d);
}
