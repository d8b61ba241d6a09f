/* In place of worker/runner/disk.c: a disk without a thread. What it is given is done at once, and told from the loop,
 * in order: so every run of a fuzzer's input is like the other. */
#include "worker/runner/disk.h"

#include <stdlib.h>

struct disk {
    struct event *event;
    struct disk_task *first, **last;
};

static void on_event(evutil_socket_t fd, short what, void *arg) {
    struct disk *d = arg;

    while (d->first) {
        struct disk_task *t = d->first;
        d->first = t->next;
        if (!d->first)
            d->last = &d->first;
        t->done(t);
    }
}

int disk_create(struct disk **out, struct event_base *base) {
    struct disk *d = calloc(1, sizeof(*d));

    if (!d || !(d->event = evtimer_new(base, on_event, d)))
        abort();
    d->last = &d->first;
    *out = d;
    return 0;
}

void disk_submit(struct disk *d, struct disk_task *t) {
    t->next = NULL;
    t->work(t);
    *d->last = t;
    d->last = &t->next;
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
