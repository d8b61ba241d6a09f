/* The choice among hosts in one dispatch. See host_pick.c. Only sched/ includes this. */
#ifndef PPFS_HOST_PICK_H
#define PPFS_HOST_PICK_H
#include "sched/hosts/host.h"

/* host_pick.c: the same as host_choose, in a dispatch, where it is asked many times. */
struct host *host_pick(struct sched *s, const struct demand *d);
void host_picks_free(struct sched *s);
#define PICKS 4u /* places, users and functions for which a dispatch keeps the hosts in order */
struct picks {
    uint64_t dispatch; /* in which they are in order; 0: they are not */
    char place[PLACE_MAX];
    uid_t uid;
    unsigned function, count, cap;
    struct candidate {
        double cost;
        unsigned at; /* in the list */
        struct host *host;
    } * items;
};
#endif
