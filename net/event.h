/* Beside libevent: events that were perhaps not made, and times in milliseconds. */
#ifndef PPFS_EVENT_H
#define PPFS_EVENT_H
#include <event2/event.h>
#include <stdint.h>

/* event_free that accepts NULL. */
static inline void event_drop(struct event *e) {
    if (e)
        event_free(e);
}

/* Adds a timer, or another event with that limit. 0 or -1, as event_add. */
static inline int event_add_ms(struct event *e, int64_t ms) {
    struct timeval t = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
    return event_add(e, &t);
}

/* A pause that doubles with each failure, from min to max. */
static inline int64_t event_pause_ms(unsigned failures, int64_t min, int64_t max) {
    int64_t ms = min;
    while (failures-- && ms < max)
        ms *= 2;
    return ms < max ? ms : max;
}
#endif
