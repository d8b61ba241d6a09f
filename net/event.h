/* libevent, where something was perhaps not made. */
#ifndef PPFS_EVENT_H
#define PPFS_EVENT_H
#include <event2/event.h>

/* event_free that accepts NULL. */
static inline void event_drop(struct event *e) {
    if (e)
        event_free(e);
}
#endif
