/* While nothing changes, the database file is made smaller, a little at a time. */
#include "net/clock.h"
#include "sched/turn/turn.h"

#define QUIET_US 1000000 /* time without a change */
#define SLICE_US 2000
#define PAUSE_US 10000 /* between two slices */

static void in(struct sched *s, int64_t us) {
    struct timeval t = {us / 1000000, us % 1000000};
    evtimer_add(s->tidy, &t);
}

void tidy_later(struct sched *s) {
    s->changed_at = clock_us();
    if (!evtimer_pending(s->tidy, NULL))
        in(s, QUIET_US);
}

void tidy_timer(evutil_socket_t fd, short what, void *arg) {
    struct sched *s = arg;
    int64_t now = clock_us(), quiet = now - s->changed_at;
    if (store_changed(s->store) || s->trash || quiet < QUIET_US)
        in(s, quiet < QUIET_US ? QUIET_US - quiet : QUIET_US);
    else if (!s->damaged && !s->stopping && store_shrink(s->store, now + SLICE_US))
        in(s, PAUSE_US);
}
